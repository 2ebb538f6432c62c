/* SPDX-License-Identifier: Apache-2.0 */
/* space.h - the host clusters of a file that is being written: how often each
 * is used, the sum of its stored bytes, and which may be given out.
 *
 * A new file has its header only, and grows. In a file that exists already (a
 * pool), refs and sums start as the published state has them, and clusters that
 * it does not use may be given out too, if the caller offers them.
 *
 * INV-SHADOW: no cluster that the published state uses is given out, whatever
 *             has become of its count meanwhile: the free runs are made
 *             before the first change, and what is recycled was given out since.
 *
 * Threads: one; but refs and sums of clusters given out may be written by
 *          those who write the clusters, as long as nothing is taken that
 *          makes the arrays grow.
 */
#ifndef QCOWSTORE_SPACE_H
#define QCOWSTORE_SPACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

struct space_run {
        uint64_t first;
        uint64_t n;
};

struct space {
        unsigned cluster_bits;
        uint32_t *refs;                 /* in the state in the making */
        uint64_t *sums;                 /* what HOSTSUMS will say; 0 = not guarded by it */
        uint64_t room;                  /* entries of both; whole blocks of sums */
        uint8_t *touched;               /* per block of sums: clusters of it were given out */
        uint64_t end;                   /* from here on nothing was ever used */
        struct space_run *free;         /* below end, ascending, not touching; n may be 0 */
        size_t free_runs;
        size_t free_from;               /* runs before are used up */
};

/* with the header's cluster */
int space_init(struct space *s, unsigned cluster_bits, struct err *e);
void space_fini(struct space *s);
/* room for so many clusters beyond end; their counts and sums are 0 */
int space_reserve(struct space *s, uint64_t clusters, struct err *e);
/* Clusters with refs 0 below end are free from now on. Once. */
int space_offer(struct space *s, struct err *e);
/* The first of n > 0 clusters that follow each other: the lowest free run that
 * is long enough, or at the end. 0 = no memory. */
uint64_t space_take(struct space *s, uint64_t n);
/* [s->end, end) was used by who takes from the end directly: the placer */
void space_extend(struct space *s, uint64_t end);
/* The lowest free run of at least min clusters, whole; {0, 0} = none. */
struct space_run space_take_run(struct space *s, uint64_t min);
/* gives back what is left of such a run */
void space_return(struct space *s, struct space_run run);
/* Clusters i with gone[i] are free again: they were given out by this writer, have
 * count 0, and nobody knows their content any more. gone has `room` entries, and is
 * scratch space from now on; no taken run may be outstanding. */
int space_recycle(struct space *s, uint8_t *gone, struct err *e);

#endif
