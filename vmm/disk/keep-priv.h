/* SPDX-License-Identifier: Apache-2.0 */
/* keep-priv.h - what a moment that is being kept is made of, for the files that implement
 * keep.h: keep.c has its life, keep-copy.c the blocks.
 *
 * Theory of operation
 *
 * Reflink: from the moment on writes wait at the gate, until FICLONE has returned; then
 * source and target share blocks, and the file system keeps them apart. Reads do not wait.
 *
 * Copy: the disk is cut into blocks. Each is claimed once, by the copier, which goes through
 * the disk in order, or by a write of the guest that wants to overwrite it; who claims it
 * copies it to the target and says that it is done. A write waits until all blocks that it
 * touches are done, by whomever, and only then begins.
 *
 * What is a hole need not be read: a block that nobody has claimed was not written since the
 * moment, so that a hole seen before it was claimed was one at the moment.
 *
 * INV-ASIDE: between the moment and the end no byte of the disk changes before its block is
 *            done.
 * INV-NOWAIT: who has claimed blocks waits for nobody before they are done.
 * INV-UNHARMED: whatever becomes of the copy, the guest's write begins, and its result is
 *               that of the disk alone.
 */
#ifndef VMM_DISK_KEEP_PRIV_H
#define VMM_DISK_KEEP_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "common/lock.h"
#include "common/publish.h"
#include "vmm/disk/blocks.h"
#include "vmm/disk/keep.h"

/* What a write sets aside at least. As large as an overlay's, so that one read is one file's. */
#define KEEP_BLOCK_BYTES 65536u
/* Claimed at once: how long a write waits for the copier at most. */
#define KEEP_RUN_BLOCKS 16u

/* NEW      the guest writes as it likes
 *          -> CLONING or COPYING, by freeze, while the device is drained
 * CLONING  writes wait
 *          -> OVER, by share; or COPYING, where FICLONE failed and copying will do
 * COPYING  writes set aside what they overwrite
 *          -> OVER, by run; or by anyone for whom the copy failed
 * OVER     writes do not care any more; err.code says how it went. */
enum keep_state { KEEP_NEW, KEEP_CLONING, KEEP_COPYING, KEEP_OVER };

struct disk_keep {
        /* constant after new */
        struct disk *disk;
        struct disk_keep_options options;       /* its path is target's */
        struct publish *target;         /* NULL = a file that was lent */
        int fd;                         /* of the target */
        int source;                     /* a file that holds all of the disk; -1 = none such */

        /* whoever saves */
        bool reflinked;                 /* it is one, or is going to be */
        bool frozen;                    /* the gate is closed */
        bool whole;                     /* the target holds the moment */
        uint64_t run_ns;

        _Atomic(enum keep_state) state; /* moves with the lock held */
        struct lock lock;               /* a leaf */
        struct cond changed;            /* state, or blocks are done and somebody waits */
        struct err err GUARDED_BY(lock);
        unsigned waiting GUARDED_BY(lock);

        /* COPYING */
        struct blocks claimed;
        struct blocks done;
        _Atomic uint64_t ndone;
        _Atomic bool in_kernel;         /* copy_file_range() works between these two */
        _Atomic uint64_t copied_bytes;
        _Atomic uint64_t aside_bytes;   /* by the guest's writes */
        _Atomic uint64_t waited;        /* writes that waited for others */
};

/* What a write does at the gate. */
void keep_before_write(struct disk_keep *k, uint64_t offset, uint64_t bytes);

/* keep-copy.c */
int keep_copy_init(struct disk_keep *k, struct err *e);
void keep_copy_fini(struct disk_keep *k);
/* All blocks that the write touches are done, or the copy is over. */
void keep_copy_aside(struct disk_keep *k, uint64_t offset, uint64_t bytes);
/* All blocks; or the copy is over. */
void keep_copy_all(struct disk_keep *k);

int keep_write_error(const struct disk_keep *k, int rc, struct err *e);
/* The copy is over, and has failed unless that is known already. */
void keep_fail(struct disk_keep *k, const struct err *why);

#endif
