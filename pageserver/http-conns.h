/* SPDX-License-Identifier: Apache-2.0 */
/* http-conns.h - how many HTTP connections there may be, and for how long.
 *
 * evhttp limits headers, bodies and silence, but neither the number of connections
 * nor the time of one that sends a byte now and then.
 *
 * Threads: the loop's.
 */
#ifndef PAGESERVER_HTTP_CONNS_H
#define PAGESERVER_HTTP_CONNS_H

#include <event2/http.h>

#include "common/err.h"

/* Whoever watches a server needs one or two. The others wait in the kernel. */
#define HTTP_CONNS_MAX 16
/* From accepting a connection to the last byte of its answer. */
#define HTTP_CONN_SECONDS 10

struct http_conns;

/* Lets evhttp, which is new, accept what comes to fd (listening, non-blocking; borrowed)
 * within the limits. Free it after evhttp. */
int http_conns_new(struct event_base *base, struct evhttp *evhttp, int fd,
                   struct http_conns **ret, struct err *e);
void http_conns_free(struct http_conns *c);

#endif
