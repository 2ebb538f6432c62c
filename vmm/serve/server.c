/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/server-priv.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/notify.h"
#include "vmm/serve/expect.h"

/* Theory of operation
 *
 * One loop and no thread. Whatever takes time is an errand: it waits for a process, a VM's
 * socket or a pidfd, has taken the exchange whose answer it owes, and is in a list so that
 * the end of the server ends it. Nothing is asked again and again.
 *
 * The server's end ends no VM: those that have been told what to be are processes of their
 * own, found again by their names; those of the pool, which have not, see their sockets end.
 */

static const struct {
        struct serve_route route;
        enum evhttp_cmd_type method;
        serve_act_fn *act;
} routes[] = {
        { { "POST", "/create" }, EVHTTP_REQ_POST, serve_create },
        { { "POST", "/snapshot" }, EVHTTP_REQ_POST, serve_snapshot },
        { { "GET", "/vms" }, EVHTTP_REQ_GET, serve_list },
        { { "GET", "/vms/{name}" }, EVHTTP_REQ_GET, serve_show },
        { { "PATCH", "/vms/{name}" }, EVHTTP_REQ_PATCH, serve_patch },
        { { "DELETE", "/vms/{name}" }, EVHTTP_REQ_DELETE, serve_delete },
        { { "GET", "/metrics" }, EVHTTP_REQ_GET, serve_metrics },
};

const struct serve_route *serve_route_at(size_t i)
{
        return i < ARRAY_SIZE(routes) ? &routes[i].route : NULL;
}

/* ---- errands ------------------------------------------------------------------- */

void errand_begin(struct server *s, struct errand *e, void (*drop)(struct errand *))
{
        e->drop = drop;
        e->next = s->errands;
        e->link = &s->errands;
        if (e->next)
                e->next->link = &e->next;
        s->errands = e;
}

void errand_end(struct errand *e)
{
        *e->link = e->next;
        if (e->next)
                e->next->link = e->link;
}

/* ---- routes -------------------------------------------------------------------- */

/* The path is the pattern; a "{name}" at its end is any part without a slash. */
static bool path_is(const char *path, const char *pattern, char name[VM_NAME_MAX + 1])
{
        const char *brace = strchr(pattern, '{');
        size_t n = brace ? (size_t)(brace - pattern) : strlen(pattern);

        name[0] = '\0';
        if (strncmp(path, pattern, n))
                return false;
        if (!brace)
                return !path[n];
        if (!path[n] || strchr(path + n, '/') || strlen(path + n) > VM_NAME_MAX)
                return false;
        strcpy(name, path + n);
        return true;
}

static void refuse_method(struct exchange *x, const char *path)
{
        char allow[64] = "", name[VM_NAME_MAX + 1];
        size_t at = 0;

        for (size_t i = 0; i < ARRAY_SIZE(routes); i++) {
                if (path_is(path, routes[i].route.path, name))
                        at += (size_t)snprintf(allow + at, sizeof(allow) - at, "%s%s",
                                               at ? ", " : "", routes[i].route.method);
        }
        exchange_add_header(x, "Allow", allow);
        exchange_refuse(x, 405, "this path does not take that method, but %s", allow);
}

static void on_enter(void *ctx, struct exchange *x)
{
        const char *path = exchange_path(x);
        struct server *s = ctx;
        bool path_known = false;

        s->counts.requests++;
        for (size_t i = 0; path && i < ARRAY_SIZE(routes); i++) {
                char name[VM_NAME_MAX + 1];

                if (!path_is(path, routes[i].route.path, name))
                        continue;
                path_known = true;
                if (routes[i].method == exchange_method(x)) {
                        routes[i].act(s, x, name);
                        return;
                }
        }
        if (path_known)
                refuse_method(x, path);
        else
                exchange_refuse(x, 404, "there is no such path: see vmm-api(7)");
}

/* ---- the service --------------------------------------------------------------- */

static void on_signal(evutil_socket_t signo, short what, void *ctx)
{
        struct server *s = ctx;

        (void)signo;
        (void)what;
        event_base_loopbreak(s->base);
}

static int add_signals(struct server *s, struct err *e)
{
        static const int signals[] = { SIGTERM, SIGINT };

        /* what it starts buries itself: only sockets and pidfds tell of an end */
        signal(SIGCHLD, SIG_IGN);
        signal(SIGPIPE, SIG_IGN);
        signal(SIGHUP, SIG_IGN);
        for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
                s->signal_event[i] = evsignal_new(s->base, signals[i], on_signal, s);
                if (!s->signal_event[i] || event_add(s->signal_event[i], NULL) < 0)
                        return err_msg(e, ENOMEM, "no memory for signal events");
        }
        return 0;
}

static int open_doors(struct server *s, struct err *e)
{
        const struct serve_options *o = s->options;
        struct door_options d = {
                .base = s->base, .path = o->socket_path, .rate = o->rate, .enter = on_enter,
                .ctx = s,
        };
        int rc = serve_door_open(&d, &s->door[0], e);

        if (rc == 0 && o->listen) {
                d.path = NULL;
                d.address = o->listen;
                d.token = o->token;
                rc = serve_door_open(&d, &s->door[1], e);
        }
        return rc;
}

static int start(struct server *s, struct err *e)
{
        const struct serve_options *o = s->options;
        AUTO_FREE char *expected = o->pool_image ? expect_image(o->pool_image) : NULL;
        struct pool_options pool = {
                .size = o->pool_size, .shape = o->pool_shape, .fixed = o->pool_shape_fixed,
                .expected = expected, .expected_fixed = expected,
                .sandbox = o->sandbox, .confine = o->confine,
        };
        int rc;

        s->base = event_base_new();
        if (!s->base)
                return err_msg(e, ENOMEM, "no event loop could be made");
        pool.base = s->base;
        rc = add_signals(s, e);
        if (rc == 0)
                rc = open_doors(s, e);
        if (rc == 0)
                rc = pool_new(&pool, &s->pool, e);
        return rc;
}

static void stop(struct server *s)
{
        while (s->errands)
                s->errands->drop(s->errands);
        pool_free(s->pool);
        for (size_t i = 0; i < SERVE_DOORS_MAX; i++)
                serve_door_close(s->door[i]);
        for (size_t i = 0; i < ARRAY_SIZE(s->signal_event); i++) {
                if (s->signal_event[i])
                        event_free(s->signal_event[i]);
        }
        if (s->base)
                event_base_free(s->base);
}

int serve_run(const struct serve_options *options, struct err *e)
{
        struct server s = { .options = options };
        int rc = start(&s, e);

        if (rc == 0) {
                struct err why;

                if (notify_ready(&why) < 0)
                        err_print("vmm serve", &why);
                unsetenv("NOTIFY_SOCKET");      /* our VMs are no service's */
                fprintf(stderr, "vmm serve: listening at %s%s%s\n", options->socket_path,
                        options->listen ? " and " : "", options->listen ? options->listen : "");
                event_base_dispatch(s.base);
        }
        stop(&s);
        return rc;
}
