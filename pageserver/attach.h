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

/* For a client with pages of its own: the map of what is in place. The source is
 * known. */
int session_open_map(struct session *s, uint32_t page_bytes, struct err *e);

struct session_memory {
        const char *path;               /* of the image, for messages */
        uint32_t page_bytes;            /* of the client's memory, a power of two */
        bool removes;                   /* it reports what it gives back */
        int removed_fd;                 /* the map of that, of an earlier server; else -1 */
        bool record;                    /* first touches are noted */
};

/* The image is open: sizes, and what was given back. */
int session_describe(struct session *s, const struct session_memory *m, struct err *e);

/* The client is described. Checks regions and descriptors, makes
 * the tables, and the session is SERVING: give it to the workers. fds: a->nuffds
 * userfaultfds; those that were taken are -1 afterwards. */
int session_attach(struct session *s, const struct psmsg_attach *a, int *fds, struct err *e);

/* Lets every thread of the client that waits fault anew. */
void session_wake_all(struct session *s);

#endif
