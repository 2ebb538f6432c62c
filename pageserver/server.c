/* SPDX-License-Identifier: Apache-2.0 */
/* Theory of operation
 *
 * The main thread runs one loop: doors where clients come in, the table of clients
 * (member.h), signals. Workers reach it through one eventfd: "look at the sessions".
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
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/io.h"
#include "pageserver/door.h"
#include "pageserver/errand.h"
#include "pageserver/http.h"
#include "pageserver/keeper.h"
#include "pageserver/member.h"
#include "pageserver/watch.h"

/* How long an ending server waits for dead clients to be gone: their kernel work
 * is a few faults, which are being served. */
#define LINGER_NS (2 * NS_PER_SEC)
#define LINGER_LOOK_MS 5
/* and for threads that hang: as long as one that is only slow may take */
#define STOP_NS (2 * NS_PER_SEC)
/* more serve no single guest better, and each VM may have a server of its own */
#define WORKERS_DEFAULT_MAX 8u

/* a door for Firecracker's guests, and what it has for them */
struct fc_door {
        struct fc_offer offer;
        struct door *door;
};

struct server {
        struct session_host host;       /* first: poke() finds the server by it */
        struct event_base *base;
        struct members members;
        const struct server_options *options;
        struct keeper *keeper;          /* NULL = private */
        struct door *door;              /* of our own protocol */
        struct fc_door fc[SERVER_FC_MAX];
        struct http *http;
        int open_rc;                    /* of a daemon, perhaps behind the gate */
        struct err *open_err;
        struct fcstay *stays;           /* of the process before, until they are resumed */
        struct event *poked;
        struct event *terminated[2];
        struct event *linger;
        uint64_t linger_end_ns;         /* 0 = not ending */
        int poke_fd;
};

static void poke(struct session_host *host)
{
        struct server *server = (struct server *)host;
        uint64_t one = 1;

        io_write_full(server->poke_fd, &one, sizeof(one));
}

static void free_event(struct event **ev)
{
        if (*ev)
                event_free(*ev);
        *ev = NULL;
}

static void on_poked(evutil_socket_t fd, short what, void *arg)
{
        struct server *server = arg;
        uint64_t pokes;

        (void)what;
        io_read_full((int)fd, &pokes, sizeof(pokes));
        watch_poked(server->members.watch);
        members_look(&server->members);
}

/* ---- the end ------------------------------------------------------------------- */

static void close_doors(struct server *server)
{
        door_close(server->door);
        server->door = NULL;
        for (size_t i = 0; i < ARRAY_SIZE(server->fc); i++) {
                door_close(server->fc[i].door);
                server->fc[i].door = NULL;
        }
        http_close(server->http);
        server->http = NULL;
}

static void on_linger(evutil_socket_t fd, short what, void *arg)
{
        struct server *server = arg;
        struct timeval soon = { .tv_usec = LINGER_LOOK_MS * 1000 };

        (void)fd;
        (void)what;
        if (!members_linger(&server->members) || clock_now_ns() >= server->linger_end_ns)
                event_base_loopbreak(server->base);
        else
                event_add(server->linger, &soon);
}

static void on_terminated(evutil_socket_t sig, short what, void *arg)
{
        struct server *server = arg;

        (void)what;
        log_note(&server->host.log, "ending on signal %d", (int)sig);
        close_doors(server);
        keeper_leave(server->keeper);
        members_hang_up(&server->members);
        if (!server->linger_end_ns)
                server->linger_end_ns = clock_now_ns() + LINGER_NS;
        on_linger(-1, 0, server);
}

/* ---- start and stop ------------------------------------------------------------- */

unsigned server_default_workers(void)
{
        /* one may wait for a disk while another serves what is in memory */
        return MIN(MAX(placement_cpus(), 2u), WORKERS_DEFAULT_MAX);
}

uint64_t server_default_keep(void)
{
        long pages = sysconf(_SC_PHYS_PAGES);

        return pages < 0 ? 0 : (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE) / 4;
}

