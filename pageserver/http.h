/* SPDX-License-Identifier: Apache-2.0 */
/* http.h - the page server's door for those who watch and steer it.
 *
 *   GET /healthz                 {}
 *   GET /clients                 array, see metrics-json.c
 *   GET /clients/ID              one of them
 *   GET /caches                  array
 *   GET /metrics                 for Prometheus
 *   PUT /clients/ID/prefetch     {"rate": "on"|"off"|RATE|"pause"|"resume"}
 *   PUT /prefetch                the same for all clients that are being served
 *
 * Errors are {"error": "sentence"} with 400, 403, 404, 405, 409 or 503; what is no HTTP,
 * or too long, gets evhttp's own answer. One request for each connection. On a TCP port,
 * where everybody of this host may connect, nothing but GET is allowed, and only under
 * the host's own names, so that no web page can ask through a browser.
 *
 * Threads: main thread. It is never on the way of a fault: the workers are other
 *          threads, and what it reads of them is atomic.
 */
#ifndef PAGESERVER_HTTP_H
#define PAGESERVER_HTTP_H

#include "common/err.h"
#include "pageserver/member.h"

#define HTTP_BODY_MAX (4u << 10)
#define HTTP_HEADERS_MAX (8u << 10)
/* Whoever watches a server needs one or two. The others wait in the kernel. */
#define HTTP_CONNS_MAX 16
/* From accepting a connection to the last byte of its answer. */
#define HTTP_CONN_SECONDS 10

struct http;

/* address: see http-address.h. Borrowed, as members are; they outlive it. */
int http_open(const char *address, struct members *members, struct http **ret, struct err *e);
void http_close(struct http *http);

#endif
