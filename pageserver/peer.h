/* SPDX-License-Identifier: Apache-2.0 */
/* peer.h - how a client speaks: the control side of a session, messages in and out.
 *
 *   peer.c               our own protocol (common/wire/psmsg.h)
 *   peer-firecracker.c   Firecracker's UFFD handshake (common/wire/fcuffd.h)
 *
 * Whatever a client sends wrong ends its own session only: it is refused with a
 * sentence and hung up.
 *
 * Threads: main thread.
 */
#ifndef PAGESERVER_PEER_H
#define PAGESERVER_PEER_H

#include <stdbool.h>

#include "pageserver/session.h"

enum peer {
        PEER_OK,
        PEER_WAITS,             /* go_on() is to be asked; it is not read from before     */
        PEER_ORDERED,           /* it asked for work: the workers look again, and the     */
                                /* next order of the same client waits (INV-BREATH)       */
        PEER_ATTACHED,          /* SERVING from now on: the workers are to be given it    */
        PEER_DEAF,              /* its socket is to be left alone, the session goes on    */
        PEER_CLOSED,            /* the session has hung up                                */
};

struct peer_ops {
        int sock_type;          /* of its door */
        /* Before the first and after the last of the others; NULL = nothing to do.
         * offer: what the door has for it, which outlives the session. */
        int (*begin)(struct session *s, const void *offer, struct err *e);
        void (*end)(struct session *s);
        /* In the place of all messages: goes on with a client of an earlier process, of
         * which stay (NULL where there are none) has all; SERVING then. */
        int (*resume)(struct session *s, void *stay, struct err *e);
        /* The socket is readable: takes one message and acts. */
        enum peer (*input)(struct session *s);
        /* While it WAITS, whenever the server is poked; NULL = it never does. */
        enum peer (*go_on)(struct session *s);
        /* Sends what the workers left in the outbox; *ret_full: the rest when the
         * socket can be written. ORDERED: the workers are to look again. */
        enum peer (*output)(struct session *s, bool *ret_full);
        /* The reason as the last message, then hang-up. */
        void (*refuse)(struct session *s, const struct err *e);
        /* Every second from ATTACHED to hang-up, and the process is watched; NULL = the
         * socket says all there is to know. */
        enum peer (*tick)(struct session *s);
        /* To a client for whom there is no session: the reason, as the last message. */
        void (*turn_away)(int sock, const void *offer, const struct err *e);
};

extern const struct peer_ops peer_own;

#endif
