/* SPDX-License-Identifier: Apache-2.0 */
/* unixsock.h - listening on and connecting to unix sockets by path. */
#ifndef VMM_UNIXSOCK_H
#define VMM_UNIXSOCK_H

#include "common/err.h"

/* type: SOCK_STREAM or SOCK_SEQPACKET. Mode 0600, close-on-exec, non-blocking.
 * The path must not exist. */
int unixsock_listen(const char *path, int type, int *ret_fd, struct err *e);
/* Blocking unless type has SOCK_NONBLOCK too; close-on-exec. */
int unixsock_connect(const char *path, int type, int *ret_fd, struct err *e);

#endif
