/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/door.h"

#include <errno.h>
#include <event2/http.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/http-conns.h"
#include "common/listen.h"
#include "vmm/serve/bucket.h"
#include "vmm/serve/strangers.h"

/* What evhttp reads of a body, so that one that is a little too long has our answer, which
 * is JSON, and not evhttp's. */
#define BODY_READ_MAX (4 * EXCHANGE_BODY_MAX)
#define BACKLOG 64
#define HOST_MAX 64

struct door {
        struct door_options options;
        struct listen_socket socket;
        struct evhttp *evhttp;
        struct http_conns *conns;
        struct bucket bucket;
        struct bucket strange;          /* for those who are turned away */
        struct strangers strangers;     /* by address, at a port */
};

/* ---- who may ------------------------------------------------------------------- */

/* INV-STRANGE: who may not come in takes nothing from who may: neither of the requests a
 * second nor, at a port, by having his address refused. A token is not to be guessed (it
 * has TOKEN_BYTES_MIN characters): what is kept small is the work with those who try. */

static bool peer_is_ours(const struct exchange *x)
{
        struct ucred peer;
        socklen_t bytes = sizeof(peer);

        if (getsockopt(exchange_socket(x), SOL_SOCKET, SO_PEERCRED, &peer, &bytes) < 0)
                return false;
        return peer.uid == geteuid() || peer.uid == 0;
}

static bool may_enter(const struct door *d, const struct exchange *x)
{
        if (d->options.path)
                return peer_is_ours(x);
        return token_shown(d->options.token, exchange_header(x, "Authorization"));
}

static void add_retry_after(struct exchange *x, uint64_t wait_ns)
{
        char seconds[24];

        snprintf(seconds, sizeof(seconds), "%llu",
                 (unsigned long long)DIV_ROUND_UP(wait_ns, NS_PER_SEC));
        exchange_add_header(x, "Retry-After", seconds);
}

static bool stranger_is_in_time(struct door *d, const struct exchange *x, uint64_t *ret_wait_ns)
{
        struct sockaddr_storage from = { 0 };
        socklen_t bytes = sizeof(from);
        uint64_t now_ns = clock_now_ns();

        if (!d->options.path) {
                (void)getpeername(exchange_socket(x), (struct sockaddr *)&from, &bytes);
                if (!strangers_take(&d->strangers, &from, now_ns, ret_wait_ns))
                        return false;
        }
        return bucket_take(&d->strange, now_ns, ret_wait_ns);
}

static void turn_away(struct door *d, struct exchange *x)
{
        uint64_t wait_ns;

        if (!stranger_is_in_time(d, x, &wait_ns)) {
                add_retry_after(x, wait_ns);
                exchange_refuse(x, 429, "too many requests of those who may not");
        } else if (d->options.path) {
                exchange_refuse(x, 403, "only the user of this service may use it, and root");
        } else {
                exchange_add_header(x, "WWW-Authenticate", "Bearer");
                exchange_refuse(x, 401, "this port wants the token, as in 'Authorization: "
                                "Bearer TOKEN'");
        }
}

/* Otherwise x has been answered. */
static bool is_in_time(struct door *d, struct exchange *x)
{
        uint64_t wait_ns;

        if (bucket_take(&d->bucket, clock_now_ns(), &wait_ns))
                return true;
        add_retry_after(x, wait_ns);
        exchange_refuse(x, 429, "more than %u requests a second: see --rate", d->options.rate);
        return false;
}

static bool is_short(struct exchange *x)
{
        size_t bytes;

        (void)exchange_body(x, &bytes);
        if (bytes <= EXCHANGE_BODY_MAX)
                return true;
        exchange_refuse(x, 413, "the body has %zu bytes: at most %u are taken", bytes,
                        EXCHANGE_BODY_MAX);
        return false;
}

static void on_request(struct evhttp_request *http, void *ctx)
{
        struct door *d = ctx;
        struct exchange *x = exchange_new(http, d->conns, d->options.base);

        if (!x)
                return;
        if (!may_enter(d, x))
                turn_away(d, x);
        else if (is_in_time(d, x) && is_short(x))
                d->options.enter(d->options.ctx, x);
}

