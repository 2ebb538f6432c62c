/* SPDX-License-Identifier: Apache-2.0 */
/* plan.h - where everything of a tag but its RAM goes.
 *
 * In two steps, as HOSTSUMS must not be placed before it is known which of its
 * blocks change: first what it guards (plan_init), then itself and the section
 * table (plan_sums).
 *
 * A tag of a pool starts from the latest one, the base. An L2 table that says
 * what the base's says is the base's, and so is the block of CHECKSUMS for the same
 * clusters; a block of HOSTSUMS is, when no cluster it speaks of was given out.
 *
 * Clusters are taken in the order of the fields below and so in a new file
 * follow each other.
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
        /* host clusters, the first one of several */
        uint64_t section_at[QS_SECTIONS_MAX];
        uint64_t checksums_at;          /* first level */
        uint64_t *block_at;             /* per L1 entry: of CHECKSUMS; 0 = none */
        uint64_t *l2_at;                /* per L1 entry */
        uint8_t *shared;                /* per L1 entry: both are the base's */
        uint64_t *state_l2_at;          /* per L1 entry of the VM state; 0 = none */
        uint64_t l1_at;
        uint64_t hostsums_at;           /* first level */
        uint64_t *hostsums_block_at;
        uint8_t *hostsums_shared;       /* per block: it is the base's */
        uint64_t toc_at;

        uint64_t l1_entries;
        uint64_t hostsums;              /* sums in it */
        uint64_t state;                 /* clusters of the VM-state area so far */
        uint64_t state_bytes;
        struct sectoc toc;              /* all but the sums; CHECKSUMS, HOSTSUMS are last */
        /* L2 tables of the VM-state area, host-endian; NULL = none */
        uint64_t **state_tables;
        uint64_t state_l1;
};

/* Needs plan_fini() also on failure. */
int plan_init(struct plan *p, struct qs_writer *w, struct err *e);
int plan_sums(struct plan *p, struct qs_writer *w, struct err *e);
void plan_fini(struct plan *p);

#endif
