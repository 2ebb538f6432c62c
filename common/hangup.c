/* SPDX-License-Identifier: Apache-2.0 */
#include "common/hangup.h"

#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>

/* Theory of operation
 *
 * An edge for whatever comes: bytes that lie there and are not taken tell once. The end does
 * not show by reading, with bytes before it, but by POLLRDHUP. Where the loop knows no edges
 * a peer that sends on is not watched any further. (EV_CLOSED is no help: libevent 2.1 gives
 * an error of the socket to readers and writers only, and would turn for ever.)
 */
struct hangup {
        struct event *event;
        hangup_fn *gone;
        void *ctx;
};

static bool is_gone(int fd)
{
        struct pollfd p = { .fd = fd, .events = POLLRDHUP };

        return poll(&p, 1, 0) == 1;
}

static void on_event(evutil_socket_t fd, short what, void *ctx)
{
        struct hangup *h = ctx;

        (void)what;
        if (!is_gone(fd))
                return;
        event_del(h->event);
        h->gone(h->ctx);
}

struct hangup *hangup_new(struct event_base *base, int fd, hangup_fn *gone, void *ctx)
{
        bool edges = event_base_get_features(base) & EV_FEATURE_ET;
        struct hangup *h = calloc(1, sizeof(*h));

        if (!h)
                return NULL;
        *h = (struct hangup){ .gone = gone, .ctx = ctx };
        h->event = event_new(base, fd, EV_READ | (edges ? EV_ET | EV_PERSIST : 0), on_event, h);
        if (!h->event || event_add(h->event, NULL) < 0) {
                hangup_free(h);
                return NULL;
        }
        return h;
}

void hangup_free(struct hangup *h)
{
        if (!h)
                return;
        if (h->event)
                event_free(h->event);
        free(h);
}
