/* SPDX-License-Identifier: Apache-2.0 */
/* blk-serve.h - one request to a block device: checked, done, answered.
 *
 * Everything that the guest says in a request is read once, and checked here and nowhere else.
 * Threads: any number at once, each with a request of its own. May wait for the disk and for
 *          pages of the guest's.
 */
#ifndef VMM_VIRTIO_BLK_SERVE_H
#define VMM_VIRTIO_BLK_SERVE_H

#include <stdint.h>

#include "common/err.h"
#include "vmm/disk/disk.h"
#include "vmm/virtio/queue.h"

/* The keys of struct virtio_blk_stats. */
struct blk_counters {
        _Atomic uint64_t reads, read_bytes;
        _Atomic uint64_t writes, written_bytes;
        _Atomic uint64_t flushes, discards, zeroes;
        _Atomic uint64_t errors;
        _Atomic int last_error;
};

/* Whom requests are for. */
struct blk_target {
        struct disk *disk;
        const char *serial;
        uint64_t features;              /* negotiated */
        struct blk_counters counters;
};

/* In one request to discard or zero: ranges, and sectors of each. A drain waits for the
 * longest request: 64 MiB of zeros take a tenth of a second where they have to be written. */
#define BLK_DISCARD_RANGES_MAX 16u
#define BLK_ZEROES_RANGES_MAX 1u
#define BLK_RANGE_SECTORS_MAX ((64u << 20) / DISK_SECTOR_BYTES)

/* 0: answered, also with an error of the disk's or the request's; written is what to push it
 * with. -EBADMSG: it has no header, or no room for an answer; then *e says so. */
int blk_serve(struct blk_target *t, const struct vq_chain *c, uint32_t *ret_written,
              struct err *e);

#endif
