/* SPDX-License-Identifier: Apache-2.0 */
/* sumtree.h - a long array of sums that is read and verified piecewise.
 *
 * In the VM-state area, from the section's offset on:
 *
 *     first level   u64 per block: the sum of the block; 0 = all its sums are
 *                   zero and the block is unallocated
 *     blocks        from the next cluster boundary, one cluster of u64 sums
 *                   each, at fixed places
 *
 * The section table's sum guards the first level, which guards the blocks.
 *
 * Threads: sumtree_get() from any number of threads without a lock; a block
 *          is published by one atomic pointer and never changes after.
 * Errors:  -EBADMSG, or what the read function returned.
 */
#ifndef QCOWSTORE_SUMTREE_H
#define QCOWSTORE_SUMTREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "qcowstore/store.h"

/* more than the clusters of any disk or file that the format allows */
#define SUMTREE_ENTRIES_MAX (1ull << 40)

/* blocks that hold so many sums */
uint64_t sumtree_blocks(uint64_t entries, unsigned cluster_bits);
/* where block 0 starts, relative to the section */
uint64_t sumtree_blocks_at(uint64_t entries, unsigned cluster_bits);
/* bytes of the VM-state area for all of it */
uint64_t sumtree_extent(uint64_t entries, unsigned cluster_bits);

struct section;
struct sumtree;

/* reads bytes of the VM-state area; they are verified here */
typedef int sumtree_read_fn(void *ctx, uint64_t offset, void *buf, size_t bytes,
                            struct err *e);

/* Reads the first level. section is copied. */
int sumtree_open(const struct section *section, unsigned cluster_bits, uint64_t seed,
                 sumtree_read_fn *read, void *ctx, struct sumtree **ret, struct err *e);
void sumtree_free(struct sumtree *t);

uint64_t sumtree_entries(const struct sumtree *t);
/* The sum of index and those of its block are all zero, as far as the first
 * level says; index < sumtree_entries(), also below. */
bool sumtree_block_empty(const struct sumtree *t, uint64_t index);
int sumtree_get(struct sumtree *t, uint64_t index, uint64_t *ret, struct err *e);

#endif
