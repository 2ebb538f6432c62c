/* SPDX-License-Identifier: Apache-2.0 */
/* POST /create */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "vmm/create-request.h"
#include "vmm/serve/child.h"
#include "vmm/serve/expect.h"
#include "vmm/serve/server-priv.h"

/* One VM, from its request to its first report. Its client may go away meanwhile: the VM is
 * made all the same, and found under its name. One that takes too long is ended, for it may
 * wait for what never comes, a file server or a page server, and has one of few places. */
struct creation {
        struct errand errand;
        struct server *server;
        struct exchange *exchange;
        struct child *child;
        struct event *too_late;
        struct json_object *request;
        bool pooled;
        bool snapshot;
        char name[VM_NAME_MAX + 1];
};

static void creation_free(struct creation *c)
{
        struct server *s = c->server;

        errand_end(&c->errand);
        s->creating--;
        pool_resume(s->pool);
        child_free(c->child);
        if (c->too_late)
                event_free(c->too_late);
        json_object_put(c->request);
        free(c);
}

static void drop(struct errand *e)
{
        struct creation *c = (struct creation *)e;

        exchange_drop(c->exchange);
        creation_free(c);
}

/* ---- answers ------------------------------------------------------------------- */

static void learn(struct creation *c, struct json_object *report)
{
        struct shape shape = { 0 };
        uint64_t cpus = 0;

        if (c->snapshot && json_take_u64(report, "cpus", UINT32_MAX, &cpus, NULL) == 0 &&
            json_take_u64(report, "memory", UINT64_MAX, &shape.memory_bytes, NULL) == 0) {
                AUTO_FREE char *expected = expect_of(c->request);

                shape.cpus = (unsigned)cpus;
                if (shape_check(&shape, NULL) == 0)
                        pool_learn(c->server->pool, &shape, expected);
        }
}

static void on_report(void *ctx, struct json_object *o)
{
        struct creation *c = ctx;
        struct server *s = c->server;
        struct rundir_path sock;
        char location[VM_NAME_MAX + sizeof("/vms/")];
        bool prepared = false;

        (void)json_take_bool(o, "prepared", &prepared, NULL);
        if (rundir_path(&sock, c->name, "sock", NULL) == 0)
                json_put_str(o, "socket", sock.text);
        json_put_bool(o, "pooled", c->pooled && prepared);
        s->counts.created++;
        s->counts.pooled += c->pooled && prepared;
        snprintf(location, sizeof(location), "/vms/%s", c->name);
        exchange_add_header(c->exchange, "Location", location);
        exchange_reply(c->exchange, 201, o);
        learn(c, o);
        creation_free(c);
}

static const struct child_ops ops;

static int order(struct creation *c, struct err *e)
{
        return child_order(c->child, c->name, exchange_start_ns(c->exchange), c->request, e);
}

static int hire_new(struct creation *c, struct err *e)
{
        const struct serve_options *o = c->server->options;
        const struct child_kind blank = { .sandbox = o->sandbox, .confine = o->confine };
        int rc = child_new(c->server->base, &blank, &ops, c, &c->child, e);

        return rc == 0 ? order(c, e) : rc;
}

/* One of the pool may have died before it was told anything. */
static int hire(struct creation *c, struct err *e)
{
        c->child = c->snapshot ? pool_take(c->server->pool) : NULL;
        c->pooled = c->child != NULL;
        if (!c->pooled)
                return hire_new(c, e);
        child_hand_over(c->child, &ops, c);
        return order(c, e);
}

static bool hire_another(struct creation *c, const struct err *e)
{
        if (!c->pooled || e->code != -EPIPE)
                return false;
        c->pooled = false;
        child_free(ptr_take(&c->child));
        return hire_new(c, NULL) == 0;
}

static void on_failed(void *ctx, const struct err *e)
{
        struct creation *c = ctx;

        if (hire_another(c, e))
                return;
        c->server->counts.create_failed++;
        exchange_fail(c->exchange, e);
        creation_free(c);
}

static void on_too_late(evutil_socket_t fd, short what, void *ctx)
{
        struct creation *c = ctx;
        struct server *s = c->server;

        (void)fd;
        (void)what;
        child_kill(c->child);
        s->counts.create_failed++;
        exchange_refuse(c->exchange, 504, "VM '%s' was not made in %u seconds, and was ended: see "
                        "--create-timeout", c->name, s->options->create_seconds);
        creation_free(c);
}

