/* SPDX-License-Identifier: Apache-2.0 */
/* member.h - the clients of a server: each one's session and its place in the loop.
 *
 * A client that has attached is given to every worker; when it is GONE the workers
 * are kicked, let go of it one by one, and after the last it is freed (INV-QUIET).
 *
 * Ownership: members own their sessions. The table is its server's.
 * Threads:   main thread.
 */
#ifndef PAGESERVER_MEMBER_H
#define PAGESERVER_MEMBER_H

#include <event2/event.h>
#include <stdbool.h>

#include "common/err.h"
#include "pageserver/peer.h"
#include "pageserver/crew.h"

struct member;
struct watch;

struct members {
        struct session_host *host;
        struct event_base *base;
        struct crew *crew;
        struct watch *watch;            /* watch.h */
        struct member *first;
        unsigned n;                     /* at most SESSIONS_MAX */
        unsigned next_id;
};

/* Takes the (non-blocking) socket of a client that speaks as peer does; offer: see
 * there. On failure the caller may turn it away. -EBUSY when there are too many. */
int members_admit(struct members *t, const struct peer_ops *peer, const void *offer, int *sock,
                  struct err *e);
/* A client of the process before, without a socket: see peer_ops.resume. */
int members_resume(struct members *t, const struct peer_ops *peer, const void *offer,
                   void *stay, struct err *e);
/* A worker has reported: sends messages, frees who is gone. */
void members_look(struct members *t);
/* All there are, in no order; ret has SESSIONS_MAX places. Returns how many. */
unsigned members_list(const struct members *t, struct session **ret);
/* Ends one of them, which is told why. */
void members_refuse(struct members *t, const struct session *s, const struct err *why);
/* Rates have changed: the workers look again. */
void members_kick(struct members *t);
/* No message any more, from or to anyone. */
void members_hang_up(struct members *t);
/* A client is dead, and the kernel not done with its memory (INV-HOLE). */
bool members_linger(const struct members *t);
/* Frees all; the workers have been stopped. */
void members_fini(struct members *t);

#endif
