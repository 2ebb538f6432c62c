/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/http.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/http.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/http-conns.h"
#include "common/json.h"
#include "common/rate.h"
#include "pageserver/http-address.h"
#include "pageserver/metrics.h"

/* without a byte from or to a client */
#define SILENCE_SECONDS 5

struct http {
        struct members *members;
        struct listen_socket socket;
        struct evhttp *evhttp;
        struct http_conns *conns;
};

struct request {
        struct http *http;
        struct evhttp_request *evhttp;
        unsigned id;                    /* in the path, where its route has a '*' */
};

/* ---- answers ---------------------------------------------------------------- */

static void reply(struct request *r, int status, const char *type, struct evbuffer *body)
{
        struct evkeyvalq *headers = evhttp_request_get_output_headers(r->evhttp);

        evhttp_add_header(headers, "Content-Type", type);
        evhttp_add_header(headers, "Connection", "close");
        evhttp_send_reply(r->evhttp, status, NULL, body);
}

static void reply_json(struct request *r, int status, struct json_object *o)
{
        const int flags = JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE;
        struct evbuffer *body = evbuffer_new();

        if (body)
                evbuffer_add_printf(body, "%s\n", json_object_to_json_string_ext(o, flags));
        reply(r, status, "application/json", body);
        if (body)
                evbuffer_free(body);
}

static void reply_error(struct request *r, int status, const char *sentence)
{
        AUTO_JSON *o = json_object_new_object();

        json_put_str(o, "error", sentence);
        reply_json(r, status, o);
}

static void reply_no_client(struct request *r)
{
        reply_error(r, 404, "there is no such client: see GET /clients");
}

/* ---- what is asked for -------------------------------------------------------- */

static void get_health(struct request *r)
{
        AUTO_JSON *o = json_object_new_object();

        reply_json(r, 200, o);
}

static struct json_object *client_json(struct session *s)
{
        struct metrics_client c;

        metrics_look_at_client(s, clock_now_ns(), &c);
        return metrics_client_json(&c);
}

static void get_clients(struct request *r)
{
        AUTO_JSON *list = json_object_new_array();
        struct session *s[SESSIONS_MAX];
        unsigned n = members_list(r->http->members, s);

        for (unsigned i = 0; i < n; i++)
                json_object_array_add(list, client_json(s[i]));
        reply_json(r, 200, list);
}

static struct session *find_client(struct request *r)
{
        struct session *s[SESSIONS_MAX];
        unsigned n = members_list(r->http->members, s);

        for (unsigned i = 0; i < n; i++) {
                if (session_id(s[i]) == r->id)
                        return s[i];
        }
        return NULL;
}

static void get_client(struct request *r)
{
        struct session *s = find_client(r);

        if (!s) {
                reply_no_client(r);
                return;
        }

        AUTO_JSON *o = client_json(s);

        reply_json(r, 200, o);
}

static void get_caches(struct request *r)
{
        AUTO_JSON *list = json_object_new_array();

        for (const struct cache *c = r->http->members->host->caches.first; c;
             c = cache_next(c)) {
                struct metrics_cache m;

                metrics_look_at_cache(c, &m);
                json_object_array_add(list, metrics_cache_json(&m));
        }
        reply_json(r, 200, list);
}

static void free_text(const void *data, size_t bytes, void *text)
{
        (void)data;
        (void)bytes;
        free(text);
}

static void get_metrics(struct request *r)
{
        struct evbuffer *body = evbuffer_new();
        char *text = NULL;
        size_t bytes;

        if (!body || metrics_print(r->http->members, &text, &bytes) < 0 ||
            evbuffer_add_reference(body, text, bytes, free_text, text) < 0) {
                free(text);
                reply_error(r, 503, "no memory for the metrics");
        } else {
                reply(r, 200, METRICS_TEXT_TYPE, body);
        }
        if (body)
                evbuffer_free(body);
}

/* ---- orders -------------------------------------------------------------------- */

static int take_order(struct request *r, struct rate_order *ret, struct err *e)
{
        struct evbuffer *in = evhttp_request_get_input_buffer(r->evhttp);
        size_t bytes = evbuffer_get_length(in);
        const char *body = bytes ? (const char *)evbuffer_pullup(in, -1) : "";

        if (!body)
                return err_msg(e, ENOMEM, "no memory for the request");
        return rate_order_parse_json(body, bytes, ret, e);
}

static void put_client_prefetch(struct request *r)
{
        struct session *s = find_client(r);
        struct rate_order order;
        struct err e;

        if (!s) {
                reply_no_client(r);
        } else if (take_order(r, &order, &e) < 0) {
                reply_error(r, 400, e.text);
        } else if (session_order_prefetch(s, &order, &e) < 0) {
                reply_error(r, 409, e.text);
        } else {
                members_kick(r->http->members);
                get_client(r);
        }
}

static void put_prefetch(struct request *r)
{
        struct session *s[SESSIONS_MAX];
        unsigned n = members_list(r->http->members, s);
        struct rate_order order;
        unsigned taken = 0;
        struct err e;

        if (take_order(r, &order, &e) < 0) {
                reply_error(r, 400, e.text);
                return;
        }
        for (unsigned i = 0; i < n; i++)
                taken += session_order_prefetch(s[i], &order, NULL) == 0;
        members_kick(r->http->members);

        AUTO_JSON *o = json_object_new_object();

        json_put_u64(o, "clients", taken);
        reply_json(r, 200, o);
}

