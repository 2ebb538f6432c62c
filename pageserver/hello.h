/* SPDX-License-Identifier: Apache-2.0 */
/* hello.h - the first message of our own protocol: which image, and in which lane.
 *
 * The image is opened by a thread of its own (errand.h), for its file system may not
 * answer; what follows is done when it is open. How long a client waits for that is its
 * table's to say (member.c).
 *
 * Threads: main thread.
 */
#ifndef PAGESERVER_HELLO_H
#define PAGESERVER_HELLO_H

#include "common/wire/psmsg.h"
#include "pageserver/session.h"

/* Begins to open; fds: those of the message, that are taken are -1 afterwards. */
int hello_begin(struct session *s, const struct psmsg_hello *h, int *fds, struct err *e);
/* 0: the client has its WELCOME. -EAGAIN: the image is not open yet. */
int hello_go_on(struct session *s, struct err *e);
/* what is left of it goes, also in the middle */
void hello_end(struct session *s);

#endif
