/* SPDX-License-Identifier: Apache-2.0 */
/* balloon.h - the virtio memory balloon (virtio 1.2, 5.5): how much memory the guest is to do
 * without, and what it does not need at the moment.
 *
 * The guest inflates its balloon up to a target and deflates it down to that, or when it is out
 * of memory (DEFLATE_ON_OOM); and it reports free memory by itself (PAGE_REPORTING). Both goes
 * back to the host by giveback.h.
 * Ownership: virtio_bus_add() takes the device; the giveback outlives it.
 * Threads:   the functions here from any.
 */
#ifndef VMM_VIRTIO_BALLOON_H
#define VMM_VIRTIO_BALLOON_H

#include <json-c/json.h>
#include <stdint.h>

#include "common/err.h"
#include "vmm/giveback.h"
#include "vmm/virtio/device.h"

struct virtio_balloon_options {
        const char *name;
        struct giveback *giveback;
};

int virtio_balloon_new(const struct virtio_balloon_options *o, struct virtio_device **ret,
                       struct err *e);

/* What the guest is to do without, rounded down to pages; it takes its time. Once the device
 * is on its bus. -EINVAL: more than its memory. */
int virtio_balloon_set_target(struct virtio_device *dev, uint64_t bytes, struct err *e);
/* What `vmm info` shows:
 * { "target_mib", "actual_mib", "given_back_bytes", "deferred_bytes", "refused_bytes" } */
struct json_object *virtio_balloon_describe(struct virtio_device *dev);

#endif
