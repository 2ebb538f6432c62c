/* SPDX-License-Identifier: Apache-2.0 */
/* session.h - one client: its image, its memory, its place in the protocol.
 *
 * HELLO     connected, nothing known; nothing but HELLO is taken
 *           -> WELCOMED  its peer (peer.h), main thread
 * WELCOMED  image open, lane chosen; the client maps its memory; no fault may be
 *           served, regions are unknown; not for ever (member.c)
 *           -> SERVING   its peer, main thread
 * SERVING   the workers own the feeds; regions, sink and map are constant
 *           -> DRAINING  session_hang_up(): the peer went away or broke the protocol; a
 *                        lease ends, and threads wait for nobody any more who has read
 *                        of them (readers.h)
 * DRAINING  no prefetch, no messages; faults are served on, because the kernel may
 *           still be working for a process that has died (INV-HOLE)
 *           -> GONE      its home worker, once the client's memory is gone
 * GONE      each worker lets go of it between two steps; the main thread frees it
 *           after the last has
 *
 * INV-HOLE:  a client's userfaultfds stay open and served until its memory is gone.
 *            Else a fault that is still in the kernel would put a zero page into
 *            the cache, for all clones.
 * INV-QUIET: a worker touches a session only between taking it in and letting it
 *            go; sessions are freed only when all have let go.
 *
 * Threads: as said at each function; session_free() main thread, after INV-QUIET.
 */
#ifndef PAGESERVER_SESSION_H
#define PAGESERVER_SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"
#include "common/histogram.h"
#include "common/rate.h"
#include "pageserver/cache.h"
#include "pageserver/feed.h"
#include "pageserver/log.h"
#include "pageserver/readers.h"
#include "pageserver/sandbox.h"

enum session_state {
        SESSION_HELLO, SESSION_WELCOMED, SESSION_SERVING, SESSION_DRAINING, SESSION_GONE,
};

/* what several sessions have counted */
struct session_sum {
        uint64_t demand_faults;
        uint64_t demand_bytes;
        uint64_t prefetch_bytes;
        uint64_t zero_bytes;
        struct histogram_view demand;
        struct histogram_view prefetch;
};

/* what a session needs of its server; outlives it */
struct session_host {
        struct cache_list caches;       /* main thread */
        struct session_sum gone;        /* main thread: of sessions that were freed */
        struct log log;
        unsigned workers;               /* threads that serve faults */
        unsigned threads;               /* and, behind them, those that work ahead */
        unsigned hands;                 /* numbers of threads, with those that hang (crew.h) */
        bool pinned;                    /* each on its CPU; every worker polls all feeds */
        int bell_fd;                    /* eventfd: wakes one that works ahead */
        _Atomic unsigned resting;       /* of those; INV-RING */
        _Atomic unsigned errands;       /* under way (errand.h) */
        struct sandbox *sandbox;        /* of every thread (INV-CONFINED) */
        bool confined;                  /* main thread: it has entered, and threads inherit */
        bool is_private;                /* the client keeps the writable descriptors */
        uint64_t prefetch_limit;        /* no client gets more: bytes per second */
        uint64_t around_bytes;          /* of fault-around */
        void (*poke)(struct session_host *host);        /* any thread: look at the sessions */
};

struct session;

/* takes the (non-blocking) socket; id: names it in log lines, picks its home worker */
int session_new(struct session_host *host, int *sock, unsigned id, struct session **ret,
                struct err *e);
void session_free(struct session *s);

enum session_state session_state(const struct session *s);
unsigned session_id(const struct session *s);

/* of its image, as the client calls it; NULL = it has not said yet */
const char *session_path(const struct session *s);

/* main thread: no message any more; SERVING becomes DRAINING. The socket is closed
 * by the second call, once nobody polls it. */
void session_hang_up(struct session *s);
void session_close_socket(struct session *s);
/* main thread: the process that connected has ended (or cannot be seen) */
bool session_client_dead(const struct session *s);
/* main thread: adds what it has counted so far */
void session_sum_add(struct session_sum *sum, const struct session *s);
/* main thread: from its client or from whoever watches the server, the last one holds;
 * the workers are to be kicked. -EBUSY when it is not SERVING. */
int session_order_prefetch(struct session *s, const struct rate_order *o, struct err *e);
/* of that process, borrowed; -1 = it cannot be seen */
int session_pidfd(const struct session *s);

/* Who connected a socket. A process of another pid namespace cannot be seen: it is then
 * treated as dead from its hang-up on, which only means that it is looked at more
 * often. */
struct peer_process {
        pid_t pid;                      /* 0 = cannot be seen */
        uid_t uid;                      /* (uid_t)-1 = unknown */
        int pidfd;                      /* the caller's; -1 = cannot be seen */
};

struct peer_process session_peer_process(int sock);

/* any thread: there may be work ahead of faults */
void session_host_ring(struct session_host *host);

/* Why no worker does anything for a session for a while: a thread hangs in what it did for
 * it, and so would the next (watch.h). One that reads an image hangs for all its sessions. */
enum withheld { WITHHELD_NO, WITHHELD_BY_IMAGE, WITHHELD_BY_CLIENT };

/* any thread */
enum withheld session_withheld(const struct session *s);
/* main thread; the workers are to be kicked */
void session_withhold(struct session *s, enum withheld why);

/* worker threads: the feeds that worker polls, by i = 0, 1, ...; NULL = no more */
struct feed *session_feed(struct session *s, unsigned worker, enum readers_poll what, unsigned i);
struct readers *session_readers(struct session *s);
/* a worker has read the lease's socket to its end */
void session_lease_ended(struct session *s);
/* A worker has read that a thread writes to a page at hva that is protected. It is woken,
 * faults anew, and tells whoever reads then. Of a client that has died, whose kernel threads
 * may still be at it, nobody would ever: those write. */
void session_protected(struct session *s, int uffd, uint64_t hva);
/* a worker found a feed unusable */
void session_feed_broken(struct session *s, int rc);
/* main thread: the session is given to one more worker; it lets go (INV-QUIET) */
void session_hold(struct session *s);
void session_release(struct session *s);
/* main thread: all have let go */
bool session_released(const struct session *s);

#endif
