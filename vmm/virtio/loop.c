/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/loop.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/io.h"
#include "vmm/starter.h"

/* Theory of operation
 *
 * A libevent base for each thread; nothing of it is touched by another. Others ring its
 * doorbell, an eventfd that the base watches: the thread then looks at what it is to do
 * (`rung`, the device's slot) or whether it is to end.
 */

struct virtio_loop {
        struct event_base *base;
        struct event *door;
        int door_fd;
        pthread_t thread;
        bool runs;
        _Atomic bool ends;
        virtio_watch_fn *rung;
        void *ctx;
};

struct virtio_watch {
        struct event *event;
        virtio_watch_fn *fn;
        void *ctx;
};

static void on_door(evutil_socket_t fd, short what, void *ctx)
{
        struct virtio_loop *l = ctx;
        uint64_t count;

        (void)what;
        (void)!read(fd, &count, sizeof(count));
        if (l->ends)
                event_base_loopbreak(l->base);
        else
                l->rung(l->ctx);
}

static void *loop_thread(void *ctx)
{
        struct virtio_loop *l = ctx;

        event_base_dispatch(l->base);
        return NULL;
}

static int set_up(struct virtio_loop *l, struct err *e)
{
        l->door_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (l->door_fd < 0)
                return err_set(e, errno, "make an eventfd for a device");
        l->base = event_base_new();
        if (l->base)
                l->door = event_new(l->base, l->door_fd, EV_READ | EV_PERSIST, on_door, l);
        if (!l->door || event_add(l->door, NULL) < 0)
                return err_msg(e, ENOMEM, "no memory for the event loop of a device");
        return 0;
}

int virtio_loop_new(struct starter *starter, const char *thread_name, virtio_watch_fn *rung,
                    void *ctx, struct virtio_loop **ret, struct err *e)
{
        struct virtio_loop *l = calloc(1, sizeof(*l));

        if (!l)
                return err_msg(e, ENOMEM, "no memory for the event loop of a device");
        l->door_fd = -1;
        l->rung = rung;
        l->ctx = ctx;

        const struct starter_thread thread = {
                .role = SANDBOX_DEVICE, .name = thread_name, .run = loop_thread, .ctx = l,
        };
        int rc = set_up(l, e);

        if (rc == 0) {
                rc = -starter_start(starter, &thread, &l->thread);
                if (rc < 0)
                        err_set(e, -rc, "start the thread of a device");
        }
        if (rc < 0) {
                virtio_loop_free(l);
                return rc;
        }
        l->runs = true;
        *ret = l;
        return 0;
}

void virtio_loop_ring(struct virtio_loop *l)
{
        uint64_t one = 1;

        (void)!write(l->door_fd, &one, sizeof(one));
}

void virtio_loop_free(struct virtio_loop *l)
{
        if (!l)
                return;
        l->ends = true;
        if (l->runs) {
                virtio_loop_ring(l);
                pthread_join(l->thread, NULL);
        }
        if (l->door)
                event_free(l->door);
        if (l->base)
                event_base_free(l->base);
        fd_close(&l->door_fd);
        free(l);
}

/* ---- watches ------------------------------------------------------------- */

static void on_event(evutil_socket_t fd, short what, void *ctx)
{
        struct virtio_watch *w = ctx;

        (void)fd, (void)what;
        w->fn(w->ctx);
}

static int watch_new(struct virtio_loop *l, int fd, short what, virtio_watch_fn *fn, void *ctx,
                     struct virtio_watch **ret, struct err *e)
{
        struct virtio_watch *w = calloc(1, sizeof(*w));

        if (w)
                w->event = event_new(l->base, fd, what, on_event, w);
        if (!w || !w->event) {
                free(w);
                return err_msg(e, ENOMEM, "no memory for the events of a device");
        }
        w->fn = fn;
        w->ctx = ctx;
        *ret = w;
        return 0;
}

int virtio_watch_readable(struct virtio_loop *l, int fd, virtio_watch_fn *fn, void *ctx,
                          struct virtio_watch **ret, struct err *e)
{
        return watch_new(l, fd, EV_READ | EV_PERSIST, fn, ctx, ret, e);
}

int virtio_watch_writable(struct virtio_loop *l, int fd, virtio_watch_fn *fn, void *ctx,
                          struct virtio_watch **ret, struct err *e)
{
        return watch_new(l, fd, EV_WRITE | EV_PERSIST, fn, ctx, ret, e);
}

int virtio_watch_timer(struct virtio_loop *l, virtio_watch_fn *fn, void *ctx,
                       struct virtio_watch **ret, struct err *e)
{
        return watch_new(l, -1, 0, fn, ctx, ret, e);
}

void virtio_watch_on(struct virtio_watch *w)
{
        /* fails for lack of memory at a descriptor's first time only: the thread ends then,
         * and with it what the guest can expect of the device */
        ASSERT(event_add(w->event, NULL) == 0);
}

void virtio_watch_off(struct virtio_watch *w)
{
        event_del(w->event);
}

void virtio_watch_after(struct virtio_watch *timer, uint64_t ns)
{
        struct timeval tv = {
                .tv_sec = (time_t)(ns / NS_PER_SEC),
                .tv_usec = (suseconds_t)(ns % NS_PER_SEC / NS_PER_US),
        };

        event_add(timer->event, &tv);
}

void virtio_watch_free(struct virtio_watch *w)
{
        if (!w)
                return;
        event_free(w->event);
        free(w);
}
