/* SPDX-License-Identifier: Apache-2.0 */
#include "common/http-conns.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "common/check.h"
#include "common/clock.h"

/* Theory of operation
 *
 * libevent 2.1 asks us for the bufferevent of each connection it accepts, and says
 * nothing when it is done with it. So we keep a reference: evhttp's own "free" then
 * takes its callbacks off but leaves socket and struct to us, which is how we see
 * that it was there. We look at every new connection, and now and then.
 *
 * A connection whose time is up, or who says more than any request may, is shut down, not
 * freed: evhttp is told that its time is up and does the rest. When all places are taken we
 * do not accept; the kernel keeps those who come, and refuses them when its queue is full.
 *
 * INV-STUFFED: no connection whose input is full waits for more. libevent would call evhttp
 *              again and again, which waits for the end of a line, and would not look at the
 *              socket any more. No request that is allowed fills the input; who does is seen
 *              by his bytes and ended in the same turn of the loop.
 */

/* while all places are taken, and else: for what is overdue, and to accept again
 * after an error */
#define FULL_LOOK_MS 50
#define LOOK_MS 1000
/* the end of time of a connection that waits for its answer: evhttp does not read it */
#define HELD UINT64_MAX

struct conn {
        struct bufferevent *bev;
        uint64_t end_ns;
};

struct http_conns {
        struct event_base *base;
        struct evconnlistener *listener;        /* evhttp's, while that lives */
        struct event *look;
        struct http_conns_limits limits;
        unsigned n;
        struct conn conn[];                     /* limits.max */
};

static bool is_done(const struct conn *c)
{
        bufferevent_data_cb readable, writable;
        bufferevent_event_cb event;

        bufferevent_getcb(c->bev, &readable, &writable, &event, NULL);
        return !readable && !writable && !event;
}

static void drop_done(struct http_conns *c)
{
        for (unsigned i = c->n; i-- > 0;) {
                if (!is_done(&c->conn[i]))
                        continue;
                bufferevent_decref(c->conn[i].bev);     /* closes */
                c->conn[i] = c->conn[--c->n];
        }
}

/* INV-STUFFED. While evhttp writes an answer it has no use for input, and does not ask for it. */
static bool is_stuffed(const struct http_conns *c, const struct conn *conn)
{
        bufferevent_data_cb readable, writable;
        bufferevent_event_cb event;

        bufferevent_getcb(conn->bev, &readable, &writable, &event, NULL);
        return readable &&
               evbuffer_get_length(bufferevent_get_input(conn->bev)) >= c->limits.input_bytes;
}

static void end_overdue(struct http_conns *c, uint64_t now_ns)
{
        for (unsigned i = 0; i < c->n; i++) {
                struct bufferevent *bev = c->conn[i].bev;

                if (is_done(&c->conn[i]) || c->conn[i].end_ns == HELD ||
                    (now_ns < c->conn[i].end_ns && !is_stuffed(c, &c->conn[i])))
                        continue;
                shutdown(bufferevent_getfd(bev), SHUT_RDWR);
                /* evhttp takes it for its own time limit: it need not read to find out */
                bufferevent_trigger_event(bev, BEV_EVENT_TIMEOUT | BEV_EVENT_READING, 0);
        }
}

static uint64_t end_of_time(const struct http_conns *c)
{
        return clock_now_ns() + c->limits.seconds * NS_PER_SEC;
}

static void look_again(struct http_conns *c)
{
        unsigned ms = c->n == c->limits.max ? FULL_LOOK_MS : LOOK_MS;
        struct timeval wait = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

        event_add(c->look, &wait);
}

static void on_look(evutil_socket_t fd, short what, void *arg)
{
        struct http_conns *c = arg;

        (void)fd;
        (void)what;
        drop_done(c);
        end_overdue(c, clock_now_ns());
        if (c->n < c->limits.max)
                evconnlistener_enable(c->listener);
        look_again(c);
}

static void on_input(struct evbuffer *in, const struct evbuffer_cb_info *info, void *arg)
{
        struct http_conns *c = arg;

        (void)info;
        if (evbuffer_get_length(in) >= c->limits.input_bytes)
                event_active(c->look, EV_TIMEOUT, 0);
}

static struct bufferevent *on_accepted(struct event_base *base, void *arg)
{
        struct http_conns *c = arg;

        drop_done(c);

        /* without one from us evhttp makes its own, which only its timeout ends */
        struct bufferevent *bev = c->n == c->limits.max ? NULL :
                                  bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);

        if (!bev)
                return NULL;
        /* without memory for it the look of each second finds who fills it */
        (void)evbuffer_add_cb(bufferevent_get_input(bev), on_input, c);
        bufferevent_setwatermark(bev, EV_READ, 0, c->limits.input_bytes);
        bufferevent_incref(bev);
        c->conn[c->n++] = (struct conn){ .bev = bev, .end_ns = end_of_time(c) };
        if (c->n == c->limits.max) {
                evconnlistener_disable(c->listener);
                look_again(c);
        }
        return bev;
}

/* Out of descriptors, most likely: without a pause we would be told again at once. */
static void on_accept_error(struct evconnlistener *listener, void *arg)
{
        (void)arg;
        evconnlistener_disable(listener);
}

static int start(struct http_conns *c, struct evhttp *evhttp, int fd)
{
        c->look = evtimer_new(c->base, on_look, c);
        c->listener = evconnlistener_new(c->base, NULL, NULL, LEV_OPT_CLOSE_ON_EXEC, 0, fd);
        if (!c->look || !c->listener)
                return -ENOMEM;
        evconnlistener_set_error_cb(c->listener, on_accept_error);
        evhttp_set_bevcb(evhttp, on_accepted, c);
        if (!evhttp_bind_listener(evhttp, c->listener)) {
                evconnlistener_free(c->listener);
                return -ENOMEM;
        }
        look_again(c);
        return 0;
}

static void set_end(struct http_conns *c, const struct bufferevent *bev, uint64_t end_ns)
{
        for (unsigned i = 0; i < c->n; i++) {
                if (c->conn[i].bev == bev)
                        c->conn[i].end_ns = end_ns;
        }
}

void http_conns_hold(struct http_conns *c, struct bufferevent *bev)
{
        set_end(c, bev, HELD);
        bufferevent_set_timeouts(bev, NULL, NULL);
}

void http_conns_release(struct http_conns *c, struct bufferevent *bev)
{
        set_end(c, bev, end_of_time(c));
}

int http_conns_new(struct event_base *base, struct evhttp *evhttp, int fd,
                   const struct http_conns_limits *limits, struct http_conns **ret,
                   struct err *e)
{
        struct http_conns *c = calloc(1, sizeof(*c) + limits->max * sizeof(c->conn[0]));
        int rc = -ENOMEM;

        if (c) {
                c->base = base;
                c->limits = *limits;
                rc = start(c, evhttp, fd);
        }
        if (rc < 0) {
                http_conns_free(c);
                return err_set(e, -rc, "HTTP connections");
        }
        *ret = c;
        return 0;
}

void http_conns_free(struct http_conns *c)
{
        if (!c)
                return;
        for (unsigned i = 0; i < c->n; i++)
                bufferevent_decref(c->conn[i].bev);
        if (c->look)
                event_free(c->look);
        free(c);
}