/* ---- routes -------------------------------------------------------------------- */

static const struct route {
        const char *path;               /* '*' = a client's id */
        enum evhttp_cmd_type method;
        void (*act)(struct request *r);
} routes[] = {
        { "/healthz", EVHTTP_REQ_GET, get_health },
        { "/clients", EVHTTP_REQ_GET, get_clients },
        { "/clients/*", EVHTTP_REQ_GET, get_client },
        { "/clients/*/prefetch", EVHTTP_REQ_PUT, put_client_prefetch },
        { "/prefetch", EVHTTP_REQ_PUT, put_prefetch },
        { "/caches", EVHTTP_REQ_GET, get_caches },
        { "/metrics", EVHTTP_REQ_GET, get_metrics },
};

static bool take_id(const char **path, unsigned *ret)
{
        unsigned id = 0;
        const char *p = *path;

        /* at most 9 digits: it cannot overflow */
        while (*p >= '0' && *p <= '9' && p - *path < 9)
                id = id * 10 + (unsigned)(*p++ - '0');
        if (p == *path)
                return false;
        *path = p;
        *ret = id;
        return true;
}

static bool path_is(const char *path, const char *pattern, unsigned *ret_id)
{
        for (; *pattern; pattern++) {
                if (*pattern == '*') {
                        if (!take_id(&path, ret_id))
                                return false;
                } else if (*path++ != *pattern) {
                        return false;
                }
        }
        return !*path;
}

/* A page of any web site may send a browser to a port of this host, under a name of its
 * own that leads here. */
static bool host_is_ours(struct evhttp_request *evhttp)
{
        static const char *const names[] = { "127.0.0.1", "[::1]", "localhost" };
        const char *host = evhttp_find_header(evhttp_request_get_input_headers(evhttp), "Host");

        for (size_t i = 0; host && i < ARRAY_SIZE(names); i++) {
                size_t n = strlen(names[i]);

                if (!strncmp(host, names[i], n) && (!host[n] || host[n] == ':'))
                        return true;
        }
        return false;
}

static bool may(struct request *r)
{
        if (r->http->socket.path)
                return true;            /* its mode says who may connect */
        if (!host_is_ours(r->evhttp)) {
                reply_error(r, 403, "ask for 127.0.0.1, [::1] or localhost");
                return false;
        }
        if (evhttp_request_get_command(r->evhttp) != EVHTTP_REQ_GET) {
                reply_error(r, 403, "on a port everybody may look and nobody change anything: "
                            "send orders to a unix socket (--http PATH)");
                return false;
        }
        return true;
}

static void on_request(struct evhttp_request *evhttp, void *arg)
{
        const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(evhttp));
        struct request r = { .http = arg, .evhttp = evhttp };
        bool path_known = false;

        if (!may(&r))
                return;
        for (size_t i = 0; path && i < ARRAY_SIZE(routes); i++) {
                if (!path_is(path, routes[i].path, &r.id))
                        continue;
                path_known = true;
                if (routes[i].method == evhttp_request_get_command(evhttp)) {
                        routes[i].act(&r);
                        return;
                }
        }
        if (path_known)
                reply_error(&r, 405, "this path does not take that method");
        else
                reply_error(&r, 404, "there is no such path: see pageserver(8)");
}

/* ---- open and close ------------------------------------------------------------- */

static int start(struct http *h, struct err *e)
{
        h->evhttp = evhttp_new(h->members->base);
        if (!h->evhttp)
                return err_set(e, ENOMEM, "HTTP");
        const struct http_conns_limits limits = {
                .max = HTTP_CONNS_MAX, .seconds = HTTP_CONN_SECONDS,
                .input_bytes = 2 * (HTTP_BODY_MAX + HTTP_HEADERS_MAX),
        };

        /* all there are: what we do not take gets our own answer */
        evhttp_set_allowed_methods(h->evhttp, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD |
                                   EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS |
                                   EVHTTP_REQ_TRACE | EVHTTP_REQ_CONNECT | EVHTTP_REQ_PATCH);
        evhttp_set_max_body_size(h->evhttp, HTTP_BODY_MAX);
        evhttp_set_max_headers_size(h->evhttp, HTTP_HEADERS_MAX);
        evhttp_set_timeout(h->evhttp, SILENCE_SECONDS);
        evhttp_set_gencb(h->evhttp, on_request, h);
        return http_conns_new(h->members->base, h->evhttp, h->socket.fd, &limits, &h->conns, e);
}

int http_open(const char *address, struct members *members, struct http **ret, struct err *e)
{
        struct http_address a;
        int rc = http_address_parse(address, &a, e);

        if (rc < 0)
                return rc;

        struct http *h = calloc(1, sizeof(*h));

        if (!h)
                return err_set(e, ENOMEM, "HTTP");
        h->members = members;
        h->socket.fd = -1;
        rc = http_address_listen(&a, &h->socket, e);
        if (rc == 0)
                rc = start(h, e);
        if (rc < 0) {
                http_close(h);
                return err_in(e, rc, "--http %s", address);
        }
        log_note(&members->host->log, "HTTP at %s", address);
        *ret = h;
        return 0;
}

void http_close(struct http *h)
{
        if (!h)
                return;
        if (h->evhttp)
                evhttp_free(h->evhttp);
        http_conns_free(h->conns);
        if (h->socket.path)
                listen_close(&h->socket);
        fd_close(&h->socket.fd);
        free(h);
}
