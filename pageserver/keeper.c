/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/keeper.h"

#include <errno.h>
#include <stdlib.h>

#include "common/auto.h"
#include "common/check.h"
#include "pageserver/pressure.h"

struct keeper {
        struct keeper_host host;
        struct fdstore store;
        struct pressure pressure;
        int listener;
        int gate;                       /* -1 = none, or passed */
        struct event *gate_open;
        struct event *pressed;
        struct event *unclaimed;
};

/* ---- events ---------------------------------------------------------------------- */

static void on_unclaimed(evutil_socket_t fd, short what, void *arg)
{
        struct keeper *k = arg;

        (void)fd;
        (void)what;
        if (k->host.caches->orphans.n > 0)
                log_line(k->host.log, "dropped %zu image caches that no client came back for",
                         k->host.caches->orphans.n);
        orphan_drop_all(&k->host.caches->orphans, &k->store);
}

static void on_pressed(evutil_socket_t fd, short what, void *arg)
{
        struct keeper *k = arg;
        struct cache_usage use;

        (void)fd;
        (void)what;
        pressure_taken(&k->pressure);
        cache_list_usage(k->host.caches, &use);
        if (use.idle == 0)
                return;
        cache_list_drop_idle(k->host.caches);
        log_line(k->host.log, "memory is short: dropped %u kept image caches of %llu MiB",
                 use.idle, (unsigned long long)use.idle_bytes >> 20);
}

/* Without it kept caches go only when others need their place: no reason to fail. */
static void watch_pressure(struct keeper *k)
{
        struct err e;

        if (k->host.caches->keep_bytes == 0)
                return;
        if (pressure_open(&k->pressure, PRESSURE_MEMORY, &e) < 0) {
                log_note(k->host.log, "a shortage of memory will not be noticed: %s", e.text);
                return;
        }
        k->pressed = event_new(k->host.base, k->pressure.poll_fd, EV_READ | EV_PERSIST,
                               on_pressed, k);
        if (k->pressed)
                event_add(k->pressed, NULL);
}

/* ---- the start ----------------------------------------------------------------------- */

static void take_in(struct keeper *k, const char *name, int *fd)
{
        if (!orphan_take(&k->host.caches->orphans, name, fd) &&
            !fcstay_take(k->host.stays, name, fd))
                log_line(k->host.log, "descriptor '%s' is not one of ours", name);
        fd_close(fd);
}

/* Everything is here: clients may come. */
static void begin(struct keeper *k)
{
        struct timeval patience = { .tv_sec = ORPHAN_SECONDS };
        struct orphan_list *orphans = &k->host.caches->orphans;

        orphan_match(orphans, &k->store);
        if (orphans->n > 0) {
                log_note(k->host.log, "%zu image caches wait for their clients", orphans->n);
                evtimer_add(k->unclaimed, &patience);
        }
        k->host.open(k->host.ctx, fd_take(&k->listener));
}

static void gate_passed(struct keeper *k)
{
        event_free(k->gate_open);
        k->gate_open = NULL;
        fd_close(&k->gate);
}

static void on_gate(evutil_socket_t sock, short what, void *arg)
{
        struct keeper *k = arg;
        struct fdnote note;
        AUTO_FD fd = -1;
        int rc = fdstore_receive((int)sock, &note, &fd, NULL);

        (void)what;
        if (rc == 0 && note.store && fd >= 0) {
                take_in(k, note.name, &fd);
        } else if (rc == 0 && note.start) {
                gate_passed(k);
                begin(k);
        } else if (rc < 0 && rc != -EBADMSG) {
                log_line(k->host.log, "the server before this one goes on");
                gate_passed(k);
                k->host.refused(k->host.ctx);
        }
}

static int wait_at_gate(struct keeper *k, struct err *e)
{
        k->gate_open = event_new(k->host.base, k->gate, EV_READ | EV_PERSIST, on_gate, k);
        if (!k->gate_open || event_add(k->gate_open, NULL) < 0)
                return err_msg(e, ENOMEM, "cannot wait for the server before");
        return 0;
}

static int take_given(struct keeper *k, struct err *e)
{
        struct fdgivens g;
        int rc = fdstore_given(&g, e);

        if (rc < 0)
                return rc;
        k->listener = fdgivens_take(&g, KEEPER_SOCKET);
        k->gate = fdgivens_take(&g, KEEPER_GATE);
        for (size_t i = 0; i < g.n; i++) {
                if (g.given[i].fd >= 0)
                        take_in(k, g.given[i].name, &g.given[i].fd);
        }
        fdgivens_free(&g);
        return 0;
}

static int start(struct keeper *k, struct err *e)
{
        int rc = fdstore_open(&k->store, getenv("NOTIFY_SOCKET"), e);

        if (rc < 0)                     /* serving without is better than not serving */
                log_line(k->host.log, "image caches will not outlive this process: %s", e->text);
        k->unclaimed = evtimer_new(k->host.base, on_unclaimed, k);
        if (!k->unclaimed)
                return err_msg(e, ENOMEM, "cannot make an event loop");
        rc = take_given(k, e);
        if (rc < 0)
                return rc;
        if (k->store.sock >= 0)
                k->host.caches->store = &k->store;
        watch_pressure(k);
        if (k->gate >= 0) {
                rc = wait_at_gate(k, e);
                if (rc < 0)
                        return rc;
        } else {
                begin(k);
        }
        fdstore_ready(&k->store);
        return 0;
}

int keeper_start(const struct keeper_host *host, struct keeper **ret, struct err *e)
{
        struct keeper *k = calloc(1, sizeof(*k));

        if (!k)
                return err_set(e, ENOMEM, "keeper");
        *k = (struct keeper){
                .host = *host, .store.sock = -1, .listener = -1, .gate = -1,
                .pressure = { .poll_fd = -1, .trigger_fd = -1 },
        };

        int rc = start(k, e);

        if (rc < 0) {
                keeper_stop(k);
                return rc;
        }
        *ret = k;
        return 0;
}

void keeper_leave(struct keeper *keeper)
{
        if (keeper)
                keeper->host.caches->store = NULL;
}

static void free_event(struct event **ev)
{
        if (*ev)
                event_free(*ev);
        *ev = NULL;
}

void keeper_stop(struct keeper *keeper)
{
        if (!keeper)
                return;
        keeper_leave(keeper);
        free_event(&keeper->gate_open);
        free_event(&keeper->pressed);
        free_event(&keeper->unclaimed);
        pressure_close(&keeper->pressure);
        fdstore_close(&keeper->store);
        fd_close(&keeper->listener);
        fd_close(&keeper->gate);
        free(keeper);
}
