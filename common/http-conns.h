/* SPDX-License-Identifier: Apache-2.0 */
/* http-conns.h - how many HTTP connections there may be, and for how long.
 *
 * evhttp limits headers, bodies and silence, but neither the number of connections
 * nor the time of one that sends a byte now and then.
 *
 * Threads: the loop's.
 */
#ifndef COMMON_HTTP_CONNS_H
#define COMMON_HTTP_CONNS_H

#include <event2/bufferevent.h>
#include <event2/http.h>
#include <stddef.h>

#include "common/err.h"

struct http_conns_limits {
        unsigned max;                   /* the others wait in the kernel */
        unsigned seconds;               /* from accepting one to the last byte of its answer */
        /* That are read ahead: more than a request may have, for evhttp wants a body whole.
         * What a client sends on after its request stays in the kernel. */
        size_t input_bytes;
};

struct http_conns;

/* Lets evhttp, which is new, accept what comes to fd (listening, non-blocking; borrowed)
 * within the limits. Free it after evhttp. */
int http_conns_new(struct event_base *base, struct evhttp *evhttp, int fd,
                   const struct http_conns_limits *limits, struct http_conns **ret,
                   struct err *e);
void http_conns_free(struct http_conns *c);

/* The time that we take to answer is not the client's, nor is its silence meanwhile: both of its
 * limits end with hold(), and release() gives it all of its time to take the answer. */
void http_conns_hold(struct http_conns *c, struct bufferevent *bev);
void http_conns_release(struct http_conns *c, struct bufferevent *bev);

#endif
