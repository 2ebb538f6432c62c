/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/exchange.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/hangup.h"
#include "common/json.h"

/* what a client that does not read may have us keep: the lines of some seconds */
#define UNREAD_MAX (64u << 10)

/* One request for each connection: what a client sends behind it is never read. */
struct exchange {
        struct evhttp_request *http;
        struct http_conns *conns;
        struct event_base *base;
        uint64_t start_ns;
        const char *body;
        size_t body_bytes;
        /* while it is held */
        struct hangup *hangup;
        exchange_gone_fn *gone;
        void *ctx;
};

static struct bufferevent *connection_of(const struct exchange *x)
{
        struct evhttp_connection *c = evhttp_request_get_connection(x->http);

        return c ? evhttp_connection_get_bufferevent(c) : NULL;
}

struct exchange *exchange_new(struct evhttp_request *http, struct http_conns *conns,
                              struct event_base *base)
{
        struct evbuffer *in = evhttp_request_get_input_buffer(http);
        struct exchange *x = calloc(1, sizeof(*x));

        if (!x) {
                evhttp_send_error(http, HTTP_INTERNAL, NULL);
                return NULL;
        }
        *x = (struct exchange){
                .http = http, .conns = conns, .base = base, .start_ns = clock_now_ns(),
                .body_bytes = evbuffer_get_length(in), .body = "",
        };
        if (x->body_bytes)
                x->body = (const char *)evbuffer_pullup(in, -1);
        if (!x->body)
                x->body_bytes = 0;
        return x;
}

uint64_t exchange_start_ns(const struct exchange *x)
{
        return x->start_ns;
}

enum evhttp_cmd_type exchange_method(const struct exchange *x)
{
        return evhttp_request_get_command(x->http);
}

const char *exchange_path(const struct exchange *x)
{
        const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(x->http);

        return uri ? evhttp_uri_get_path(uri) : NULL;
}

const char *exchange_header(const struct exchange *x, const char *name)
{
        return evhttp_find_header(evhttp_request_get_input_headers(x->http), name);
}

const char *exchange_body(const struct exchange *x, size_t *ret_bytes)
{
        *ret_bytes = x->body_bytes;
        return x->body;
}

int exchange_socket(const struct exchange *x)
{
        struct bufferevent *bev = connection_of(x);

        return bev ? (int)bufferevent_getfd(bev) : -1;
}

void exchange_add_header(struct exchange *x, const char *name, const char *value)
{
        evhttp_add_header(evhttp_request_get_output_headers(x->http), name, value);
}

/* ---- waiting ------------------------------------------------------------------- */

static void on_hangup(void *ctx)
{
        struct exchange *x = ctx;

        x->gone(x->ctx);
}

void exchange_hold(struct exchange *x, exchange_gone_fn *gone, void *ctx)
{
        struct bufferevent *bev = connection_of(x);

        ASSERT(!x->hangup);
        x->gone = gone;
        x->ctx = ctx;
        if (!bev)
                return;
        http_conns_hold(x->conns, bev);
        if (gone)
                x->hangup = hangup_new(x->base, bufferevent_getfd(bev), on_hangup, x);
}

static void end(struct exchange *x)
{
        struct bufferevent *bev = connection_of(x);

        if (bev)
                http_conns_release(x->conns, bev);
        hangup_free(x->hangup);
        free(x);
}

/* ---- lines --------------------------------------------------------------------- */

static void on_closed(struct evhttp_connection *c, void *ctx)
{
        struct exchange *x = ctx;

        (void)c;
        x->gone(x->ctx);
}

