/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/vsock-loop.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/check.h"
#include "common/clock.h"
#include "tests/unit/vsock-guest.h"

#define WATCHES_MAX 4096

struct virtio_watch {
        struct virtio_loop *loop;
        int fd;                         /* -1: a timer */
        short events;
        bool on, dead;
        uint64_t due_ns;
        virtio_watch_fn *fn;
        void *ctx;
};

struct virtio_loop {
        struct vsock_guest *guest;
        bool runs, live;
        unsigned n;
        struct virtio_watch *watch[WATCHES_MAX];
};

/* ---- the clock, in place of common/clock.c --------------------------------------- */

static uint64_t skipped_ns;

static uint64_t read_clock(clockid_t which)
{
        struct timespec t;

        clock_gettime(which, &t);
        return (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_nsec + skipped_ns;
}

uint64_t clock_now_ns(void)
{
        return read_clock(CLOCK_MONOTONIC);
}

uint64_t clock_wall_ns(void)
{
        return read_clock(CLOCK_REALTIME);
}

void vsock_loop_skip(uint64_t ns)
{
        skipped_ns += ns;
}

/* ---- watches ------------------------------------------------------------------------ */

struct virtio_loop *vsock_loop_new(struct vsock_guest *guest)
{
        struct virtio_loop *l = calloc(1, sizeof(*l));

        ASSERT(l);
        l->guest = guest;
        return l;
}

static void sweep(struct virtio_loop *l)
{
        unsigned kept = 0;

        for (unsigned i = 0; i < l->n; i++) {
                if (l->watch[i]->dead)
                        free(l->watch[i]);
                else
                        l->watch[kept++] = l->watch[i];
        }
        l->n = kept;
}

void vsock_loop_free(struct virtio_loop *l)
{
        sweep(l);
        ASSERT(l->n == 0);              /* watches have been freed by their owners */
        free(l);
}

static int add(struct virtio_loop *l, int fd, short events, virtio_watch_fn *fn, void *ctx,
               struct virtio_watch **ret)
{
        struct virtio_watch *w = calloc(1, sizeof(*w));

        ASSERT(w && l->n < WATCHES_MAX);
        *w = (struct virtio_watch){ .loop = l, .fd = fd, .events = events, .fn = fn, .ctx = ctx };
        l->watch[l->n++] = w;
        *ret = w;
        return 0;
}

int virtio_watch_readable(struct virtio_loop *l, int fd, virtio_watch_fn *fn, void *ctx,
                          struct virtio_watch **ret, struct err *e)
{
        (void)e;
        return add(l, fd, POLLIN, fn, ctx, ret);
}

int virtio_watch_writable(struct virtio_loop *l, int fd, virtio_watch_fn *fn, void *ctx,
                          struct virtio_watch **ret, struct err *e)
{
        (void)e;
        return add(l, fd, POLLOUT, fn, ctx, ret);
}

int virtio_watch_timer(struct virtio_loop *l, virtio_watch_fn *fn, void *ctx,
                       struct virtio_watch **ret, struct err *e)
{
        (void)e;
        return add(l, -1, 0, fn, ctx, ret);
}

void virtio_watch_on(struct virtio_watch *w)
{
        ASSERT(!w->dead && w->fd >= 0);
        w->on = true;
}

void virtio_watch_off(struct virtio_watch *w)
{
        ASSERT(!w->dead);
        w->on = false;
}

void virtio_watch_after(struct virtio_watch *w, uint64_t ns)
{
        ASSERT(!w->dead && w->fd < 0);
        w->on = true;
        w->due_ns = clock_now_ns() + ns;
}

void virtio_watch_free(struct virtio_watch *w)
{
        if (!w)
                return;
        ASSERT(!w->dead);
        w->dead = true;
        w->on = false;
}

static bool due(const struct virtio_watch *w, const struct pollfd *p)
{
        if (!w->on)
                return false;
        return w->fd >= 0 ? p->revents != 0 : w->due_ns <= clock_now_ns();
}

bool vsock_loop_turn(struct virtio_loop *l, int timeout_ms)
{
        static struct pollfd p[WATCHES_MAX];
        bool any = false, timers = false;
        unsigned n;

        sweep(l);
        n = l->n;
        for (unsigned i = 0; i < n; i++) {
                const struct virtio_watch *w = l->watch[i];

                p[i] = (struct pollfd){ .fd = w->on ? w->fd : -1, .events = w->events };
                timers |= w->on && w->fd < 0;
                if (w->on && w->fd < 0 && w->due_ns <= clock_now_ns())
                        timeout_ms = 0;
        }
        if (!timers)
                timeout_ms = 0;         /* unix sockets are ready at once, or not at all */
        ASSERT(poll(p, n, timeout_ms) >= 0);
        for (unsigned i = 0; i < n; i++) {
                if (due(l->watch[i], &p[i])) {
                        any = true;
                        if (l->watch[i]->fd < 0)
                                l->watch[i]->on = false;
                        l->watch[i]->fn(l->watch[i]->ctx);
                }
        }
        return any;
}

/* ---- the transport ------------------------------------------------------------------ */

static void kick_all(struct virtio_loop *l, struct virtio_device *dev)
{
        l->runs = true;
        for (unsigned q = 0; q < dev->class->nqueues && l->runs; q++)
                dev->class->kick(dev, q);
}

void vsock_loop_start(struct virtio_loop *l, struct virtio_device *dev)
{
        struct err e;

        ASSERT(dev->class->start(dev, &e) == 0);
        l->live = true;
        kick_all(l, dev);
}

void vsock_loop_drain(struct virtio_loop *l, struct virtio_device *dev)
{
        l->runs = false;
        dev->class->drain(dev);
}

void vsock_loop_resume(struct virtio_loop *l, struct virtio_device *dev)
{
        dev->class->resume(dev);
        kick_all(l, dev);
}

void vsock_loop_stop(struct virtio_loop *l, struct virtio_device *dev)
{
        if (!l->live)
                return;
        vsock_loop_drain(l, dev);
        dev->class->stop(dev);
        l->live = false;
}

bool vsock_loop_started(const struct virtio_loop *l)
{
        return l->runs;
}

void virtio_signal(struct virtio_device *dev, unsigned queue)
{
        ASSERT(dev->loop->runs || dev->loop->live);
        (void)vq_wants_interrupt(&dev->queue[queue]);
}

void virtio_device_broken(struct virtio_device *dev, const struct err *why)
{
        ASSERT(why->text[0]);
        dev->loop->guest->broken++;
        dev->loop->runs = false;
}

void virtio_config_set(struct virtio_device *dev, unsigned offset, const void *data,
                       unsigned bytes)
{
        ASSERT(offset + bytes <= dev->config_bytes);
        memcpy(dev->config + offset, data, bytes);
}
