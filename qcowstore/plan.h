/* SPDX-License-Identifier: Apache-2.0 */
/* plan.h - where everything but RAM goes in a new file.
 *
 * HOSTSUMS has a sum for every host cluster, also for its own ones, and the
 * refcounts count themselves: the file's size is a fixed point, found by
 * trying. All host clusters behind RAM are given out in ascending order, in
 * the order of the fields below, and are written in that order.
 *
 * Threads: one.
 */
#ifndef QCOWSTORE_PLAN_H
#define QCOWSTORE_PLAN_H

#include <stdint.h>

#include "common/err.h"
#include "qcowstore/sectoc.h"
#include "qcowstore/writer-priv.h"

struct plan {
        /* first host cluster of each */
        uint64_t sections;
        uint64_t checksums;             /* first level, then the blocks that are stored */
        uint64_t disk_l2;
        uint64_t state_l2;
        uint64_t snapshot_l1;
        uint64_t active_l1;
        uint64_t reftable;
        uint64_t refblocks;
        uint64_t hostsums;
        uint64_t toc_at;
        uint64_t snaptable;
        uint64_t total;                 /* host clusters of the file */

        uint64_t disk_tables;           /* L2 tables of the disk */
        uint64_t l1_entries;            /* of the snapshot */
        uint64_t refblock_count;
        uint64_t state_bytes;
        struct sectoc toc;              /* all but the sums */
        /* L2 tables of the VM-state area, host-endian; NULL = none */
        uint64_t **state_tables;
        uint64_t state_l1;
};

/* CHECKSUMS and HOSTSUMS are the last two of toc. Needs plan_fini() also on
 * failure. */
int plan_init(struct plan *p, const struct qs_writer *w, struct err *e);
void plan_fini(struct plan *p);

#endif
