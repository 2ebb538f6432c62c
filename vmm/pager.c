/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/pager.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "vmm/pager-priv.h"
#include "vmm/starter.h"

/* Theory of operation
 *
 * RAM is registered in stripes (stripes.h), whose userfaultfds we keep for the life of
 * the VM (INV-HELD).
 *
 * A private server gives us its cache and filled map to keep; its successor
 * gets them and goes on where it stopped (INV-REATTACH). A shared daemon does
 * not: its cache outlives it with whoever supervises it. We show the daemon that
 * comes after it the descriptor that our RAM is mapped from, and if it has that
 * cache it goes on filling it. If it has not, or if none comes in time, our RAM
 * stays mapped from the cache that nobody fills any more, and whoever serves us
 * (the daemon, else a private server) copies what is still missing into our private
 * pages (the copy lane).
 *
 * watch thread:  waits for the server's events and for requests of others,
 *                replaces the server (pager-server.c), has the lease that is
 *                wanted (lease.h). Touches no guest memory.
 */
#define RESTART_WAIT_MS 200
/* How long a guest waits for a daemon to come back before it gets a server of its
 * own, which costs it the shared lane: a supervised one takes some 10 ms, systemd
 * waits 100 ms before it starts a service again, and half a second of a machine that
 * stands still is noticed, but breaks nothing. */
#define DAEMON_WAIT_NS (500 * NS_PER_MS)
#define DAEMON_LOOK_MS 10
#define REFRESH_WAIT_NS (200 * NS_PER_MS)
/* who gives up waiting for a lease is heard after that */
#define LEASE_STEP_NS (100 * NS_PER_MS)

static int keep_options(struct pager *p, const struct pager_options *o, struct err *e)
{
        pace_init(&p->pace, o->prefetch_rate);
        p->hold_percent = o->hold_percent;

        int rc = greeting_init(&p->greeting, o->image, o->image_path, o->hugepages, e);

        if (rc < 0)
                return rc;
        p->socket = o->socket ? strdup(o->socket) : NULL;
        if (o->socket && !p->socket)
                return err_msg(e, ENOMEM, "no memory for the pager");
        p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        return p->wake_fd < 0 ? err_set(e, errno, "create an eventfd") : 0;
}

void pager_set_lane(struct pager *p, enum ps_lane lane)
{
        lock_acquire(&p->lock);
        p->news.lane = lane;
        lock_release(&p->lock);
}

static void ring(struct pager *p)
{
        uint64_t one = 1;

        (void)!write(p->wake_fd, &one, sizeof(one));
}

void pager_prefetch(struct pager *p, const struct rate_order *order)
{
        if (order)
                pace_order(&p->pace, order);
        lock_acquire(&p->lock);
        p->want_prefetch = true;
        lock_release(&p->lock);
        ring(p);
}

enum ps_lane pager_lane(struct pager *p)
{
        lock_acquire(&p->lock);

        enum ps_lane lane = p->news.lane;

        lock_release(&p->lock);
        return lane;
}

int pager_new(const struct pager_options *options, pager_notify_fn *notify, void *ctx,
              struct pager **ret, struct err *e)
{
        struct pager *p = calloc(1, sizeof(*p));

        if (!p) {
                ps_client_free(options->server);
                return err_msg(e, ENOMEM, "no memory for the pager");
        }
        p->greeting.cache_fd = p->greeting.filled_fd = p->greeting.map_fd = p->wake_fd = -1;
        p->starter = options->starter;
        p->notify = notify;
        p->ctx = ctx;
        lock_init(&p->lock);
        cond_init(&p->answered);
        recording_init(&p->recording, options->record);
        lease_init(&p->lease);
        pager_set_lane(p, options->lane);

        p->client = options->server;
        p->given = options->server;

        int rc = keep_options(p, options, e);

        if (rc == 0 && !p->client)
                rc = pager_server_start(p, !p->socket, &p->client, e);
        if (rc < 0) {
                pager_free(p);
                return rc;
        }
        *ret = p;
        return 0;
}

static int map_ram(struct pager *p, struct ram *ram, const struct ps_welcome *w, struct err *e)
{
        if (w->lane == PS_LANE_SHARED)
                return ram_map_cache(ram, w->map_fd, e);
        /* holes are never made huge */
        return ram_map_anonymous(ram, true, p->greeting.hugepages ? RAM_HUGETLB : RAM_THP, e);
}

static enum stripes_of memory_of(const struct pager *p, enum ps_lane lane)
{
        if (lane == PS_LANE_SHARED)
                return STRIPES_CACHE;
        return p->greeting.hugepages ? STRIPES_HUGETLB : STRIPES_ANONYMOUS;
}

static void *watch_thread(void *ctx);

static int say_hello(struct pager *p, struct ps_welcome *w, struct err *e)
{
        /* prefetch would take the processors from what leads to the first
         * instruction: it waits for pager_prefetch() */
        uint64_t rate = p->hold_percent ? pace_now(&p->pace) : PS_PREFETCH_OFF;

        return pager_server_hello(p, p->client, pager_lane(p), p->hold_percent, rate, w, e);
}

