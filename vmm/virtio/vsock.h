/* SPDX-License-Identifier: Apache-2.0 */
/* vsock.h - the socket device (virtio 1.2, 5.10), with unix sockets on the host.
 *
 * As Firecracker and Cloud Hypervisor have it: a host program connects to the unix socket PATH,
 * writes "CONNECT PORT\n" and gets "OK PORT\n" once the guest has accepted; a program of the
 * guest that connects to CID 2, port PORT, gets to whoever listens at PATH_PORT. Streams only.
 *
 * Streams are not part of a saved state. A guest that is saved and runs on keeps them; one
 * that begins from a saved state is told to forget its own (TRANSPORT_RESET).
 */
#ifndef VMM_VIRTIO_VSOCK_H
#define VMM_VIRTIO_VSOCK_H

#include <stdint.h>

#include "common/err.h"
#include "vmm/virtio/device.h"

struct virtio_vsock_options {
        const char *name;
        uint32_t cid;                   /* the guest's */
        const char *path;               /* short enough for "_PORT" behind it; "" = unplugged:
                                           the host has no part of it */
};

/* Makes the socket file, which is removed with the device. */
int virtio_vsock_new(const struct virtio_vsock_options *o, struct virtio_device **ret,
                     struct err *e);

#endif
