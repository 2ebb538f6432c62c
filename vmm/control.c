/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "common/rate.h"
#include "vmm/recorder.h"
#include "vmm/unixsock.h"
#include "vmm/vm.h"

/* Theory of operation
 *
 * One handler for every request: the route table gives the action or the
 * status. An action answers at once, but for those that have a thread of their own,
 * whose request is kept until that is done. Should the client hang up meanwhile, the
 * work goes on and its answer is dropped (on_client_gone).
 */
struct pending {
        struct control *control;
        struct evhttp_request *http;    /* without an answer yet; NULL = nobody waits */
};

struct control {
        struct vm *vm;
        struct evhttp *http;
        struct pending save;
        struct pending record;
};

struct request {
        struct control *control;
        struct evhttp_request *http;
        const char *body;
        size_t body_bytes;
};

static void on_answered(struct evhttp_request *http, void *ctx)
{
        (void)http;
        vm_stop(ctx);
}

static void reply(struct control *c, struct evhttp_request *http, int status,
                  struct json_object *o)
{
        struct evbuffer *buf = evbuffer_new();
        const char *text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);

        evhttp_add_header(evhttp_request_get_output_headers(http), "Content-Type",
                          "application/json");
        if (buf)
                evbuffer_add_printf(buf, "%s\n", text);
        if (c->vm->stopping)
                evhttp_request_set_on_complete_cb(http, on_answered, c->vm);
        evhttp_send_reply(http, status, NULL, buf);
        if (buf)
                evbuffer_free(buf);
}

static int status_of(int rc)
{
        switch (rc) {
        case -EINVAL: case -EBADMSG: case -EEXIST: case -ENAMETOOLONG: case -EXDEV:
        case -EMLINK: case -ENOTSUP:
                return 400;
        case -EBUSY: case -ETIMEDOUT: case -ESTALE: case -ENODATA:
                return 409;
        default:
                return 500;
        }
}

static void reply_error(struct control *c, struct evhttp_request *http, int status,
                        const char *text)
{
        AUTO_JSON *o = json_object_new_object();

        json_put_str(o, "error", text);
        reply(c, http, status, o);
}

/* {} on success */
static void reply_result(struct control *c, struct evhttp_request *http, int rc,
                         const struct err *e)
{
        if (rc < 0) {
                reply_error(c, http, status_of(rc), e->text);
        } else {
                AUTO_JSON *o = json_object_new_object();

                reply(c, http, 200, o);
        }
}

static void get_vm(struct request *r)
{
        AUTO_JSON *o = vm_describe(r->control->vm);

        reply(r->control, r->http, 200, o);
}

static void patch_vm(struct request *r)
{
        AUTO_JSON *o = NULL;
        const char *state;
        struct err e;
        int rc = json_parse(r->body, r->body_bytes, &o, &e);

        if (rc == 0)
                rc = json_take_str(o, "state", &state, &e);
        if (rc == 0 && !strcmp(state, "Paused"))
                rc = vm_pause(r->control->vm, &e);
        else if (rc == 0 && !strcmp(state, "Resumed"))
                rc = vm_resume(r->control->vm, &e);
        else if (rc == 0)
                rc = err_msg(&e, EINVAL, "state '%s' is neither 'Paused' nor 'Resumed'", state);
        reply_result(r->control, r->http, rc, &e);
}

static void put_actions(struct request *r)
{
        struct vm *vm = r->control->vm;
        AUTO_JSON *o = NULL;
        const char *type;
        struct err e;
        int rc = json_parse(r->body, r->body_bytes, &o, &e);

        if (rc == 0)
                rc = json_take_str(o, "action_type", &type, &e);
        if (rc == 0 && !strcmp(type, "Stop"))
                vm_stop_soon(vm);
        else if (rc == 0 && !strcmp(type, "PowerButton"))
                platform_power_button(vm->platform);
        else if (rc == 0)
                rc = err_msg(&e, EINVAL, "action '%s' is neither 'Stop' nor 'PowerButton'", type);
        reply_result(r->control, r->http, rc, &e);
}

static void put_prefetch(struct request *r)
{
        struct rate_order order;
        struct err e;
        int rc = rate_order_parse_json(r->body, r->body_bytes, &order, &e);

        if (rc == 0)
                rc = vm_prefetch(r->control->vm, &order, &e);
        reply_result(r->control, r->http, rc, &e);
}

