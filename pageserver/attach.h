/* SPDX-License-Identifier: Apache-2.0 */
/* attach.h - a session takes a client's memory into its care.
 *
 * Threads: main thread.
 * Errors:  a sentence; the session is to be refused then, nothing is served.
 */
#ifndef PAGESERVER_ATTACH_H
#define PAGESERVER_ATTACH_H

#include "common/err.h"
#include "pageserver/session-priv.h"

/* The image is open. Checks regions and descriptors, makes
 * the tables, and the session is SERVING: give it to the workers. fds: a->nuffds
 * userfaultfds; those that were taken are -1 afterwards. */
int session_attach(struct session *s, const struct psmsg_attach *a, int *fds, struct err *e);

/* Lets every thread of the client that waits fault anew. */
void session_wake_all(struct session *s);

#endif
