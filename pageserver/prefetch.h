/* SPDX-License-Identifier: Apache-2.0 */
/* prefetch.h - which cluster comes next when no fault waits, and whether now.
 *
 * Order: the clusters around the latest demand fault, those around earlier ones,
 * then a sweep over everything in ascending order. The rate is a token bucket
 * over bytes read; zero clusters cost nothing.
 *
 * Threads: any. prefetch->lock is a leaf: the missing function runs under it and
 *          takes no lock.
 */
#ifndef PAGESERVER_PREFETCH_H
#define PAGESERVER_PREFETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/lock.h"

#define PREFETCH_UNLIMITED UINT64_MAX

/* guest-physically near is often near in time: what follows a fault matters more
 * than what lies before it */
#define PREFETCH_AHEAD_BYTES (128u << 10)
#define PREFETCH_BEHIND_BYTES (32u << 10)
/* Faults remembered at a time; of a scattered working set the older ones are
 * left to the sweep. Two windows each. */
#define PREFETCH_WINDOWS_MAX 16
/* Clusters looked at under the lock in one call: about a microsecond. */
#define PREFETCH_SCAN_MAX 65536u

/* clusters [first, end) */
struct prefetch_span {
        uint64_t first;
        uint64_t end;
};

/* the first cluster in [from, end) worth fetching; end if there is none */
typedef uint64_t prefetch_missing_fn(void *ctx, uint64_t from, uint64_t end);

struct prefetch {
        /* constant after prefetch_init() */
        struct prefetch_span *span;
        size_t spans;
        uint64_t cluster_bytes;

        struct lock lock;
        uint64_t rate GUARDED_BY(lock);
        int64_t tokens GUARDED_BY(lock);        /* bytes; below 0 = in debt */
        uint64_t refilled_ns GUARDED_BY(lock);
        struct prefetch_span window[PREFETCH_WINDOWS_MAX] GUARDED_BY(lock);
        unsigned windows GUARDED_BY(lock);      /* the last one goes first */
        size_t at_span GUARDED_BY(lock);
        uint64_t at GUARDED_BY(lock);           /* sweep: next cluster to look at */
};

enum prefetch_pick {
        PREFETCH_TAKE,          /* *ret_cluster                                   */
        PREFETCH_AGAIN,         /* nothing among those looked at: call again      */
        PREFETCH_WAIT,          /* the rate does not allow it before *ret_wait_ns */
        PREFETCH_SWEPT,         /* the sweep is at its end                        */
        PREFETCH_IS_OFF,
};

/* span ascends; it is copied. 0 or -ENOMEM. */
int prefetch_init(struct prefetch *p, const struct prefetch_span *span, size_t spans,
                  uint64_t cluster_bytes, uint64_t rate);
void prefetch_fini(struct prefetch *p);

enum prefetch_pick prefetch_pick(struct prefetch *p, uint64_t now_ns,
                                 prefetch_missing_fn *missing, void *ctx,
                                 uint64_t *ret_cluster, uint64_t *ret_wait_ns);
/* bytes were read for a picked cluster */
void prefetch_charge(struct prefetch *p, uint64_t bytes);
/* a demand fault was served there */
void prefetch_hint(struct prefetch *p, uint64_t cluster);
void prefetch_rate(struct prefetch *p, uint64_t rate);
/* the sweep begins anew */
void prefetch_restart(struct prefetch *p);

#endif