static void on_client_gone(struct evhttp_connection *connection, void *ctx)
{
        struct pending *p = ctx;

        (void)connection;
        p->http = NULL;
}

static void await(struct pending *p, struct evhttp_request *http)
{
        p->http = http;
        evhttp_connection_set_closecb(evhttp_request_get_connection(http), on_client_gone, p);
}

/* A save or a record is done. */
static void on_done(void *ctx, struct json_object *result, const struct err *e)
{
        struct pending *p = ctx;
        struct evhttp_request *http = p->http;

        if (!http)
                return;
        p->http = NULL;
        evhttp_connection_set_closecb(evhttp_request_get_connection(http), NULL, NULL);
        if (result)
                reply(p->control, http, 200, result);
        else
                reply_error(p->control, http, status_of(e->code), e->text);
}

static void put_snapshot(struct request *r)
{
        struct control *c = r->control;
        struct save_request save;
        struct err e;
        int rc = control_parse_save(r->body, r->body_bytes, &save, &e);

        if (rc == 0)
                rc = save_start(c->vm, &save, on_done, &c->save, &e);
        if (rc < 0)
                reply_result(c, r->http, rc, &e);
        else
                await(&c->save, r->http);
}

static void put_working_set(struct request *r)
{
        struct control *c = r->control;
        struct err e;
        int rc = c->vm->recorder
                 ? recorder_store(c->vm->recorder, on_done, &c->record, &e)
                 : err_msg(&e, EINVAL, "VM '%s' is not recorded: revert with --record",
                           c->vm->name);

        if (rc < 0)
                reply_result(c, r->http, rc, &e);
        else
                await(&c->record, r->http);
}

static const struct route {
        const char *path;
        enum evhttp_cmd_type method;
        void (*act)(struct request *r);
} routes[] = {
        { "/vm", EVHTTP_REQ_GET, get_vm },
        { "/vm", EVHTTP_REQ_PATCH, patch_vm },
        { "/actions", EVHTTP_REQ_PUT, put_actions },
        { "/prefetch", EVHTTP_REQ_PUT, put_prefetch },
        { "/snapshot/create", EVHTTP_REQ_PUT, put_snapshot },
        { "/working-set", EVHTTP_REQ_PUT, put_working_set },
};

static void on_request(struct evhttp_request *http, void *ctx)
{
        struct evbuffer *in = evhttp_request_get_input_buffer(http);
        const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(http));
        struct request r = { .control = ctx, .http = http, .body_bytes = evbuffer_get_length(in) };
        bool path_known = false;

        r.body = r.body_bytes ? (const char *)evbuffer_pullup(in, -1) : "";
        for (size_t i = 0; path && i < ARRAY_SIZE(routes); i++) {
                if (strcmp(routes[i].path, path))
                        continue;
                path_known = true;
                if (routes[i].method == evhttp_request_get_command(http)) {
                        routes[i].act(&r);
                        return;
                }
        }
        if (path_known)
                reply_error(ctx, http, 405, "this path does not take that method");
        else
                reply_error(ctx, http, 404, "there is no such path: see vmm(1)");
}

int control_new(struct vm *vm, const char *socket_path, struct control **ret, struct err *e)
{
        AUTO_FD fd = -1;
        int rc = unixsock_listen(socket_path, SOCK_STREAM, &fd, e);

        if (rc < 0)
                return rc;

        struct control *c = calloc(1, sizeof(*c));

        if (!c)
                return err_msg(e, ENOMEM, "no memory for the control socket");
        c->vm = vm;
        c->save.control = c->record.control = c;
        c->http = evhttp_new(vm->base);
        if (!c->http || evhttp_accept_socket(c->http, fd) < 0) {
                control_free(c);
                return err_msg(e, ENOMEM, "no memory for the control socket");
        }
        fd_take(&fd);                   /* evhttp closes it */
        evhttp_set_allowed_methods(c->http, EVHTTP_REQ_GET | EVHTTP_REQ_PUT | EVHTTP_REQ_PATCH);
        evhttp_set_max_body_size(c->http, CONTROL_BODY_MAX);
        evhttp_set_max_headers_size(c->http, CONTROL_HEADERS_MAX);
        evhttp_set_gencb(c->http, on_request, c);
        *ret = c;
        return 0;
}

void control_free(struct control *c)
{
        if (!c)
                return;
        if (c->http)
                evhttp_free(c->http);
        free(c);
}

