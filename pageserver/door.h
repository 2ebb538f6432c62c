/* SPDX-License-Identifier: Apache-2.0 */
/* door.h - a place in the file system where clients of one kind come in.
 *
 * Threads: main thread.
 */
#ifndef PAGESERVER_DOOR_H
#define PAGESERVER_DOOR_H

#include "common/err.h"
#include "pageserver/member.h"

struct door;

/* Listens at path (borrowed) for who speaks as peer does; who comes is admitted to
 * members, which outlives the door. */
int door_open(const char *path, const struct peer_ops *peer, struct members *members,
              struct door **ret, struct err *e);
/* removes the path if it is still ours */
void door_close(struct door *door);

#endif
