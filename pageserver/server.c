/* SPDX-License-Identifier: Apache-2.0 */
/* Theory of operation
 *
 * The main thread owns the table of clients. A client that has attached is given
 * to every worker; when it is GONE the workers are kicked, let go of it one by one,
 * and after the last the main thread frees it (INV-QUIET). Workers reach the main
 * thread through one eventfd: "look at the sessions".
 *
 * INV-HELD: ending the server only blocks its clients: they keep the userfaultfds
 * and attach elsewhere. A client that is dead but not gone keeps nothing any more,
 * so the server stays a little longer for it (INV-HOLE).
 */
#include "pageserver/server.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/io.h"
#include "pageserver/chan.h"
#include "pageserver/listen.h"
#include "pageserver/peer.h"

/* A connection that says nothing is not kept for ever. */
#define HELLO_SECONDS 10
/* How long an ending server waits for dead clients to be gone: their kernel work
 * is a few faults, which are being served. */
#define LINGER_NS (2 * NS_PER_SEC)
#define LINGER_LOOK_MS 5

struct server;

struct member {
        struct server *server;
        struct member *next;
        struct session *session;
        struct event *readable;         /* NULL once hung up */
        struct event *writable;
        bool workers_told;              /* that it is GONE */
};

struct server {
        struct session_host host;       /* first: poke() finds the server by it */
        struct event_base *base;
        struct listen_socket listener;
        struct event *acceptable;
        struct event *poked;
        struct event *terminated[2];
        struct event *linger;
        uint64_t linger_end_ns;         /* 0 = not ending */
        int poke_fd;
        struct worker *worker[WORKERS_MAX];
        struct member *first;
        unsigned members;
        unsigned next_id;
};

static void poke(struct session_host *host)
{
        struct server *server = (struct server *)host;
        uint64_t one = 1;

        io_write_full(server->poke_fd, &one, sizeof(one));
}

static void kick_workers(struct server *server)
{
        for (unsigned i = 0; i < server->host.workers; i++)
                worker_kick(server->worker[i]);
}

static void free_event(struct event **ev)
{
        if (*ev)
                event_free(*ev);
        *ev = NULL;
}

/* ---- members ---------------------------------------------------------------- */

/* A private server has nothing more to do after its only member. */
static void member_free(struct member *m)
{
        struct server *server = m->server;
        struct member **at = &server->first;

        while (*at != m)
                at = &(*at)->next;
        *at = m->next;
        server->members--;
        free_event(&m->readable);
        free_event(&m->writable);
        session_free(m->session);
        free(m);
        if (server->host.is_private)
                event_base_loopbreak(server->base);
}

/* The loop forgets the socket before it is closed. Frees the member if no worker
 * was ever given it. */
static void member_hung_up(struct member *m)
{
        free_event(&m->readable);
        free_event(&m->writable);
        session_close_socket(m->session);
        if (session_state(m->session) == SESSION_DRAINING)
                kick_workers(m->server);
        else if (session_released(m->session))
                member_free(m);
}

static void give_to_workers(struct member *m)
{
        for (unsigned i = 0; i < m->server->host.workers; i++)
                worker_give(m->server->worker[i], m->session);
}

static void flush(struct member *m)
{
        bool full;

        if (peer_output(m->session, &full) == PEER_CLOSED) {
                member_hung_up(m);
                return;
        }
        if (full)
                event_add(m->writable, NULL);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
        (void)fd;
        (void)what;
        flush(arg);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
        struct member *m = arg;

        (void)fd;
        if (what & EV_TIMEOUT) {
                struct err e;

                err_msg(&e, ETIMEDOUT, "no hello within %d seconds", HELLO_SECONDS);
                peer_refuse(m->session, &e);
                member_hung_up(m);
                return;
        }

        enum session_state before = session_state(m->session);

        switch (peer_input(m->session)) {
        case PEER_CLOSED:
                member_hung_up(m);
                return;
        case PEER_ATTACHED:
                give_to_workers(m);
                break;
        case PEER_OK:
                kick_workers(m->server);        /* rates and retries */
                break;
        }
        if (before == SESSION_HELLO && session_state(m->session) != SESSION_HELLO)
                event_remove_timer(m->readable);
        flush(m);
}

