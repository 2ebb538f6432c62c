/* SPDX-License-Identifier: Apache-2.0 */
/* readers.h - who reads a client's userfaultfds: the workers or, for a time, the client.
 *
 * Theory of operation
 *
 * Each message of a userfaultfd goes to one reader, and writes to protected pages, which
 * only the client can answer (a live save), come on the same descriptors as the faults on
 * missing pages. So it asks for the reader lease, reads all of them, and passes the missing
 * pages on over a socket (psfault.h), which is a feed like any other (feed-lease.c).
 *
 * UFFDS    workers poll the userfaultfds
 *          -> LEAVING  readers_lease(), main thread
 * LEAVING  each worker polls, from its next round on, the socket in their place
 *          -> LEASED   readers_look(), main thread: none polls them any more
 * LEASED   its client is told, and the only reader
 *          -> ENDED    (LEAVING too) readers_end(): any worker that has read the socket to its
 *                      end, for the client closes its own when it has enough; or the main
 *                      thread, when it has hung up
 * ENDED    workers poll the userfaultfds again, each from its next round on
 *          -> UFFDS    readers_look(), main thread: none polls the socket any more
 *
 * INV-READER: from LEASED to ENDED no worker reads a userfaultfd of the client's.
 *             Each is counted before it begins to poll, and looks again then; the main
 *             thread changes the state before it looks at the count. So one of them sees
 *             the other.
 *
 * A thread that hangs counts until it comes out or is relieved, so its client waits for the
 * lease. One that hung in the reading itself (uffd_read(); its own client's doing) and was
 * relieved may come out with messages later. That harms nobody, for whoever reads a message
 * answers it: a missing page is served, and a writer is sent to fault anew, for whoever
 * reads then (session_protected()).
 *
 * Cost: none where there is no lease; workers look when they are kicked.
 */
#ifndef PAGESERVER_READERS_H
#define PAGESERVER_READERS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "pageserver/feed.h"

enum readers_state { READERS_UFFDS, READERS_LEAVING, READERS_LEASED, READERS_ENDED };

/* what a worker polls of a client */
enum readers_poll { POLL_NOTHING, POLL_UFFDS, POLL_LEASE };

struct readers {
        /* main thread only */
        uint64_t number;                /* of the lease, as its client calls it */
        int next_sock;                  /* of one that begins when this has ended, else -1 */
        uint64_t next_number;
        bool end_told;                  /* the workers know that it has ENDED */
        bool had_lease;

        /* main thread, while nobody polls it */
        struct feed feed;               /* .fd: ours; -1 = none */

        /* any thread, atomic */
        _Atomic enum readers_state state;
        _Atomic unsigned on_uffds;      /* workers that poll them */
        _Atomic unsigned on_lease;      /* and the socket */
};

/* what is to be done, by the main thread */
enum readers_news { READERS_SAME, READERS_KICK, READERS_TELL };

/* main thread; with no worker about */
void readers_init(struct readers *r);
void readers_fini(struct readers *r);

/* Main thread; then the workers are to be kicked. Takes the socket. Refused while there is
 * a lease whose client has not closed its end. */
int readers_lease(struct readers *r, const struct feed *like, uint64_t number, int *sock,
                  struct err *e);
/* Main thread, whenever it is poked. KICK: the workers. TELL: the client, as long as
 * readers_leased(). */
enum readers_news readers_look(struct readers *r);
bool readers_leased(const struct readers *r);
/* Main thread: the client has hung up, so a lease ends. True: there was one at some time, and
 * what its holder had read and not passed on must be faulted anew. (The lease may have ended
 * long before: of a client that dies any worker sees its end of the socket close first.) */
bool readers_hung_up(struct readers *r);
/* Any thread. False: there is no lease, or it has ended already. Else the main thread is to
 * be poked. */
bool readers_end(struct readers *r);

/* Workers that serve faults. */
enum readers_poll readers_poll(const struct readers *r);
/* Before it polls that. False: it is not the time, and a kick is on its way that says so; the
 * main thread is to be poked. */
bool readers_come(struct readers *r, enum readers_poll what);
/* It has ceased to. True: the main thread is to be poked. */
bool readers_leave(struct readers *r, enum readers_poll what);

#endif
