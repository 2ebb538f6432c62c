/* SPDX-License-Identifier: Apache-2.0 */
/* listen.h - a socket of a daemon in the file system.
 *
 * INV-STALE: a path is replaced only if it is a socket on which nobody listens;
 *            two daemons that start at once cannot both win.
 */
#ifndef COMMON_LISTEN_H
#define COMMON_LISTEN_H

#include <stdbool.h>
#include <sys/stat.h>

#include "common/err.h"

struct listen_socket {
        int fd;                         /* non-blocking */
        const char *path;               /* borrowed */
        bool ours;                      /* we made what is at the path: */
        dev_t dev;
        ino_t ino;
};

/* type: SOCK_SEQPACKET or SOCK_STREAM. Mode 0600: whoever shall connect besides the
 * daemon's own user is admitted by changing the mode. -EADDRINUSE when another daemon
 * serves there; -EBUSY, after two seconds, when somebody keeps the folder locked. */
int listen_open(const char *path, int type, struct listen_socket *ret, struct err *e);
/* One that another process has opened, and removes: takes *fd. -EINVAL when it is not
 * what listen_open() makes. */
int listen_adopt(int *fd, const char *path, int type, struct listen_socket *ret,
                 struct err *e);
/* removes the path if we made it and it is still ours */
void listen_close(struct listen_socket *l);

#endif
