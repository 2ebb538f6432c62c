/* SPDX-License-Identifier: Apache-2.0 */
/* prefetch.h - which units come next when no fault waits, and whether now.
 *
 * Order: what lies around the latest demand faults (fault-around: also where
 * prefetch is off or its rate used up); what was wanted first the last time, in that
 * order; what lies ahead of the latest faults; then a sweep over everything in
 * ascending order. The rate is a token bucket over bytes read; zeros cost nothing.
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

/* An aligned block of this size around a fault comes right behind it: about what one
 * wake-up costs on a virtual machine. */
#define PREFETCH_AROUND_BYTES (64u << 10)
/* guest-physically near is often near in time: what follows a fault matters more
 * than what lies before it */
#define PREFETCH_AHEAD_BYTES (128u << 10)
#define PREFETCH_BEHIND_BYTES (32u << 10)
/* Faults remembered at a time; of a scattered working set the older ones are
 * left to the sweep. Two windows each. */
#define PREFETCH_WINDOWS_MAX 16
/* Units looked at under the lock in one call: about a microsecond. */
#define PREFETCH_SCAN_MAX 65536u

/* units [first, end) */
struct prefetch_span {
        uint64_t first;
        uint64_t end;
};

/* the first unit in [from, end) worth fetching; end if there is none */
typedef uint64_t prefetch_missing_fn(void *ctx, uint64_t from, uint64_t end);

/* the last pushed goes first; a full one drops its oldest */
struct prefetch_windows {
        struct prefetch_span at[PREFETCH_WINDOWS_MAX];
        unsigned n;
};

struct prefetch_options {
        const struct prefetch_span *span;       /* all there is, ascending; copied */
        size_t spans;
        uint64_t unit_bytes;
        uint64_t around_bytes;                  /* 0 = no fault-around */
        uint64_t rate;                          /* bytes per second */
};

struct prefetch {
        /* constant after prefetch_init() and prefetch_first() */
        struct prefetch_span *span;
        size_t spans;
        struct prefetch_span *first;            /* a working set, in its order */
        size_t firsts;
        uint64_t unit_bytes;
        uint64_t around_bytes;

        struct lock lock;
        uint64_t rate GUARDED_BY(lock);
        bool paused GUARDED_BY(lock);
        int64_t tokens GUARDED_BY(lock);        /* bytes; below 0 = in debt */
        uint64_t refilled_ns GUARDED_BY(lock);
        struct prefetch_windows around GUARDED_BY(lock);
        struct prefetch_windows near GUARDED_BY(lock);
        size_t at_first GUARDED_BY(lock);
        uint64_t first_at GUARDED_BY(lock);     /* in it: next unit to look at */
        size_t at_span GUARDED_BY(lock);
        uint64_t at GUARDED_BY(lock);           /* sweep: next unit to look at */
};

enum prefetch_pick {
        PREFETCH_TAKE,          /* *ret                                           */
        PREFETCH_AGAIN,         /* nothing among those looked at: call again      */
        PREFETCH_WAIT,          /* the rate does not allow it before *ret_wait_ns */
        PREFETCH_SWEPT,         /* the sweep is at its end                        */
        PREFETCH_IS_OFF,
};

/* 0 or -ENOMEM */
int prefetch_init(struct prefetch *p, const struct prefetch_options *o);
void prefetch_fini(struct prefetch *p);
/* Before the first pick, once: what was wanted first the last time. Units of no span are
 * the caller's to leave out; spans may overlap. Copied; 0 or -ENOMEM. */
int prefetch_first(struct prefetch *p, const struct prefetch_span *first, size_t n);

/* max > 0: how many units the caller would take at once. Some behind ret->first may
 * be there already; they count as looked at. */
enum prefetch_pick prefetch_pick(struct prefetch *p, uint64_t now_ns, uint64_t max,
                                 prefetch_missing_fn *missing, void *ctx,
                                 struct prefetch_span *ret, uint64_t *ret_wait_ns);
/* Of a picked span the caller did not take what begins at unit: it comes again soon. */
void prefetch_return(struct prefetch *p, uint64_t unit, uint64_t end);
/* bytes were read for a picked unit */
void prefetch_charge(struct prefetch *p, uint64_t bytes);
/* a demand fault was served there */
void prefetch_hint(struct prefetch *p, uint64_t unit);
void prefetch_rate(struct prefetch *p, uint64_t rate);
/* While paused it is as good as off, whatever the rate is or becomes. */
void prefetch_pause(struct prefetch *p, bool paused);
bool prefetch_paused(struct prefetch *p);
/* the one that was set */
uint64_t prefetch_rate_set(struct prefetch *p);
/* the one that applies: 0 while paused */
uint64_t prefetch_rate_now(struct prefetch *p);
/* working set and sweep begin anew */
void prefetch_restart(struct prefetch *p);

#endif
