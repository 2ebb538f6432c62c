/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/httpc.h"

#include <curl/curl.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "vmm/rundir.h"

#define CURL_SONAME "libcurl.so.4"
#define ANSWER_BYTES_MAX (4u << 20)
/* a path, every byte of which is escaped, and some numbers */
#define LINE_BYTES_MAX (32u << 10)

struct curl_table {
        __typeof__(curl_easy_init) *init;
        __typeof__(curl_easy_setopt) *setopt;
        __typeof__(curl_easy_perform) *perform;
        __typeof__(curl_easy_getinfo) *getinfo;
        __typeof__(curl_easy_cleanup) *cleanup;
        __typeof__(curl_easy_strerror) *strerror;
        __typeof__(curl_slist_append) *slist_append;
        __typeof__(curl_slist_free_all) *slist_free_all;
};

/* What has come: all of it or, with on_line, what is not a line yet. */
struct answer {
        char *data;
        size_t bytes;
        size_t bytes_max;
        httpc_line_fn *on_line;
        void *ctx;
        struct json_object *last;       /* line */
        struct err err;                 /* of a line */
};

static int load_curl(struct curl_table *t, struct err *e)
{
        void *lib = dlopen(CURL_SONAME, RTLD_NOW);

        if (!lib)
                return err_msg(e, ENOENT, "cannot load %s (%s): install libcurl4", CURL_SONAME,
                               dlerror());

        const struct {
                const char *name;
                void **slot;
        } symbols[] = {
                { "curl_easy_init", (void **)&t->init },
                { "curl_easy_setopt", (void **)&t->setopt },
                { "curl_easy_perform", (void **)&t->perform },
                { "curl_easy_getinfo", (void **)&t->getinfo },
                { "curl_easy_cleanup", (void **)&t->cleanup },
                { "curl_easy_strerror", (void **)&t->strerror },
                { "curl_slist_append", (void **)&t->slist_append },
                { "curl_slist_free_all", (void **)&t->slist_free_all },
        };

        for (size_t i = 0; i < ARRAY_SIZE(symbols); i++) {
                *symbols[i].slot = dlsym(lib, symbols[i].name);
                if (!*symbols[i].slot)
                        return err_msg(e, ENOENT, "%s lacks %s: install a newer libcurl4",
                                       CURL_SONAME, symbols[i].name);
        }
        return 0;
}

static bool append(struct answer *a, const char *data, size_t bytes)
{
        if (bytes > a->bytes_max - a->bytes) {
                err_msg(&a->err, EMSGSIZE, "it is too long");
                return false;
        }

        char *more = realloc(a->data, a->bytes + bytes + 1);

        if (!more) {
                err_msg(&a->err, ENOMEM, "no memory for it");
                return false;
        }
        a->data = more;
        memcpy(a->data + a->bytes, data, bytes);
        a->bytes += bytes;
        a->data[a->bytes] = '\0';
        return true;
}

/* What was collected is a line, or the whole answer. */
static bool take(struct answer *a)
{
        struct json_object *line;

        if (json_parse(a->data, a->bytes, &line, &a->err) < 0)
                return false;
        json_object_put(a->last);
        a->last = line;
        a->bytes = 0;
        if (a->on_line)
                a->on_line(a->ctx, line);
        return true;
}

/* libcurl's write callback: less than it gave ends the transfer. */
static size_t collect(char *data, size_t one, size_t n, void *ctx)
{
        struct answer *a = ctx;
        size_t bytes = one * n;
        size_t at = 0;

        while (a->on_line && at < bytes) {
                const char *end = memchr(data + at, '\n', bytes - at);

                if (!end)
                        break;
                if (!append(a, data + at, (size_t)(end - (data + at))) || !take(a))
                        return 0;
                at = (size_t)(end - data) + 1;
        }
        return append(a, data + at, bytes - at) ? bytes : 0;
}

