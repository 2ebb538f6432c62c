/* SPDX-License-Identifier: Apache-2.0 */
/* dedupindex.h - which contents a pool has, between two changes of it.
 *
 * Sections INDEX.0, INDEX.1, ... of the pool area, the older ones first: entries
 * of 24 bytes, little-endian: u64 key[2] (dedup.h), u64 L2 entry. Each change
 * adds what is new as a section; a section that is less than twice as long as
 * what comes after it is merged with that, so there are few, and every
 * entry is written a few times only. Of equal keys the newest one counts.
 *
 * A file that was saved without a tag in mind has no index: it costs a third of a
 * percent. The first change that wants one makes it, by reading all there is.
 *
 * INV-INDEX: an entry's host clusters are in use, and were since it was made; so
 *            they still hold that content. Whoever frees clusters drops their
 *            entries in the same change.
 *
 * Threads: one; build reads with a crew of its own.
 */
#ifndef QCOWSTORE_DEDUPINDEX_H
#define QCOWSTORE_DEDUPINDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "qcowstore/commit.h"
#include "qcowstore/dedup.h"
#include "qcowstore/pool.h"

#define INDEX_ENTRY_BYTES 24u
/* of what changes double each time; the last one may be as large as may be */
#define INDEX_SEGMENTS_MAX 24

struct dedupindex {
        struct area_section section[INDEX_SEGMENTS_MAX + 2];
        unsigned n;
        void *fresh;                    /* data of the only new section */
};

/* Is there an index? */
bool dedupindex_present(const struct pool *p);
/* How many contents may be known. */
uint64_t dedupindex_size(const struct pool *p);
/* What the pool has goes into d. */
int dedupindex_load(const struct pool *p, const struct space *s, struct dedup *d, struct err *e);
/* Reads all tags for it; d's keys become the index. */
int dedupindex_build(const struct pool *p, const struct space *s, struct dedup *d,
                     struct err *e);
/* What the next state has: what is kept, and what is fresh in d, which may be
 * NULL; behind it, if there are, WORKING-SETS as they are. freed: clusters were freed
 * since; entries whose clusters have count 0 there are gone, else NULL. Borrows pool;
 * dedupindex_fini() also on failure. */
int dedupindex_next(const struct pool *p, const struct dedup *d, const struct space *freed,
                    struct dedupindex *ret, struct err *e);
/* A new file's index: all that is fresh in d. */
int dedupindex_of(const struct dedup *d, struct dedupindex *ret, struct err *e);
/* The same of a file that was cloned: what p's index says, with the places that
 * its contents have in the new file; d is clone.h's. */
int dedupindex_moved(const struct pool *p, const struct dedup *d, struct dedupindex *ret,
                     struct err *e);
void dedupindex_fini(struct dedupindex *x);

#endif