static int watch(struct member *m)
{
        struct timeval hello = { .tv_sec = HELLO_SECONDS };
        struct event_base *base = m->server->base;
        int sock = peer_sock(m->session);

        m->readable = event_new(base, sock, EV_READ | EV_PERSIST, on_readable, m);
        m->writable = event_new(base, sock, EV_WRITE, on_writable, m);
        return m->readable && m->writable && event_add(m->readable, &hello) == 0 ? 0 : -ENOMEM;
}

static void refuse_full(struct server *server, int sock)
{
        struct psmsg msg = { .type = PSMSG_ERROR, .error.code = -EBUSY,
                             .error.text = "it serves as many clients as it can" };

        (void)chan_send(sock, &msg, NULL);      /* the client may have left */
        log_line(&server->host.log, "refused a client: %u are served", server->members);
}

static int admit(struct server *server, int *sock, struct err *e)
{
        if (server->members == SESSIONS_MAX) {
                refuse_full(server, *sock);
                return 0;
        }

        struct member *m = calloc(1, sizeof(*m));

        if (!m)
                return err_set(e, ENOMEM, "client");
        m->server = server;

        int rc = session_new(&server->host, sock, server->next_id++, &m->session, e);

        if (rc < 0) {
                free(m);
                return rc;
        }
        m->next = server->first;
        server->first = m;
        server->members++;
        rc = watch(m);
        if (rc < 0) {
                member_free(m);
                return err_set(e, -rc, "client");
        }
        return 0;
}

static void on_acceptable(evutil_socket_t fd, short what, void *arg)
{
        struct server *server = arg;
        AUTO_FD sock = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        struct err e = { .code = 0 };

        (void)what;
        if (sock < 0) {
                if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
                        err_set(&e, errno, "cannot accept a client");
        } else {
                admit(server, &sock, &e);
        }
        if (e.code)
                log_line(&server->host.log, "%s", e.text);
}

/* ---- what workers report ------------------------------------------------------ */

static void look_at(struct member *m)
{
        if (m->readable) {
                flush(m);               /* may free m, but not while workers hold it */
                return;
        }
        if (session_state(m->session) != SESSION_GONE)
                return;
        if (!m->workers_told) {
                m->workers_told = true;
                kick_workers(m->server);
        } else if (session_released(m->session)) {
                log_note(&m->server->host.log, "client %u: gone", session_id(m->session));
                member_free(m);
        }
}

static void on_poked(evutil_socket_t fd, short what, void *arg)
{
        struct server *server = arg;
        struct member *next;
        uint64_t pokes;

        (void)what;
        io_read_full((int)fd, &pokes, sizeof(pokes));
        for (struct member *m = server->first; m; m = next) {
                next = m->next;
                look_at(m);
        }
}

/* ---- the end ------------------------------------------------------------------- */

static bool someone_lingers(const struct server *server)
{
        for (const struct member *m = server->first; m; m = m->next) {
                if (session_state(m->session) == SESSION_DRAINING &&
                    session_client_dead(m->session))
                        return true;
        }
        return false;
}

static void on_linger(evutil_socket_t fd, short what, void *arg)
{
        struct server *server = arg;
        struct timeval soon = { .tv_usec = LINGER_LOOK_MS * 1000 };

        (void)fd;
        (void)what;
        if (!someone_lingers(server) || clock_now_ns() >= server->linger_end_ns)
                event_base_loopbreak(server->base);
        else
                event_add(server->linger, &soon);
}

static void on_terminated(evutil_socket_t sig, short what, void *arg)
{
        struct server *server = arg;
        struct member *next;

        (void)what;
        log_note(&server->host.log, "ending on signal %d", (int)sig);
        free_event(&server->acceptable);
        listen_close(&server->listener);
        for (struct member *m = server->first; m; m = next) {
                next = m->next;
                if (!m->readable)
                        continue;
                session_hang_up(m->session);
                member_hung_up(m);
        }
        if (!server->linger_end_ns)
                server->linger_end_ns = clock_now_ns() + LINGER_NS;
        on_linger(-1, 0, server);
}

