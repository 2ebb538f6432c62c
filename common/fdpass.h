/* SPDX-License-Identifier: Apache-2.0 */
/* fdpass.h - one message with descriptors over a unix SEQPACKET socket.
 *
 * A message and its descriptors arrive whole or not at all: a truncated one
 * is refused and its descriptors are closed. Received descriptors are
 * close-on-exec and the caller's.
 * Threads: any; one sender and one receiver at a time per socket.
 */
#ifndef COMMON_FDPASS_H
#define COMMON_FDPASS_H

#include <stddef.h>
#include <sys/types.h>

/* userfaultfds of one client, or the files of a long chain; the kernel's own cap is 253 */
#define FDPASS_FDS_MAX 80

/* 0 or a negative errno (-EPIPE when the peer is gone; no signal) */
int fdpass_send(int sock, const void *msg, size_t bytes, const int *fds, size_t nfds);

/* Bytes received; 0 when the peer is gone; negative errno. -EMSGSIZE when the
 * message or its descriptors did not fit, -EMFILE when this process has no room for
 * them. fds has room for max_fds. */
ssize_t fdpass_recv(int sock, void *msg, size_t room, int *fds, size_t max_fds,
                    size_t *ret_nfds);

#endif
