/* SPDX-License-Identifier: Apache-2.0 */
/* listen.h - a socket of the daemon in the file system.
 *
 * INV-STALE: a path is replaced only if it is a socket on which nobody listens;
 *            two daemons that start at once cannot both win.
 */
#ifndef PAGESERVER_LISTEN_H
#define PAGESERVER_LISTEN_H

#include <sys/stat.h>

#include "common/err.h"

struct listen_socket {
        int fd;                         /* non-blocking */
        const char *path;               /* borrowed */
        dev_t dev;                      /* of what we made there */
        ino_t ino;
};

/* type: SOCK_SEQPACKET or SOCK_STREAM. Mode 0600: whoever shall connect besides the
 * daemon's own user is admitted by changing the mode. -EADDRINUSE when another daemon
 * serves there. */
int listen_open(const char *path, int type, struct listen_socket *ret, struct err *e);
/* removes the path if it is still ours */
void listen_close(struct listen_socket *l);

#endif