static void on_ready(void *ctx)
{
        const struct err e = { .code = -EIO, .text = "the process of the VM lost its order" };

        on_failed(ctx, &e);
}

static const struct child_ops ops = {
        .ready = on_ready, .report = on_report, .failed = on_failed,
};

/* ---- requests ------------------------------------------------------------------ */

static int count(void *ctx, const char *name)
{
        unsigned *n = ctx;

        (void)name;
        ++*n;
        return 0;
}

/* Limits are for when something is wrong, too: who cannot count lets nobody in. */
static bool has_room_beside(struct server *s, struct exchange *x)
{
        unsigned running = 0, max = s->options->vms_max;
        struct err e;

        if (rundir_each(count, &running, &e) < 0) {
                exchange_refuse(x, 503, "the VMs that run cannot be counted, which --max-vms "
                                "wants: %s", e.text);
                return false;
        }
        if (running + s->creating >= max) {
                exchange_refuse(x, 503, "%u VMs run or are being made: end one, or see --max-vms",
                                running + s->creating);
                return false;
        }
        return true;
}

/* False: answered. */
static bool has_room(struct server *s, struct exchange *x)
{
        const struct serve_options *o = s->options;

        if (s->creating >= o->creates_max) {
                exchange_add_header(x, "Retry-After", "1");
                exchange_refuse(x, 503, "%u VMs are being made: come again", s->creating);
                return false;
        }
        return !o->vms_max || has_room_beside(s, x);
}

static int make_name(char name[VM_NAME_MAX + 1], struct err *e)
{
        uint64_t random;

        if (getrandom(&random, sizeof(random), 0) != sizeof(random))
                return err_set(e, errno, "make up a name");
        snprintf(name, VM_NAME_MAX + 1, "vm-%016llx", (unsigned long long)random);
        return 0;
}

/* Fast and early; who has the name in the end is up to the VMs (INV-NAME). */
static int settle_name(char name[VM_NAME_MAX + 1], struct err *e)
{
        if (!name[0])
                return make_name(name, e);
        if (rundir_find(name, NULL) == 0)
                return err_msg(e, EEXIST, "a VM named '%s' is already running: choose another "
                               "name or stop it", name);
        return 0;
}

static int limit_time(struct creation *c, struct err *e)
{
        const struct timeval t = { .tv_sec = c->server->options->create_seconds };

        c->too_late = evtimer_new(c->server->base, on_too_late, c);
        if (!c->too_late || evtimer_add(c->too_late, &t) < 0)
                return err_msg(e, ENOMEM, "no memory for a VM");
        return 0;
}

static int begin(struct server *s, struct exchange *x, const struct create_request *q,
                 const char *name, struct json_object *body, struct err *e)
{
        struct creation *c = calloc(1, sizeof(*c));

        if (!c)
                return err_msg(e, ENOMEM, "no memory for a VM");
        *c = (struct creation){
                .server = s, .exchange = x, .snapshot = q->snapshot.path[0],
                .request = json_object_get(body),
        };
        strcpy(c->name, name);
        errand_begin(s, &c->errand, drop);
        s->creating++;
        pool_pause(s->pool);

        int rc = limit_time(c, e);

        if (rc == 0)
                rc = hire(c, e);
        if (rc < 0)
                creation_free(c);
        else
                exchange_hold(x, NULL, NULL);
        return rc;
}

void serve_create(struct server *s, struct exchange *x, const char *unused)
{
        AUTO_FREE struct create_request *q = malloc(sizeof(*q));
        AUTO_JSON *o = NULL;
        size_t bytes;
        const char *body = exchange_body(x, &bytes);
        struct err e;
        int rc = q ? json_parse(body, bytes, &o, &e) : err_msg(&e, ENOMEM, "no memory for a VM");

        (void)unused;
        if (rc == 0)
                rc = create_request_decode(o, q, &e);
        if (rc == 0)
                rc = settle_name(q->name, &e);
        if (rc == 0 && !has_room(s, x)) {
                s->counts.create_refused++;
                return;
        }
        if (rc == 0)
                rc = begin(s, x, q, q->name, o, &e);
        if (rc < 0) {
                s->counts.create_failed++;
                exchange_fail(x, &e);
        }
}