static int parse_compress(struct json_object *o, struct qs_writer_options *w, struct err *e)
{
        const char *how = "none";
        int rc = 0;
        uint64_t level;

        w->compress_alike = !json_object_object_get_ex(o, "compress", NULL);
        if (!w->compress_alike)
                rc = json_take_str(o, "compress", &how, e);
        if (rc < 0)
                return rc;
        if (!strcmp(how, "zstd"))
                w->compress = QS_COMPRESS_ZSTD;
        else if (!strcmp(how, "none"))
                w->compress = QS_COMPRESS_NONE;
        else
                return err_msg(e, EINVAL, "compression '%s' is neither 'none' nor 'zstd'", how);
        w->zstd_level = QS_ZSTD_LEVEL_DEFAULT;
        if (json_object_object_get_ex(o, "level", NULL)) {
                rc = json_take_u64(o, "level", QS_ZSTD_LEVEL_MAX, &level, e);
                if (rc == 0)
                        w->zstd_level = (int)level;
        }
        return rc;
}

static int parse_cluster_size(struct json_object *o, struct qs_writer_options *w, struct err *e)
{
        uint64_t bytes;
        int rc;

        w->cluster_bits = QS_CLUSTER_BITS_DEFAULT;
        if (!json_object_object_get_ex(o, "cluster_size", NULL))
                return 0;
        rc = json_take_u64(o, "cluster_size", 1u << QS_CLUSTER_BITS_MAX, &bytes, e);
        if (rc < 0)
                return rc;
        if (bytes < (1u << QS_CLUSTER_BITS_MIN) || (bytes & (bytes - 1)))
                return err_msg(e, EINVAL, "cluster size %llu is not a power of two from 4K to 2M",
                               (unsigned long long)bytes);
        w->cluster_bits = (unsigned)__builtin_ctzll(bytes);
        return 0;
}

static int parse_text(struct json_object *o, const char *key, char *buf, size_t room, bool needed,
                      struct err *e)
{
        const char *text;
        int rc;

        buf[0] = '\0';
        if (!needed && !json_object_object_get_ex(o, key, NULL))
                return 0;
        rc = json_take_str(o, key, &text, e);
        if (rc < 0)
                return rc;
        if (strlen(text) >= room)
                return err_msg(e, ENAMETOOLONG, "'%s' is longer than %zu bytes", key, room - 1);
        strcpy(buf, text);
        return 0;
}

static int check_absolute(const char *key, const char *path, struct err *e)
{
        if (path[0] != '/')
                return err_msg(e, EINVAL, "%s '%s' is not absolute", key, path);
        return 0;
}

int control_parse_save(const char *text, size_t bytes, struct save_request *ret, struct err *e)
{
        AUTO_JSON *o = NULL;
        char mode[16];
        int rc = json_parse(text, bytes, &o, e);

        memset(ret, 0, sizeof(*ret));
        if (rc == 0)
                rc = parse_text(o, "snapshot_path", ret->path, sizeof(ret->path), true, e);
        if (rc == 0)
                rc = parse_text(o, "backing", ret->backing, sizeof(ret->backing), false, e);
        if (rc == 0)
                rc = check_absolute("snapshot_path", ret->path, e);
        if (rc == 0 && json_object_object_get_ex(o, "backing", NULL))
                rc = check_absolute("backing", ret->backing, e);
        if (rc == 0)
                rc = parse_text(o, "tag", ret->writer.tag, sizeof(ret->writer.tag), false, e);
        ret->writer.append = ret->writer.tag[0] != '\0';
        if (rc == 0)
                rc = parse_text(o, "mode", mode, sizeof(mode), false, e);
        if (rc == 0 && mode[0] && strcmp(mode, "resume") && strcmp(mode, "stop"))
                rc = err_msg(e, EINVAL, "mode '%s' is neither 'resume' nor 'stop'", mode);
        if (rc == 0)
                rc = parse_compress(o, &ret->writer, e);
        if (rc == 0)
                rc = parse_cluster_size(o, &ret->writer, e);
        if (rc == 0 && json_object_object_get_ex(o, "force", NULL))
                rc = json_take_bool(o, "force", &ret->writer.force, e);
        if (rc == 0)
                ret->mode = strcmp(mode, "stop") ? SAVE_RESUME : SAVE_STOP;
        return rc;
}