/* The VM's own sentence, when its answer holds one. */
static int refused(long status, struct json_object *answer, const char *vm_name, struct err *e)
{
        const char *why;

        if (answer && json_take_str(answer, "error", &why, NULL) == 0)
                return err_msg(e, status == 409 ? EBUSY : EIO, "%s", why);
        return err_msg(e, EIO, "VM '%s' answered with HTTP status %ld", vm_name, status);
}

/* Moves what the answer holds to *ret, or says what is wrong with it. */
static int finish(struct answer *a, CURLcode code, long status, const char *why,
                  const char *vm_name, struct json_object **ret, struct err *e)
{
        if (code == CURLE_OK && a->bytes > 0)
                (void)take(a);
        if (a->err.code)
                return err_msg(e, EBADMSG, "what VM '%s' answers cannot be used: %s", vm_name,
                               a->err.text);
        if (code != CURLE_OK)
                return err_msg(e, EIO, "VM '%s' does not answer (%s): it may have ended meanwhile",
                               vm_name, why);
        if (status < 200 || status > 299 ||
            (a->on_line && a->last && json_object_object_get_ex(a->last, "error", NULL)))
                return refused(status, a->last, vm_name, e);
        if (ret)
                *ret = ptr_take(&a->last);
        return 0;
}

static int perform(const struct curl_table *t, CURL *curl, const char *vm_name,
                   struct answer *a, struct json_object **ret, struct err *e)
{
        t->setopt(curl, CURLOPT_WRITEFUNCTION, collect);
        t->setopt(curl, CURLOPT_WRITEDATA, a);

        CURLcode code = t->perform(curl);
        long status = 0;

        t->getinfo(curl, CURLINFO_RESPONSE_CODE, &status);

        int rc = finish(a, code, status, t->strerror(code), vm_name, ret, e);

        json_object_put(a->last);
        free(a->data);
        return rc;
}

static int request(const char *vm_name, const char *method, const char *path,
                   struct json_object *body, struct answer *answer, struct json_object **ret,
                   struct err *e)
{
        struct curl_table t;
        struct rundir_path sock;
        char url[256];
        int rc = rundir_find(vm_name, e);

        if (rc == 0)
                rc = rundir_path(&sock, vm_name, "sock", e);
        if (rc == 0)
                rc = load_curl(&t, e);
        if (rc < 0)
                return rc;

        CURL *curl = t.init();

        if (!curl)
                return err_msg(e, ENOMEM, "libcurl could not be initialised");

        struct curl_slist *headers = t.slist_append(NULL, "Content-Type: application/json");

        headers = t.slist_append(headers, "Expect:");
        snprintf(url, sizeof(url), "http://localhost%s", path);
        t.setopt(curl, CURLOPT_UNIX_SOCKET_PATH, sock.text);
        t.setopt(curl, CURLOPT_URL, url);
        t.setopt(curl, CURLOPT_CUSTOMREQUEST, method);
        t.setopt(curl, CURLOPT_HTTPHEADER, headers);
        t.setopt(curl, CURLOPT_NOSIGNAL, 1L);
        t.setopt(curl, CURLOPT_PROXY, "");
        if (body)
                t.setopt(curl, CURLOPT_COPYPOSTFIELDS, json_object_to_json_string(body));
        rc = perform(&t, curl, vm_name, answer, ret, e);
        t.slist_free_all(headers);
        t.cleanup(curl);
        return rc;
}

int httpc_request(const char *vm_name, const char *method, const char *path,
                  struct json_object *body, struct json_object **ret, struct err *e)
{
        struct answer answer = { .bytes_max = ANSWER_BYTES_MAX };

        return request(vm_name, method, path, body, &answer, ret, e);
}

int httpc_stream(const char *vm_name, const char *method, const char *path,
                 struct json_object *body, httpc_line_fn *on_line, void *ctx,
                 struct json_object **ret, struct err *e)
{
        struct answer answer = { .bytes_max = LINE_BYTES_MAX, .on_line = on_line, .ctx = ctx };

        return request(vm_name, method, path, body, &answer, ret, e);
}
