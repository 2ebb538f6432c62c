/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/imagewatch.h"

#include <stdbool.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "common/auto.h"

/* a message names no file: it is one that is watched, not a folder */
#define BURST_BYTES (64 * sizeof(struct inotify_event))

struct imagewatch {
        int fd;
        int watch;                      /* -1 = none */
        struct event *event;
        imagewatch_fn *changed;
        void *ctx;
};

static void forget(struct imagewatch *w)
{
        if (w->watch >= 0)
                (void)inotify_rm_watch(w->fd, w->watch);        /* it may have gone by itself */
        w->watch = -1;
}

/* What is left of an earlier file is not about this one: a number is not used again. */
static bool says_of(const struct imagewatch *w, const char *buf, size_t bytes)
{
        bool found = false;

        for (size_t at = 0; at + sizeof(struct inotify_event) <= bytes; ) {
                const struct inotify_event *ev = (const void *)(buf + at);

                found |= ev->wd == w->watch || ev->mask & IN_Q_OVERFLOW;
                at += sizeof(*ev) + ev->len;
        }
        return found;
}

static void on_readable(evutil_socket_t fd, short what, void *ctx)
{
        struct imagewatch *w = ctx;
        _Alignas(struct inotify_event) char buf[BURST_BYTES];
        ssize_t n = read(fd, buf, sizeof(buf));

        (void)what;
        if (n <= 0 || w->watch < 0 || !says_of(w, buf, (size_t)n))
                return;
        forget(w);
        w->changed(w->ctx);
}

struct imagewatch *imagewatch_new(struct event_base *base, imagewatch_fn *changed, void *ctx)
{
        struct imagewatch *w = calloc(1, sizeof(*w));

        if (!w)
                return NULL;
        *w = (struct imagewatch){
                .fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK), .watch = -1, .changed = changed,
                .ctx = ctx,
        };
        if (w->fd >= 0)
                w->event = event_new(base, w->fd, EV_READ | EV_PERSIST, on_readable, w);
        if (!w->event || event_add(w->event, NULL) < 0) {
                imagewatch_free(w);
                return NULL;
        }
        return w;
}

void imagewatch_set(struct imagewatch *w, const char *path)
{
        if (!w)
                return;
        forget(w);
        if (path)
                w->watch = inotify_add_watch(w->fd, path, IN_MODIFY | IN_ATTRIB | IN_MOVE_SELF |
                                             IN_DELETE_SELF);
}

void imagewatch_free(struct imagewatch *w)
{
        if (!w)
                return;
        if (w->event)
                event_free(w->event);
        fd_close(&w->fd);
        free(w);
}
