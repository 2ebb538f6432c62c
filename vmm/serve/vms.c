/* SPDX-License-Identifier: Apache-2.0 */
/* what is asked of VMs that run: passed on to their control sockets */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "vmm/serve/server-priv.h"
#include "vmm/serve/vmcall.h"

/* A VM answers at once, but for its page server, which it waits a moment for. */
#define ANSWER_SECONDS 5
/* VMs that are asked at a time, for a list of all. */
#define ASKED_MAX 32

/* ---- one VM -------------------------------------------------------------------- */

struct passing {
        struct errand errand;
        struct exchange *exchange;
        struct vmcall *call;
        bool in_lines;                  /* the answer was begun */
};

static void passing_free(struct passing *p)
{
        errand_end(&p->errand);
        vmcall_free(p->call);
        free(p);
}

static void drop_passing(struct errand *e)
{
        struct passing *p = (struct passing *)e;

        exchange_drop(p->exchange);
        passing_free(p);
}

static void pass_last_line(struct passing *p, struct json_object *o, const struct err *e)
{
        AUTO_JSON *failure = json_object_new_object();

        if (e)
                json_put_str(failure, "error", e->text);
        exchange_line(p->exchange, e ? failure : o, true);
        exchange_end_lines(p->exchange);
}

static void on_passed(void *ctx, int status, struct json_object *o, const struct err *e)
{
        const struct err died = { .code = -EIO, .text = "the VM ended before its save did" };
        struct passing *p = ctx;

        /* how far a save is has a phase, its result has none */
        if (!e && json_object_object_get_ex(o, "phase", NULL))
                e = &died;
        if (p->in_lines)
                pass_last_line(p, o, e);
        else if (!e)
                exchange_reply(p->exchange, status, o);
        else
                exchange_fail(p->exchange, e);
        passing_free(p);
}

/* The VM sees it too, and gives up what it does for nobody else. */
static void on_client_gone(void *ctx)
{
        struct passing *p = ctx;

        if (p->in_lines)
                exchange_drop(p->exchange);
        else
                exchange_refuse(p->exchange, 499, "the client has hung up");
        passing_free(p);
}

static void on_line(void *ctx, struct json_object *o)
{
        struct passing *p = ctx;

        if (!p->in_lines)
                exchange_begin_lines(p->exchange, on_client_gone, p);
        p->in_lines = true;
        exchange_line(p->exchange, o, false);
}

/* options: all but base and who is told */
static int pass(struct server *s, struct exchange *x, struct vmcall_options *o, struct err *e)
{
        struct passing *p = calloc(1, sizeof(*p));

        if (!p)
                return err_msg(e, ENOMEM, "no memory to ask VM '%s'", o->name);
        p->exchange = x;
        errand_begin(s, &p->errand, drop_passing);
        o->base = s->base;
        o->done = on_passed;
        o->ctx = p;

        int rc = vmcall_new(o, &p->call, e);

        if (rc < 0)
                passing_free(p);
        else
                exchange_hold(x, on_client_gone, p);
        return rc;
}

/* -ESRCH: 404 */
static int find(const char *name, struct err *e)
{
        int rc = rundir_find(name, e);

        return rc == -ENOENT ? (e->code = -ESRCH) : rc;
}

static void pass_simple(struct server *s, struct exchange *x, const char *name,
                        const char *method, const char *body)
{
        struct vmcall_options o = {
                .name = name, .method = method, .path = "/vm", .body = body,
                .seconds = ANSWER_SECONDS,
        };
        struct err e;
        int rc = find(name, &e);

        if (rc == 0)
                rc = pass(s, x, &o, &e);
        if (rc < 0)
                exchange_fail(x, &e);
}

void serve_show(struct server *s, struct exchange *x, const char *name)
{
        pass_simple(s, x, name, "GET", NULL);
}

void serve_patch(struct server *s, struct exchange *x, const char *name)
{
        AUTO_JSON *o = NULL;
        size_t bytes;
        const char *body = exchange_body(x, &bytes);
        struct err e;

        if (json_parse(body, bytes, &o, &e) < 0)
                exchange_fail(x, &e);
        else
                pass_simple(s, x, name, "PATCH", json_object_to_json_string(o));
}

/* The name is taken out, the rest is for the VM. */
static int parse_snapshot(struct exchange *x, char name[VM_NAME_MAX + 1], bool *ret_progress,
                          struct json_object **ret, struct err *e)
{
        size_t bytes;
        const char *body = exchange_body(x, &bytes);
        const char *text;
        int rc = json_parse(body, bytes, ret, e);

        if (rc == 0)
                rc = json_take_str(*ret, "name", &text, e);
        if (rc == 0)
                rc = rundir_check_name(text, e);
        if (rc == 0 && json_object_object_get_ex(*ret, "progress", NULL))
                rc = json_take_bool(*ret, "progress", ret_progress, e);
        if (rc < 0)
                return rc;
        strcpy(name, text);
        json_object_object_del(*ret, "name");
        return 0;
}

