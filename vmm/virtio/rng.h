/* SPDX-License-Identifier: Apache-2.0 */
/* rng.h - the virtio entropy device (virtio 1.2, 5.4): random bytes of the host's.
 *
 * It has no configuration and nothing to save: bytes that a guest has asked for before a
 * save and not yet got are other ones after each revert, which is as it should be.
 * Ownership: virtio_bus_add() takes it.
 */
#ifndef VMM_VIRTIO_RNG_H
#define VMM_VIRTIO_RNG_H

#include "common/err.h"
#include "vmm/virtio/device.h"

/* of one request: it is filled in part only, as a device may */
#define VIRTIO_RNG_REQUEST_BYTES_MAX (64u << 10)

int virtio_rng_new(const char *name, struct virtio_device **ret, struct err *e);

#endif