/* evhttp reads again from here on, and is who notices the end. */
void exchange_begin_lines(struct exchange *x, exchange_gone_fn *gone, void *ctx)
{
        struct evhttp_connection *c = evhttp_request_get_connection(x->http);

        hangup_free(ptr_take(&x->hangup));
        x->gone = gone;
        x->ctx = ctx;
        exchange_add_header(x, "Content-Type", "application/x-ndjson");
        exchange_add_header(x, "Connection", "close");
        if (!c)
                return;
        http_conns_hold(x->conns, connection_of(x));
        evhttp_connection_set_closecb(c, on_closed, x);
        evhttp_send_reply_start(x->http, HTTP_OK, NULL);
}

void exchange_line(struct exchange *x, struct json_object *o, bool last)
{
        const int flags = JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE;
        struct bufferevent *bev = connection_of(x);
        struct evbuffer *line;

        if (!bev || (!last && evbuffer_get_length(bufferevent_get_output(bev)) >= UNREAD_MAX))
                return;
        line = evbuffer_new();
        if (!line)
                return;
        evbuffer_add_printf(line, "%s\n", json_object_to_json_string_ext(o, flags));
        evhttp_send_reply_chunk(x->http, line);
        evbuffer_free(line);
}

void exchange_end_lines(struct exchange *x)
{
        struct evhttp_connection *c = evhttp_request_get_connection(x->http);
        struct evhttp_request *http = x->http;

        if (c)
                evhttp_connection_set_closecb(c, NULL, NULL);
        end(x);
        evhttp_send_reply_end(http);
}

/* ---- answers ------------------------------------------------------------------- */

void exchange_reply_text(struct exchange *x, int status, const char *type, const char *text,
                         size_t bytes)
{
        struct evhttp_request *http = x->http;
        struct evbuffer *body = evbuffer_new();

        exchange_add_header(x, "Content-Type", type);
        exchange_add_header(x, "Connection", "close");
        if (body)
                evbuffer_add(body, text, bytes);
        end(x);
        evhttp_send_reply(http, status, NULL, body);
        if (body)
                evbuffer_free(body);
}

void exchange_reply(struct exchange *x, int status, struct json_object *o)
{
        const int flags = JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE;
        AUTO_FREE char *text = NULL;
        int n = asprintf(&text, "%s\n", json_object_to_json_string_ext(o, flags));

        if (n < 0)
                text = NULL;
        exchange_reply_text(x, status, "application/json", text ? text : "", text ? (size_t)n : 0);
}

static void refuse(struct exchange *x, int status, const char *sentence)
{
        AUTO_JSON *o = json_object_new_object();

        json_put_str(o, "error", sentence);
        exchange_reply(x, status, o);
}

void exchange_refuse(struct exchange *x, int status, const char *fmt, ...)
{
        char sentence[ERR_TEXT_MAX];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(sentence, sizeof(sentence), fmt, ap);
        va_end(ap);
        refuse(x, status, sentence);
}

int exchange_status(int code)
{
        switch (code) {
        case -EINVAL: case -EBADMSG: case -ENAMETOOLONG: case -ERANGE: case -ENOENT:
        case -ENOTDIR: case -EISDIR: case -EACCES: case -EPERM: case -ENOTSUP: case -EXDEV:
        case -EMLINK: case -ELOOP: case -ENODATA: case -E2BIG:
                return 400;
        case -ESRCH:
                return 404;
        case -EEXIST: case -EBUSY: case -ESTALE: case -ECANCELED:
                return 409;
        case -ENOMEM: case -EAGAIN: case -EMFILE: case -ENFILE: case -ENOSPC:
                return 503;
        case -ETIMEDOUT:
                return 504;
        default:
                return 500;
        }
}

void exchange_fail(struct exchange *x, const struct err *e)
{
        refuse(x, exchange_status(e->code), e->text);
}

void exchange_drop(struct exchange *x)
{
        struct evhttp_connection *c = evhttp_request_get_connection(x->http);
        struct evhttp_request *http = x->http;
        bool alone = !connection_of(x);

        if (c)
                evhttp_connection_set_closecb(c, NULL, NULL);
        end(x);
        if (alone)                      /* else it goes with its connection */
                evhttp_request_free(http);
}
