/* SPDX-License-Identifier: Apache-2.0 */
/* metasum.h - the sum of the tables that belong to a file and not to one of its
 * tags, meta_sum in the header.
 *
 * In this order: the clusters of the refcount table, each refcount block in the
 * table's order, the clusters of the active layer's L1 table, the L2 tables of
 * the pool area (layout.h) in L1 order. As in sum.h; only fed piecewise.
 *
 * Threads: one.
 */
#ifndef QCOWSTORE_METASUM_H
#define QCOWSTORE_METASUM_H

#include <stddef.h>
#include <stdint.h>

struct metasum;

/* NULL without memory */
struct metasum *metasum_new(uint64_t seed);
void metasum_free(struct metasum *m);
void metasum_add(struct metasum *m, const void *bytes, size_t n);
uint64_t metasum_get(const struct metasum *m);

#endif
