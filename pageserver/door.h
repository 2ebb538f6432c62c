/* SPDX-License-Identifier: Apache-2.0 */
/* door.h - a place in the file system where clients of one kind come in.
 *
 * INV-TOLD: a client for whom there is no descriptor or no memory is told so, as long
 *           as there is one in reserve for that; those who are served notice nothing,
 *           and the loop does not spin over a connection that it cannot take.
 *
 * Threads: main thread.
 */
#ifndef PAGESERVER_DOOR_H
#define PAGESERVER_DOOR_H

#include "common/err.h"
#include "pageserver/member.h"

struct door;

/* Listens at path (borrowed) for who speaks as peer does; who comes is admitted to
 * members, which outlives the door. *given: the socket that listens there already
 * (another opened it, and removes it), taken; -1 = none does. */
int door_open(const char *path, int *given, const struct peer_ops *peer,
              struct members *members, struct door **ret, struct err *e);
/* removes the path if we made it and it is still ours */
void door_close(struct door *door);

#endif
