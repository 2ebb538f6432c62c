/* SPDX-License-Identifier: Apache-2.0 */
/* chan.h - one psmsg with its descriptors over a socket.
 *
 * Ownership: sent descriptors stay the caller's; received ones are his from
 *            then on, exactly psmsg_fds() of them.
 * Threads:   any; one sender and one receiver at a time per socket.
 */
#ifndef PAGESERVER_CHAN_H
#define PAGESERVER_CHAN_H

#include "common/fdpass.h"
#include "common/wire/psmsg.h"

/* 0 or a negative errno: -EPIPE = peer gone, -EAGAIN = full (non-blocking socket) */
int chan_send(int sock, const struct psmsg *m, const int *fds);

/* 0 or a negative errno: -EPIPE = peer gone, -EAGAIN = nothing there (non-blocking
 * socket), -EBADMSG = not a message of ours, -EPROTONOSUPPORT = another version */
int chan_recv(int sock, struct psmsg *ret, int fds[FDPASS_FDS_MAX]);

#endif
