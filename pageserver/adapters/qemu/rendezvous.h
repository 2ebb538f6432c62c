/* SPDX-License-Identifier: Apache-2.0 */
/* rendezvous.h - one connection at an address: "unix:PATH" or "tcp:HOST:PORT".
 *
 * TCP has neither encryption nor a password: it is for one host, or for the inside of
 * a tunnel. Threads: any. Errors: -ETIMEDOUT when nobody came in time_s seconds
 * (0 = no end).
 */
#ifndef PAGESERVER_ADAPTERS_QEMU_RENDEZVOUS_H
#define PAGESERVER_ADAPTERS_QEMU_RENDEZVOUS_H

#include "common/err.h"

/* is it one? -EINVAL and a sentence */
int rendezvous_check(const char *address, struct err *e);
/* Accepts one connection and listens no more; a socket in the file system has mode
 * 0600 and is removed. *ret_fd: blocking, close-on-exec, the caller's. */
int rendezvous_listen(const char *address, unsigned time_s, int *ret_fd, struct err *e);
int rendezvous_connect(const char *address, unsigned time_s, int *ret_fd, struct err *e);

#endif
