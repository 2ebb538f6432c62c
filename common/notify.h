/* SPDX-License-Identifier: Apache-2.0 */
/* notify.h - telling the service manager that started us how we are (sd_notify(3)).
 *
 * Threads: any. A manager that takes nothing for a second is given up.
 */
#ifndef COMMON_NOTIFY_H
#define COMMON_NOTIFY_H

#include "common/err.h"

/* address: $NOTIFY_SOCKET, a path or an abstract name. *ret_sock, a datagram socket, is the
 * caller's; -1 without an error when address is NULL or "": there is no manager. */
int notify_connect(const char *address, int *ret_sock, struct err *e);
/* READY=1 to $NOTIFY_SOCKET: the service serves. Nothing where there is no manager. */
int notify_ready(struct err *e);

#endif
