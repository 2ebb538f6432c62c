/* SPDX-License-Identifier: Apache-2.0 */
#include "common/check.h"
#include "vmm/disk/disk-priv.h"

#define SWAP(a, b) \
        do { \
                __typeof__(a) was_ = (a); \
                (a) = (b); \
                (b) = was_; \
        } while (0)

/* All but the gates, which belong to who uses the disk. */
void disk_swap(struct disk *a, struct disk *b)
{
        ASSERT(a->bytes == b->bytes && a->read_only == b->read_only);
        ASSERT(!a->gate.keep && !b->gate.keep);
        SWAP(a->path, b->path);
        SWAP(a->fd, b->fd);
        SWAP(a->block_device, b->block_device);
        SWAP(a->discard_granularity, b->discard_granularity);
        SWAP(a->overlay, b->overlay);

        int error = a->flush_error;

        a->flush_error = b->flush_error;
        b->flush_error = error;
}