static int make_loop(struct server *server, struct err *e)
{
        static const int signals[] = { SIGTERM, SIGINT };

        server->base = server->members.base = event_base_new();
        server->poke_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        server->host.bell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (!server->base || server->poke_fd < 0 || server->host.bell_fd < 0)
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

static int start_workers(struct server *server, const struct server_options *o, struct err *e)
{
        ASSERT(o->workers >= 1 && o->workers <= WORKERS_MAX);
        server->host.workers = o->workers;
        server->host.threads = 2 * o->workers;
        server->host.pinned = placement_pins(o->placement, placement_cpus());
        server->host.hands = server->host.threads + HANDS_SPARE;

        int rc = crew_start(&server->host, &server->members.crew, e);

        return rc < 0 ? rc : watch_new(&server->members, &server->members.watch, e);
}

static int admit_private(struct server *server, int fd, struct err *e)
{
        AUTO_FD sock = fd;
        int flags = fcntl(sock, F_GETFL);

        if (flags < 0 || fcntl(sock, F_SETFL, flags | O_NONBLOCK) < 0 ||
            fcntl(sock, F_SETFD, FD_CLOEXEC) < 0)
                return err_set(e, errno, "descriptor %d is not the socket of a client", fd);
        return members_admit(&server->members, &peer_own, NULL, &sock, e);
}

/* All images first: where one of them is missing nobody shall come in. */
static int open_fc_images(struct server *server, const struct server_options *o, struct err *e)
{
        int rc = 0;

        ASSERT(o->fcs <= SERVER_FC_MAX);
        for (unsigned i = 0; i < o->fcs && rc == 0; i++) {
                struct fc_offer *offer = &server->fc[i].offer;

                offer->on_bad = o->fc_on_bad;
                offer->kill_on_error = o->fc_kill_on_error;
                rc = fcimage_open(&server->host, o->fc[i].image_path, &offer->image, e);
        }
        return rc;
}

static int open_fc_doors(struct server *server, const struct server_options *o, struct err *e)
{
        int rc = open_fc_images(server, o, e);

        for (unsigned i = 0; i < o->fcs && rc == 0; i++) {
                const struct door_options door = {
                        .path = o->fc[i].socket_path, .peer = &peer_firecracker,
                        .offer = &server->fc[i].offer,
                };

                rc = door_open(&door, &server->members, &server->fc[i].door, e);
        }
        return rc;
}

static bool same_image(const struct fillmap_ident *a, const struct fillmap_ident *b)
{
        return a->clusters == b->clusters && a->cluster_bits == b->cluster_bits &&
               !memcmp(a->image, b->image, sizeof(a->image)) && !strcmp(a->tag, b->tag);
}

static const struct fc_offer *offer_for(struct server *server, const struct fcstay *stay)
{
        for (unsigned i = 0; i < server->options->fcs; i++) {
                const struct fc_offer *offer = &server->fc[i].offer;
                struct fillmap_ident ident = source_ident(fcimage_source(offer->image));

                if (same_image(&ident, &stay->image))
                        return offer;
        }
        return NULL;
}

/* INV-REATTACH for those who cannot come back by themselves */
static void resume_stay(struct server *server, struct fcstay *stay)
{
        const struct fc_offer *offer = fcstay_read(stay) ? offer_for(server, stay) : NULL;
        struct err e;

        if (!offer)
                err_msg(&e, ENOENT, "what was kept of it is not whole, or of no image given here");
        if (offer && members_resume(&server->members, &peer_firecracker, offer, stay, &e) == 0)
                return;
        log_line(&server->host.log, "a guest of Firecracker, process %d, cannot be served on: %s",
                 (int)stay->pid, e.text);
        fcstay_drop(server->host.caches.store, stay->key);
}

static void resume_stays(struct server *server)
{
        struct fcstay *stay;

        while ((stay = server->stays)) {
                server->stays = stay->next;
                resume_stay(server, stay);
                fcstay_free(stay);
        }
}

/* The last step before clients are looked at. Workers have entered meanwhile. */
static int confine(struct server *server, struct err *e)
{
        const char *lacks = ps_sandbox_lacks();

        if (lacks && server->options->sandbox >= SANDBOX_LOG)
                log_note(&server->host.log, "%s", lacks);

        int rc = ps_sandbox_enter(server->host.sandbox, SANDBOX_MAIN, e);

        server->host.confined = rc == 0;
        return rc < 0 ? rc : crew_ready(server->members.crew, e);
}

/* Once nothing can fail any more: an error is one sentence. */
static void say_doors(const struct server *server)
{
        door_say(server->door);
        for (unsigned i = 0; i < server->options->fcs; i++)
                door_say(server->fc[i].door);
}

/* given: the listening socket of a service manager, taken; -1 = none. All that has an
 * address is opened here, and not before: an earlier process of the daemon may have it
 * still (keeper.h). */
static int open_all(struct server *server, int *given, struct err *e)
{
        const struct server_options *o = server->options;
        const struct door_options own = {
                .path = o->socket_path, .peer = &peer_own, .given = given,
        };
        int rc = 0;

        if (o->is_private)
                rc = admit_private(server, o->private_sock, e);
        else if (o->socket_path)
                rc = door_open(&own, &server->members, &server->door, e);
        if (rc == 0)
                rc = open_fc_doors(server, o, e);
        if (rc == 0 && o->http_address)
                rc = http_open(o->http_address, &server->members, &server->http, e);
        if (rc == 0)
                rc = confine(server, e);
        if (rc == 0)
                say_doors(server);
        return rc;
}

static void open_daemon(void *ctx, int listener)
{
        struct server *server = ctx;
        AUTO_FD given = listener;

        server->open_rc = open_all(server, &given, server->open_err);
        if (server->open_rc == 0)
                resume_stays(server);
        else
                event_base_loopbreak(server->base);
}

static void on_refused(void *ctx)
{
        struct server *server = ctx;

        event_base_loopbreak(server->base);
}

static int open_doors(struct server *server, struct err *e)
{
        const struct keeper_host host = {
                .base = server->base, .caches = &server->host.caches, .stays = &server->stays,
                .log = &server->host.log,
                .open = open_daemon, .refused = on_refused, .ctx = server,
        };
        int none = -1;

        if (server->options->is_private)
                return open_all(server, &none, e);
        server->open_err = e;

        int rc = keeper_start(&host, &server->keeper, e);

        return rc < 0 ? rc : server->open_rc;
}

/* clients and images */
static void free_served(struct server *server)
{
        crew_free(server->members.crew);
        watch_free(server->members.watch);
        members_fini(&server->members);
        while (server->stays) {
                struct fcstay *stay = server->stays;

                server->stays = stay->next;
                fcstay_free(stay);
        }
        cache_list_fini(&server->host.caches);
        for (size_t i = 0; i < ARRAY_SIZE(server->fc); i++)
                fcimage_close(server->fc[i].offer.image, &server->host);
}

static void server_free(struct server *server)
{
        keeper_stop(server->keeper);
        ps_sandbox_free(server->host.sandbox);
        free_event(&server->poked);
        free_event(&server->linger);
        for (size_t i = 0; i < ARRAY_SIZE(server->terminated); i++)
                free_event(&server->terminated[i]);
        if (server->base)
                event_base_free(server->base);
        fd_close(&server->poke_fd);
        fd_close(&server->host.bell_fd);
        log_fini(&server->host.log);
        free(server);
}

/* A thread that hangs may come back at any time until the process has ended: then all that
 * it could touch stays, and what the world sees of us goes. */
static void server_end(struct server *server)
{
        uint64_t deadline_ns = clock_now_ns() + STOP_NS;

        close_doors(server);
        keeper_leave(server->keeper);
        members_hang_up(&server->members);

        unsigned hang = crew_stop(server->members.crew, deadline_ns);

        if (hang == 0) {
                free_served(server);
                hang = errands_stop(&server->host, deadline_ns);
        }
        if (hang == 0)
                server_free(server);
        else
                log_line(&server->host.log, "ends without %u threads that hang, in images that "
                         "do not answer or in their clients' memory", hang);
}

static struct server *server_new(const struct server_options *options, struct err *e)
{
        struct server *server = calloc(1, sizeof(*server));

        if (!server) {
                err_set(e, ENOMEM, "server");
                return NULL;
        }
        server->host = (struct session_host){
                .is_private = options->is_private,
                .prefetch_limit = options->prefetch_limit,
                .around_bytes = options->around_bytes,
                .caches.keep_bytes = options->is_private ? 0 : options->cache_keep,
                .poke = poke,
                .bell_fd = -1,
        };
        server->host.caches.host = &server->host;
        server->options = options;
        server->poke_fd = -1;
        server->members.host = &server->host;
        log_init(&server->host.log, server->host.is_private);
        return server;
}

int server_run(const struct server_options *options, struct err *e)
{
        struct server *server = server_new(options, e);

        if (!server)
                return -ENOMEM;

        int rc = make_loop(server, e);

        if (rc == 0)
                rc = ps_sandbox_new(options->sandbox, &server->host.sandbox, e);
        if (rc == 0)
                rc = start_workers(server, options, e);
        if (rc == 0)
                rc = open_doors(server, e);
        if (rc == 0 && event_base_dispatch(server->base) < 0)
                rc = err_msg(e, EIO, "the event loop failed");
        if (rc == 0)
                rc = server->open_rc;
        server_end(server);
        return rc;
}