/* A server that was started long ago may be gone. */
static int say_first_hello(struct pager *p, struct ps_welcome *w, struct err *e)
{
        int rc = say_hello(p, w, e);

        if (rc != -EPIPE || !p->given)
                return rc;
        ps_client_abandon(ptr_take(&p->client));
        rc = pager_server_start(p, true, &p->client, e);
        return rc == 0 ? say_hello(p, w, e) : rc;
}

int pager_serve(struct pager *p, struct ram *ram, struct err *e)
{
        struct ps_welcome w = WELCOME_NONE;
        int rc = say_first_hello(p, &w, e);

        if (rc < 0)
                return rc;
        p->greeting.cache_fd = w.cache_fd;
        p->greeting.filled_fd = w.filled_fd;
        pager_set_lane(p, w.lane);
        if (w.disk_bytes < ram_end_gpa(ram))
                rc = err_msg(e, EBADMSG, "'%s' is damaged: it holds less memory than its VM had",
                             p->greeting.image_path);
        /* INV-HOLE: PROT_NONE, register, only then accessible */
        if (rc == 0)
                rc = map_ram(p, ram, &w, e);
        if (p->socket && w.lane == PS_LANE_SHARED)
                p->greeting.map_fd = fd_take(&w.map_fd);
        fd_close(&w.map_fd);
        if (rc == 0)
                rc = stripes_register(&p->stripes, ram, memory_of(p, w.lane), e);
        if (rc == 0)
                rc = ram_unlock(ram, e);
        return rc == 0 ? pager_server_attach(p, p->client, false, e) : rc;
}

int pager_adopt(struct pager *p, struct starter *starter, pager_notify_fn *notify, void *ctx,
                struct err *e)
{
        ASSERT(!p->watching);
        p->starter = starter;
        p->notify = notify;
        p->ctx = ctx;

        int why = starter_start(p->starter, &(struct starter_thread){
                .role = SANDBOX_PAGER, .name = "pager", .run = watch_thread, .ctx = p,
        }, &p->watch);

        if (why)
                return err_set(e, why, "start the pager's thread");
        p->watching = true;
        return 0;
}

int pager_start(struct pager *p, struct ram *ram, struct err *e)
{
        int rc = pager_serve(p, ram, e);

        return rc == 0 ? pager_adopt(p, p->starter, p->notify, p->ctx, e) : rc;
}

static void post_news(struct pager *p)
{
        p->notify(p->ctx);
}

static void take_event_locked(struct pager *p, const struct ps_event *ev) REQUIRES(p->lock)
{
        switch (ev->type) {
        case PS_EVENT_RESIDENT:
                p->news.resident = true;        /* the statistics are asked for */
                break;
        case PS_EVENT_BAD_PAGE:
                p->news.bad_page = true;
                p->news.bad_gpa = ev->gpa;
                snprintf(p->news.text, sizeof(p->news.text), "%s", ev->text);
                break;
        case PS_EVENT_STATS:
                p->news.stats = ev->stats;
                p->answers++;
                cond_broadcast(&p->answered);
                break;
        case PS_EVENT_RECORD:
        case PS_EVENT_LEASED:
                break;
        }
}

/* False when the server is gone. */
static bool take_event(struct pager *p)
{
        struct ps_event ev = { .record_fd = -1 };

        if (ps_client_event(p->client, &ev, NULL) < 0)
                return false;
        lock_acquire(&p->lock);
        take_event_locked(p, &ev);
        lock_release(&p->lock);
        if (ev.type == PS_EVENT_RECORD)
                recording_answer(&p->recording, &ev.record_fd);
        if (ev.type == PS_EVENT_LEASED)
                lease_granted(&p->lease, ev.lease);
        if (ev.type == PS_EVENT_RESIDENT)
                return ps_client_ask_stats(p->client, NULL) == 0;
        if (ev.type == PS_EVENT_BAD_PAGE || ev.stats.resident_ns)
                post_news(p);
        return true;
}

struct requests {
        bool stats;
        bool retry;
        bool prefetch;
        bool quit;
};

static struct requests take_requests(struct pager *p)
{
        uint64_t count;

        (void)!read(p->wake_fd, &count, sizeof(count));
        lock_acquire(&p->lock);

        struct requests r = { p->want_stats, p->want_retry, p->want_prefetch, p->quit };

        p->want_stats = p->want_retry = p->want_prefetch = false;
        lock_release(&p->lock);
        return r;
}

static void set_down(struct pager *p, bool down, const char *why)
{
        lock_acquire(&p->lock);
        if (!down && p->news.server_down)
                p->news.restarts++;
        p->news.server_down = down;
        if (down)
                snprintf(p->news.text, sizeof(p->news.text), "%s", why);
        lock_release(&p->lock);
}

