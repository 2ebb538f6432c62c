/* SPDX-License-Identifier: Apache-2.0 */
/* commit.h - writes what belongs to a file and not to one of its tags: pool
 * area, active layer, snapshot table, refcounts; and makes the header that
 * refers to them.
 *
 * The pool area lies behind the disk in the active layer, laid out as the VM
 * state of a tag: a section table, then sections. It holds the index of contents
 * (dedupindex.h) and working sets (workset.h). Its clusters are the only ones with
 * COPIED, because they have refcount 1 in the active layer, where QEMU believes it.
 *
 * Threads: one.
 */
#ifndef QCOWSTORE_COMMIT_H
#define QCOWSTORE_COMMIT_H

#include <stdint.h>

#include "common/err.h"
#include "qcowstore/imghdr.h"
#include "qcowstore/pool.h"
#include "qcowstore/snaptable.h"
#include "qcowstore/space.h"

/* A section of the pool area: one that is there, or a new one. */
struct area_section {
        const struct section *kept;     /* of pool->area_toc; NULL = new */
        char name[QS_SECTION_NAME_MAX + 1];
        const void *data;               /* new */
        uint64_t bytes;
};

struct commit {
        /* the caller's; borrowed */
        int fd;
        struct space *space;
        const struct pool *pool;        /* whose state is superseded; NULL = a new file */
        const struct snapshot *snapshots;
        unsigned n_snapshots;
        const uint64_t *disk_l1;        /* offsets of the default tag's L2 tables */
        uint64_t disk_l1_entries;
        const struct area_section *area;
        unsigned n_area;
        /* makes a sentence of a failed write; returns rc */
        int (*write_error)(void *ctx, int rc, struct err *e);
        void *ctx;
        /* in: cluster_bits, disk_bytes, zstd, UUIDs, hash_seed, flags; the rest is
         * put in here */
        struct imghdr header;
};

/* The space's counts of all that tags and active layer refer to are right
 * already; here those of the rest are added. Nothing of the published state is
 * written. -EFBIG: QCOW2 cannot hold so much. */
int commit_write(struct commit *c, struct err *e);

#endif