/* ---- start and stop ------------------------------------------------------------- */

unsigned server_default_workers(void)
{
        long cpus = sysconf(_SC_NPROCESSORS_ONLN);

        return cpus < 2 ? 2 : (unsigned)MIN(cpus, WORKERS_MAX);
}

static int make_loop(struct server *server, struct err *e)
{
        static const int signals[] = { SIGTERM, SIGINT };

        server->base = event_base_new();
        server->poke_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (!server->base || server->poke_fd < 0)
                return err_msg(e, ENOMEM, "cannot make an event loop");
        server->poked = event_new(server->base, server->poke_fd, EV_READ | EV_PERSIST,
                                  on_poked, server);
        server->linger = evtimer_new(server->base, on_linger, server);
        if (!server->poked || !server->linger || event_add(server->poked, NULL) < 0)
                return err_msg(e, ENOMEM, "cannot make an event loop");
        for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
                server->terminated[i] = evsignal_new(server->base, signals[i], on_terminated,
                                                     server);
                if (!server->terminated[i] || event_add(server->terminated[i], NULL) < 0)
                        return err_msg(e, ENOMEM, "cannot catch signals");
        }
        return 0;
}

static int start_workers(struct server *server, unsigned n, struct err *e)
{
        ASSERT(n >= 1 && n <= WORKERS_MAX);
        server->host.workers = n;
        for (unsigned i = 0; i < n; i++) {
                int rc = worker_start(i, &server->worker[i], e);

                if (rc < 0)
                        return rc;
        }
        return 0;
}

static int open_door(struct server *server, const struct server_options *o, struct err *e)
{
        if (!o->socket_path) {
                AUTO_FD sock = o->private_sock;
                int flags = fcntl(sock, F_GETFL);

                if (flags < 0 || fcntl(sock, F_SETFL, flags | O_NONBLOCK) < 0 ||
                    fcntl(sock, F_SETFD, FD_CLOEXEC) < 0)
                        return err_set(e, errno, "descriptor %d is not the socket of a client",
                                       o->private_sock);
                return admit(server, &sock, e);
        }

        int rc = listen_open(o->socket_path, &server->listener, e);

        if (rc < 0)
                return rc;
        server->acceptable = event_new(server->base, server->listener.fd, EV_READ | EV_PERSIST,
                                       on_acceptable, server);
        if (!server->acceptable || event_add(server->acceptable, NULL) < 0)
                return err_msg(e, ENOMEM, "cannot accept clients");
        log_note(&server->host.log, "listening at %s, %u workers", o->socket_path,
                 server->host.workers);
        return 0;
}

static void server_fini(struct server *server)
{
        free_event(&server->acceptable);
        listen_close(&server->listener);
        for (unsigned i = 0; i < server->host.workers; i++)
                worker_stop(server->worker[i]);
        while (server->first)
                member_free(server->first);
        free_event(&server->poked);
        free_event(&server->linger);
        for (size_t i = 0; i < ARRAY_SIZE(server->terminated); i++)
                free_event(&server->terminated[i]);
        if (server->base)
                event_base_free(server->base);
        fd_close(&server->poke_fd);
        log_fini(&server->host.log);
}

int server_run(const struct server_options *options, struct err *e)
{
        struct server server = {
                .host = {
                        .is_private = !options->socket_path,
                        .prefetch_limit = options->prefetch_limit,
                        .poke = poke,
                },
                .listener.fd = -1,
                .poke_fd = -1,
        };

        log_init(&server.host.log, server.host.is_private);

        int rc = make_loop(&server, e);

        if (rc == 0)
                rc = start_workers(&server, options->workers, e);
        if (rc == 0)
                rc = open_door(&server, options, e);
        if (rc == 0 && event_base_dispatch(server.base) < 0)
                rc = err_msg(e, EIO, "the event loop failed");
        server_fini(&server);
        return rc;
}