static void server_lost(struct pager *p)
{
        uint64_t end_ns = clock_now_ns() + (p->socket ? DAEMON_WAIT_NS : 0);
        bool daemon_only = p->socket;
        struct err e = { 0 };

        recording_lose(&p->recording);
        lease_lost(&p->lease);
        ps_client_abandon(ptr_take(&p->client));
        set_down(p, true, "the page server has ended; another is being started");
        while (pager_server_replace(p, daemon_only, &e) < 0) {
                struct pollfd wake = { .fd = p->wake_fd, .events = POLLIN };

                if (!daemon_only) {
                        set_down(p, true, e.text);
                        post_news(p);
                }
                poll(&wake, 1, daemon_only ? DAEMON_LOOK_MS : RESTART_WAIT_MS);

                struct requests r = take_requests(p);

                if (r.quit)
                        return;
                daemon_only = clock_now_ns() < end_ns;
        }
        set_down(p, false, "");
        post_news(p);
}

static void *watch_thread(void *ctx)
{
        struct pager *p = ctx;

        while (p->client) {
                struct pollfd fds[] = {
                        { .fd = ps_client_fd(p->client), .events = POLLIN },
                        { .fd = p->wake_fd, .events = POLLIN },
                };
                bool asked = lease_ask(&p->lease, p->client, &p->stripes);

                if (poll(fds, 2, asked ? -1 : RESTART_WAIT_MS) < 0)
                        continue;

                struct requests r = { 0 };

                if (fds[1].revents)
                        r = take_requests(p);
                if (r.quit)
                        break;
                if (r.stats)
                        ps_client_ask_stats(p->client, NULL);
                if (r.retry)
                        ps_client_retry(p->client, NULL);
                if (recording_wanted(&p->recording))
                        ps_client_ask_record(p->client, NULL);
                if (r.prefetch)
                        ps_client_prefetch(p->client, pace_now(&p->pace), NULL);
                if (fds[0].revents && !take_event(p))
                        server_lost(p);
        }
        return NULL;
}

void pager_news(struct pager *p, bool refresh, struct pager_news *ret)
{
        lock_acquire(&p->lock);

        uint64_t before = p->answers;
        uint64_t deadline_ns = clock_now_ns() + REFRESH_WAIT_NS;

        if (refresh && !p->news.server_down) {
                p->want_stats = true;
                ring(p);
                while (p->answers == before && cond_wait_until(&p->answered, &p->lock, deadline_ns))
                        ;
        }
        *ret = p->news;
        lock_release(&p->lock);
        ret->prefetch_paused = pace_paused(&p->pace);
}

void pager_retry(struct pager *p)
{
        lock_acquire(&p->lock);
        p->want_retry = true;
        p->news.bad_page = false;
        lock_release(&p->lock);
        ring(p);
}

int pager_record(struct pager *p, void **ret, size_t *ret_bytes, struct err *e)
{
        recording_ask(&p->recording);
        ring(p);
        return recording_wait(&p->recording, ret, ret_bytes, e);
}

const struct stripes *pager_stripes(const struct pager *p)
{
        return &p->stripes;
}

static int await_lease(struct pager *p, const struct pager_patience *w, struct err *e)
{
        int rc;

        do
                rc = lease_await(&p->lease, MIN(clock_now_ns() + LEASE_STEP_NS, w->deadline_ns),
                                 e);
        while (rc == -ETIMEDOUT && clock_now_ns() < w->deadline_ns &&
               !(w->cancelled && w->cancelled(w->ctx)));
        return rc;
}

int pager_lease(struct pager *p, const struct pager_patience *patience, struct err *e)
{
        lease_begin(&p->lease);
        ring(p);

        int rc = await_lease(p, patience, e);

        if (rc < 0)
                lease_end(&p->lease, &p->stripes);
        return rc;
}

void pager_pass(struct pager *p, const uint64_t *hva, size_t n)
{
        lease_pass(&p->lease, &p->stripes, hva, n);
}

void pager_lease_end(struct pager *p)
{
        lease_end(&p->lease, &p->stripes);
}

bool pager_put(struct pager *p, uint64_t gpa, const void *page, size_t bytes)
{
        return !p->greeting.hugepages && stripes_put(&p->stripes, gpa, page, bytes);
}

void pager_wake(struct pager *p)
{
        stripes_wake(&p->stripes);
}

void pager_free(struct pager *p)
{
        if (!p)
                return;
        if (p->watching) {
                lock_acquire(&p->lock);
                p->quit = true;
                lock_release(&p->lock);
                ring(p);
                pthread_join(p->watch, NULL);
                ps_client_free(p->client);
        } else if (p->client) {
                ps_client_abandon(p->client);
        }
        stripes_fini(&p->stripes);
        greeting_fini(&p->greeting);
        fd_close(&p->wake_fd);
        free(p->socket);
        lease_fini(&p->lease);
        recording_fini(&p->recording);
        cond_fini(&p->answered);
        lock_fini(&p->lock);
        free(p);
}
