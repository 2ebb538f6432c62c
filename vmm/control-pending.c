/* SPDX-License-Identifier: Apache-2.0 */
/* requests that are answered later */
#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/hangup.h"
#include "common/json.h"
#include "vmm/control-priv.h"
#include "vmm/vm.h"

/* Theory of operation
 *
 * How a client that hangs up is noticed: once the first part of an answer is out evhttp reads
 * again, and tells of the end by on_closed(). Before that, and for answers in one piece, it
 * does not, and common/hangup.h looks; evhttp must not read, for it ends the process when it
 * reads a byte before the answer.
 *
 * evhttp lets go of the request when it closes the connection under it: answering it
 * afterwards only frees it.
 */

/* what a client that does not read may have us keep: the parts of some seconds */
#define UNREAD_MAX (64u << 10)

static struct bufferevent *connection_of(const struct pending *p)
{
        struct evhttp_connection *c = evhttp_request_get_connection(p->http);

        return c ? evhttp_connection_get_bufferevent(c) : NULL;
}

static void tell_gone(struct pending *p)
{
        if (p->gone)
                p->gone(p->control);
}

static void on_closed(struct evhttp_connection *connection, void *ctx)
{
        (void)connection;
        tell_gone(ctx);
}

static void on_hangup(void *ctx)
{
        tell_gone(ctx);
}

static void begin(struct pending *p, struct evhttp_request *http, pending_gone_fn *gone)
{
        ASSERT(!p->http);
        p->http = http;
        p->gone = gone;
        http_conns_hold(p->control->conns, connection_of(p));
        evhttp_connection_set_closecb(evhttp_request_get_connection(http), on_closed, p);
}

/* Nothing more is to be heard of the client. */
static void end(struct pending *p)
{
        struct evhttp_connection *c = evhttp_request_get_connection(p->http);

        if (c) {
                evhttp_connection_set_closecb(c, NULL, NULL);
                http_conns_release(p->control->conns, connection_of(p));
        }
        hangup_free(ptr_take(&p->hangup));
        p->in_parts = false;
        p->http = NULL;
}

void pending_wait(struct pending *p, struct evhttp_request *http, pending_gone_fn *gone)
{
        begin(p, http, gone);
        if (gone)
                p->hangup = hangup_new(p->control->vm->base, bufferevent_getfd(connection_of(p)),
                                       on_hangup, p);
}

void pending_wait_in_parts(struct pending *p, struct evhttp_request *http,
                           pending_gone_fn *gone)
{
        begin(p, http, gone);
        p->in_parts = true;
        control_add_headers(http, "application/x-ndjson");
        evhttp_send_reply_start(http, HTTP_OK, NULL);
}

static void send_part(struct pending *p, struct json_object *o)
{
        struct evbuffer *buf = evbuffer_new();

        if (!buf)
                return;
        evbuffer_add_printf(buf, "%s\n", json_object_to_json_string_ext(o,
                                                                        JSON_C_TO_STRING_PLAIN));
        evhttp_send_reply_chunk(p->http, buf);
        evbuffer_free(buf);
}

void pending_tell(struct pending *p, struct json_object *part)
{
        struct bufferevent *c = p->http ? connection_of(p) : NULL;

        if (c && evbuffer_get_length(bufferevent_get_output(c)) < UNREAD_MAX)
                send_part(p, part);
}

void pending_answer(struct pending *p, struct json_object *result, const struct err *e)
{
        struct evhttp_request *http = p->http;
        AUTO_JSON *failure = NULL;

        if (!http)
                return;
        if (!p->in_parts) {
                end(p);
                if (result)
                        control_reply(p->control, http, HTTP_OK, result);
                else
                        control_reply_result(p->control, http, e->code, e);
                return;
        }
        if (!result) {
                failure = json_object_new_object();
                json_put_str(failure, "error", e->text);
        }
        send_part(p, result ? result : failure);
        end(p);
        control_before_end(p->control, http);
        evhttp_send_reply_end(http);
}

void pending_drop(struct pending *p)
{
        struct evhttp_request *http = p->http;

        if (!http)
                return;
        end(p);
        if (!evhttp_request_get_connection(http))
                evhttp_request_free(http);
}