/* ---- open and close ------------------------------------------------------------ */

/* HOST:PORT or [HOST]:PORT into its parts */
static int split(const char *address, char host[HOST_MAX], const char **ret_port, struct err *e)
{
        const char *colon = strrchr(address, ':');
        size_t n = colon ? (size_t)(colon - address) : 0;

        if (n > 2 && address[0] == '[' && address[n - 1] == ']') {
                address++;
                n -= 2;
        }
        if (n == 0 || n >= HOST_MAX || !colon[1])
                return err_msg(e, EINVAL, "'%s' is not of the form HOST:PORT or [HOST]:PORT",
                               address);
        memcpy(host, address, n);
        host[n] = '\0';
        *ret_port = colon + 1;
        return 0;
}

static int listen_tcp(const char *address, int *ret_fd, struct err *e)
{
        const struct addrinfo hints = {
                .ai_socktype = SOCK_STREAM,
                .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
        };
        char host[HOST_MAX];
        const char *port = "";
        struct addrinfo *a;
        int one = 1;
        int rc = split(address, host, &port, e);

        if (rc < 0)
                return rc;
        if (getaddrinfo(host, port, &hints, &a) != 0)
                return err_msg(e, EINVAL, "'%s': host and port are to be numbers, such as "
                               "127.0.0.1:8080", address);

        AUTO_FD fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        if (fd < 0) {
                rc = err_set(e, errno, "make a socket for '%s'", address);
        } else {
                (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
                if (bind(fd, a->ai_addr, a->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
                        rc = err_set(e, errno, "listen at '%s'", address);
        }
        freeaddrinfo(a);
        if (rc == 0)
                *ret_fd = fd_take(&fd);
        return rc;
}

static int start(struct door *d, struct err *e)
{
        static const struct http_conns_limits limits = {
                .max = DOOR_CONNS_MAX, .seconds = DOOR_CONN_SECONDS,
                .input_bytes = BODY_READ_MAX + 2 * EXCHANGE_HEADERS_MAX,
        };

        d->evhttp = evhttp_new(d->options.base);
        if (!d->evhttp)
                return err_msg(e, ENOMEM, "no memory for HTTP");
        /* all there are: what we do not take gets our own answer */
        evhttp_set_allowed_methods(d->evhttp, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD |
                                   EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS |
                                   EVHTTP_REQ_TRACE | EVHTTP_REQ_CONNECT | EVHTTP_REQ_PATCH);
        evhttp_set_max_body_size(d->evhttp, BODY_READ_MAX);
        evhttp_set_max_headers_size(d->evhttp, EXCHANGE_HEADERS_MAX);
        evhttp_set_timeout(d->evhttp, DOOR_SILENCE_SECONDS);
        evhttp_set_gencb(d->evhttp, on_request, d);
        return http_conns_new(d->options.base, d->evhttp, d->socket.fd, &limits, &d->conns, e);
}

int serve_door_open(const struct door_options *options, struct door **ret, struct err *e)
{
        struct door *d = calloc(1, sizeof(*d));
        int rc;

        ASSERT(options->path || options->token);
        if (!d)
                return err_msg(e, ENOMEM, "no memory for HTTP");
        d->options = *options;
        d->socket.fd = -1;
        bucket_init(&d->bucket, options->rate);
        bucket_init(&d->strange, options->rate);
        rc = options->path ? listen_open(options->path, SOCK_STREAM, &d->socket, e)
                           : listen_tcp(options->address, &d->socket.fd, e);
        if (rc == 0)
                rc = start(d, e);
        if (rc < 0)
                serve_door_close(d);
        else
                *ret = d;
        return rc;
}

void serve_door_close(struct door *d)
{
        if (!d)
                return;
        if (d->evhttp)
                evhttp_free(d->evhttp);
        http_conns_free(d->conns);
        if (d->options.path)
                listen_close(&d->socket);
        fd_close(&d->socket.fd);
        free(d);
}
