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

struct door_options {
        const char *path;
        const struct peer_ops *peer;    /* how who comes speaks, */
        const void *offer;              /* and what there is for it; NULL = nothing */
        int *given;                     /* the socket that listens there already, if another
                                           opened it, and removes it; taken. NULL = none */
};

/* Who comes is admitted to members. What the options point to, and members, outlive
 * the door; the offer outlives its clients. */
int door_open(const struct door_options *o, struct members *members, struct door **ret,
              struct err *e);
/* a note of where it is; NULL: nothing */
void door_say(const struct door *door);
/* removes the path if we made it and it is still ours */
void door_close(struct door *door);

#endif
