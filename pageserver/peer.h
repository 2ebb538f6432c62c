/* SPDX-License-Identifier: Apache-2.0 */
/* peer.h - the control side of a session: messages in, messages out.
 *
 * Whatever a client sends wrong ends its own session only: it gets ERROR with a
 * sentence and is hung up.
 *
 * Threads: main thread.
 */
#ifndef PAGESERVER_PEER_H
#define PAGESERVER_PEER_H

#include <stdbool.h>

#include "pageserver/session.h"

enum peer {
        PEER_OK,
        PEER_ATTACHED,          /* SERVING from now on: the workers are to be given it */
        PEER_CLOSED,            /* the session has hung up                             */
};

/* The socket is readable: takes one message and acts. */
enum peer peer_input(struct session *s);
/* Sends what the workers left in the outbox; *ret_full: the rest when the socket
 * can be written. */
enum peer peer_output(struct session *s, bool *ret_full);
int peer_sock(const struct session *s);
/* ERROR as the last message, then hang-up */
void peer_refuse(struct session *s, const struct err *e);

#endif
