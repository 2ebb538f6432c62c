/* SPDX-License-Identifier: Apache-2.0 */
/* exchange.h - one HTTP request to vmm serve and its answer.
 *
 * Life: made by a door when the request has come whole; answered once, at once or later, which
 *       ends it. One that is answered later is held, and its owner told when the client goes
 *       away; answering is still right then, and the only way to end it.
 * Threads: the loop's.
 */
#ifndef VMM_SERVE_EXCHANGE_H
#define VMM_SERVE_EXCHANGE_H

#include <event2/http.h>
#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/http-conns.h"

/* of a body; a longer one that evhttp still takes gets a JSON answer */
#define EXCHANGE_BODY_MAX (64u << 10)
#define EXCHANGE_HEADERS_MAX (16u << 10)

struct exchange;
/* The client has hung up. */
typedef void exchange_gone_fn(void *ctx);

/* NULL: no memory, and evhttp has answered. */
struct exchange *exchange_new(struct evhttp_request *http, struct http_conns *conns,
                              struct event_base *base);

uint64_t exchange_start_ns(const struct exchange *x);
enum evhttp_cmd_type exchange_method(const struct exchange *x);
/* decoded no further than evhttp does; NULL = none */
const char *exchange_path(const struct exchange *x);
const char *exchange_header(const struct exchange *x, const char *name);
/* Not terminated. */
const char *exchange_body(const struct exchange *x, size_t *ret_bytes);
/* of the connection */
int exchange_socket(const struct exchange *x);

/* Of the answer, before it. */
void exchange_add_header(struct exchange *x, const char *name, const char *value);

/* Until it is answered. gone: once at most. */
void exchange_hold(struct exchange *x, exchange_gone_fn *gone, void *ctx);

/* The answer comes in lines, and begins now: 200. x is held, as above; it ends by
 * exchange_end_lines(), or exchange_drop(). */
void exchange_begin_lines(struct exchange *x, exchange_gone_fn *gone, void *ctx);
/* One more, of JSON, unless the client does not read them; the last one in any case. */
void exchange_line(struct exchange *x, struct json_object *o, bool last);

/* Each of these ends x. */
void exchange_end_lines(struct exchange *x);
void exchange_reply(struct exchange *x, int status, struct json_object *o);
void exchange_reply_text(struct exchange *x, int status, const char *type, const char *text,
                         size_t bytes);
void exchange_refuse(struct exchange *x, int status, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
/* with the status that fits the error, see exchange_status() */
void exchange_fail(struct exchange *x, const struct err *e);
/* Without an answer: the server ends. */
void exchange_drop(struct exchange *x);

/* code: of a struct err */
int exchange_status(int code);

#endif
