/* SPDX-License-Identifier: Apache-2.0 */
/* vsock-host.h - the host's side of a vsock device: unix sockets.
 *
 * At PATH we listen: a client says "CONNECT PORT\n", and becomes a connection to that port of
 * the guest. What the guest connects to, host port P, is whoever listens at PATH_P: a socket of
 * this user, of root or of the folder's owner, and no symbolic link to one. Nothing behind the
 * client's line is read here.
 *
 * Ownership: the socket file at PATH, from open to close. A client's descriptor is handed over.
 * Threads: open, close: one that has nobody beside it; the others on the device's loop.
 * Clients are untrusted: how many, how long, how much they say is bounded.
 */
#ifndef VMM_VIRTIO_VSOCK_HOST_H
#define VMM_VIRTIO_VSOCK_HOST_H

#include <stdint.h>

#include "common/err.h"
#include "vmm/virtio/loop.h"

struct vsock_host;

struct vsock_host_ops {
        /* A client wants a connection to that port; fd is non-blocking and the callee's. */
        void (*client)(void *ctx, int fd, uint32_t guest_port);
        void *ctx;
};

/* Mode 0600. A socket file that nobody listens at is replaced; nothing else is. Clients that
 * come wait until we watch. An empty path: nobody comes, nobody is reached. */
int vsock_host_open(const char *path, struct vsock_host **ret, struct err *e);
/* Removes the file if it is still ours. NULL is fine. */
void vsock_host_close(struct vsock_host *h);

/* From here on clients are heard; until unwatch, which leaves those that have not said all. */
int vsock_host_watch(struct vsock_host *h, struct virtio_loop *loop,
                     const struct vsock_host_ops *ops, struct err *e);
void vsock_host_unwatch(struct vsock_host *h);

/* To whoever listens at PATH_P, without waiting; -errno: nobody takes it, or may. */
int vsock_host_dial(const struct vsock_host *h, uint32_t host_port, int *ret_fd);

#endif
