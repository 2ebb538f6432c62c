/* SPDX-License-Identifier: Apache-2.0 */
/* fdstore.h - descriptors that outlive this process, in the care of a service manager.
 *
 * systemd is one, our own supervisor (supervise.h) another: what is put away under
 * a name comes back to the next process of the service as a descriptor from 3 on,
 * named in $LISTEN_FDNAMES. Without a manager nothing outlives us, and putting
 * away does nothing.
 *
 * Ownership: fdstore_put() lends, the manager keeps duplicates of its own; what
 *            fdstore_given() gives is the caller's.
 * Threads:   main thread.
 */
#ifndef PAGESERVER_FDSTORE_H
#define PAGESERVER_FDSTORE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"
#include "common/wire/fdnote.h"

struct fdstore {
        int sock;                       /* -1 = there is no manager */
};

/* address: $NOTIFY_SOCKET; NULL or "" = no manager. On failure there is none. */
int fdstore_open(struct fdstore *store, const char *address, struct err *e);
void fdstore_close(struct fdstore *store);

/* 0 without a manager. A manager that takes nothing for a second is an error. */
int fdstore_put(struct fdstore *store, const char *name, int fd, struct err *e);
void fdstore_drop(struct fdstore *store, const char *name);
/* the service serves */
void fdstore_ready(struct fdstore *store);

struct fdgiven {
        int fd;
        char name[FDNOTE_NAME_MAX + 1]; /* "" = none that could be used */
};

struct fdgivens {
        struct fdgiven *given;
        size_t n;
};

/* What $LISTEN_FDS gives this process, close-on-exec; asked once, the variables are
 * removed. Without any n is 0. */
int fdstore_given(struct fdgivens *ret, struct err *e);
void fdgivens_free(struct fdgivens *g);
/* the first of that name, or -1; it is the caller's from then on */
int fdgivens_take(struct fdgivens *g, const char *name);

/* One note with at most one descriptor, over any unix socket that keeps messages
 * apart: the supervisor's end. *ret_fd is -1 where none came. ret_pid (may be
 * NULL) is the sender's, or 0. -EPIPE when the other end is gone, -EBADMSG when it
 * was no note; then nothing is left open. */
int fdstore_send(int sock, const struct fdnote *note, int fd);
int fdstore_receive(int sock, struct fdnote *ret, int *ret_fd, int *ret_pid);

#endif