void serve_snapshot(struct server *s, struct exchange *x, const char *unused)
{
        char name[VM_NAME_MAX + 1];
        AUTO_JSON *o = NULL;
        bool progress = false;
        struct err e;
        int rc = parse_snapshot(x, name, &progress, &o, &e);

        (void)unused;
        if (rc == 0)
                rc = find(name, &e);
        if (rc == 0) {
                struct vmcall_options call = {
                        .name = name, .method = "PUT", .path = "/snapshot/create",
                        .body = json_object_to_json_string(o),
                        .line = progress ? on_line : NULL,
                };

                s->counts.snapshots++;
                rc = pass(s, x, &call, &e);
        }
        if (rc < 0)
                exchange_fail(x, &e);
}

/* ---- all VMs ------------------------------------------------------------------- */

struct listing;

struct asked {
        struct listing *listing;
        struct vmcall *call;
        size_t at;                      /* in the list */
};

struct listing {
        struct errand errand;
        struct server *server;
        struct exchange *exchange;
        struct json_object *list;       /* names, that become objects, or null: has ended */
        size_t next;
        unsigned waiting;
        struct asked asked[ASKED_MAX];
};

static void listing_free(struct listing *l)
{
        errand_end(&l->errand);
        for (size_t i = 0; i < ASKED_MAX; i++)
                vmcall_free(l->asked[i].call);
        json_object_put(l->list);
        free(l);
}

static void drop_listing(struct errand *e)
{
        struct listing *l = (struct listing *)e;

        exchange_drop(l->exchange);
        listing_free(l);
}

static void finish(struct listing *l)
{
        AUTO_JSON *answer = json_object_new_array();

        for (size_t i = 0; i < json_object_array_length(l->list); i++) {
                struct json_object *vm = json_object_array_get_idx(l->list, i);

                if (vm)
                        json_object_array_add(answer, json_object_get(vm));
        }
        exchange_reply(l->exchange, 200, answer);
        listing_free(l);
}

/* What is shown of a VM that does not say anything of itself: NULL when it has ended. */
static struct json_object *silent(const char *name, const struct err *e)
{
        struct json_object *o;

        if (rundir_find(name, NULL) == -ENOENT)
                return NULL;
        o = json_object_new_object();
        json_put_str(o, "name", name);
        json_put_str(o, "state", "unknown");
        json_put_str(o, "problem", e->text);
        return o;
}

static void note(struct listing *l, size_t at, int status, struct json_object *vm,
                 const struct err *e)
{
        const char *name = json_object_get_string(json_object_array_get_idx(l->list, at));

        json_object_array_put_idx(l->list, at, status == 200 ? json_object_get(vm)
                                                             : silent(name, e));
}

static void on_answered(void *ctx, int status, struct json_object *o, const struct err *e);

/* Asks the next one in this place; one that cannot be asked is noted. */
static void ask_next(struct listing *l, struct asked *a)
{
        while (l->next < json_object_array_length(l->list)) {
                struct vmcall_options o = {
                        .base = l->server->base, .method = "GET", .path = "/vm",
                        .seconds = ANSWER_SECONDS, .done = on_answered, .ctx = a,
                };
                struct err e;

                a->listing = l;
                a->at = l->next++;
                o.name = json_object_get_string(json_object_array_get_idx(l->list, a->at));
                if (vmcall_new(&o, &a->call, &e) == 0) {
                        l->waiting++;
                        return;
                }
                note(l, a->at, 0, NULL, &e);
        }
}

static void on_answered(void *ctx, int status, struct json_object *o, const struct err *e)
{
        const struct err odd = { .text = "it answers with an error" };
        struct asked *a = ctx;
        struct listing *l = a->listing;

        note(l, a->at, status, o, e ? e : &odd);
        vmcall_free(ptr_take(&a->call));
        l->waiting--;
        ask_next(l, a);
        if (l->waiting == 0)
                finish(l);
}

static int add_name(void *ctx, const char *name)
{
        json_object_array_add(ctx, json_object_new_string(name));
        return 0;
}

void serve_list(struct server *s, struct exchange *x, const char *unused)
{
        struct listing *l = calloc(1, sizeof(*l));
        struct err e;
        int rc = l ? 0 : err_msg(&e, ENOMEM, "no memory for a list");

        (void)unused;
        if (rc == 0) {
                l->server = s;
                l->exchange = x;
                l->list = json_object_new_array();
                errand_begin(s, &l->errand, drop_listing);
                rc = rundir_each(add_name, l->list, &e);
        }
        if (rc < 0) {
                exchange_fail(x, &e);
                if (l)
                        listing_free(l);
                return;
        }
        for (size_t i = 0; i < ASKED_MAX; i++)
                ask_next(l, &l->asked[i]);
        if (l->waiting == 0)
                finish(l);
        else
                exchange_hold(x, NULL, NULL);
}
