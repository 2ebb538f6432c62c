/* SPDX-License-Identifier: Apache-2.0 */
/* blk.h - the virtio block device (virtio 1.2, 5.2): a disk of the guest's.
 *
 * One queue, a few threads: as many requests as there are threads are with the disk at a time,
 * and are done in any order, as the guest must expect. A request that waits, for the disk or
 * for a page of the guest's memory, holds up one thread and a drain, nothing else.
 *
 * What the device offers depends on read_only alone, not on what the host's file system can:
 * a guest goes on on every host. A discard that cannot be done is done: it is a hint.
 *
 * Threads: stats from any; the rest as device.h says.
 */
#ifndef VMM_VIRTIO_BLK_H
#define VMM_VIRTIO_BLK_H

#include <stdint.h>

#include "common/err.h"
#include "vmm/disk/disk.h"
#include "vmm/virtio/device.h"

struct virtio_blk_stats {
        uint64_t reads, read_bytes;
        uint64_t writes, written_bytes;
        uint64_t flushes, discards, zeroes;
        uint64_t errors;                /* requests that did not end with OK */
        int last_error;                 /* errno of the last that the disk failed; 0 = none */
};

/* d is the device's from here on, also on failure. serial: what the guest reads as its serial
 * number, cut off after 20 bytes. */
int virtio_blk_new(struct disk *d, const char *name, const char *serial,
                   struct virtio_device **ret, struct err *e);

/* The device's; to keep a moment of it. */
struct disk *virtio_blk_disk(struct virtio_device *dev);
/* since the device was made */
void virtio_blk_stats(struct virtio_device *dev, struct virtio_blk_stats *ret);

#endif
