/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/prefetch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/clock.h"

/* A pause of this length may be made up for at once. */
#define BURST_NS (20 * NS_PER_MS)

int prefetch_init(struct prefetch *p, const struct prefetch_options *o)
{
        ASSERT(o->spans > 0);
        *p = (struct prefetch){
                .spans = o->spans, .unit_bytes = o->unit_bytes, .around_bytes = o->around_bytes,
                .rate = o->rate, .at = o->span[0].first,
        };
        p->span = calloc(o->spans, sizeof(*o->span));
        if (!p->span)
                return -ENOMEM;
        memcpy(p->span, o->span, o->spans * sizeof(*o->span));
        lock_init(&p->lock);
        return 0;
}

void prefetch_fini(struct prefetch *p)
{
        if (!p->span)
                return;
        free(p->span);
        free(p->first);
        p->span = NULL;
        lock_fini(&p->lock);
}

static void rewind_locked(struct prefetch *p) REQUIRES(p->lock)
{
        p->at_first = 0;
        p->first_at = p->firsts > 0 ? p->first[0].first : 0;
        p->at_span = 0;
        p->at = p->span[0].first;
}

int prefetch_first(struct prefetch *p, const struct prefetch_span *first, size_t n)
{
        ASSERT(!p->first);
        if (n == 0)
                return 0;
        p->first = calloc(n, sizeof(*first));
        if (!p->first)
                return -ENOMEM;
        memcpy(p->first, first, n * sizeof(*first));
        p->firsts = n;
        lock_acquire(&p->lock);
        rewind_locked(p);
        lock_release(&p->lock);
        return 0;
}

/* how a pick looks at units */
struct look {
        prefetch_missing_fn *missing;
        void *ctx;
        uint64_t max;
};

/* The run of missing units that begins at first, which is one. */
static struct prefetch_span run_at(const struct look *l, uint64_t first, uint64_t end)
{
        struct prefetch_span run = { first, first + 1 };
        uint64_t limit = MIN(end, first + l->max);

        while (run.end < limit && l->missing(l->ctx, run.end, run.end + 1) == run.end)
                run.end++;
        return run;
}

/* Newest window first; it is dropped when nothing is missing in it any more. */
static bool from_windows(struct prefetch_windows *windows, const struct look *l,
                         struct prefetch_span *ret)
{
        while (windows->n > 0) {
                struct prefetch_span *w = &windows->at[windows->n - 1];
                uint64_t u = l->missing(l->ctx, w->first, w->end);

                if (u < w->end) {
                        *ret = run_at(l, u, w->end);
                        w->first = ret->end;
                        return true;
                }
                windows->n--;
        }
        return false;
}

/* The next run in [*at, end), of which no more than a bounded number is looked at;
 * *at moves behind what was. */
static bool from_span(const struct look *l, uint64_t *at, uint64_t end,
                      struct prefetch_span *ret)
{
        uint64_t until = MIN(end, *at + PREFETCH_SCAN_MAX);
        uint64_t u = l->missing(l->ctx, *at, until);

        *at = until;
        if (u == until)
                return false;
        *ret = run_at(l, u, end);
        *at = ret->end;
        return true;
}

/* The working set, extent by extent, then the sweep, span by span. */
static enum prefetch_pick from_lists_locked(struct prefetch *p, const struct look *l,
                                            struct prefetch_span *ret) REQUIRES(p->lock)
{
        if (p->at_first < p->firsts) {
                uint64_t end = p->first[p->at_first].end;
                bool found = from_span(l, &p->first_at, end, ret);

                if (p->first_at >= end && ++p->at_first < p->firsts)
                        p->first_at = p->first[p->at_first].first;
                return found ? PREFETCH_TAKE : PREFETCH_AGAIN;
        }
        if (p->at_span == p->spans)
                return PREFETCH_SWEPT;

        uint64_t end = p->span[p->at_span].end;
        bool found = from_span(l, &p->at, end, ret);

        if (p->at >= end && ++p->at_span < p->spans)
                p->at = p->span[p->at_span].first;
        return found ? PREFETCH_TAKE : PREFETCH_AGAIN;
}

static uint64_t saturated(unsigned __int128 v)
{
        return v > INT64_MAX ? INT64_MAX : (uint64_t)v;
}

/* both rounded down */
static uint64_t bytes_in(uint64_t rate, uint64_t ns)
{
        return saturated((unsigned __int128)rate * ns / NS_PER_SEC);
}

static uint64_t ns_for(uint64_t rate, uint64_t bytes)
{
        return saturated((unsigned __int128)bytes * NS_PER_SEC / rate);
}

/* 0 when something may be read now, else the time from which on it may */
static uint64_t blocked_until_locked(struct prefetch *p, uint64_t now_ns) REQUIRES(p->lock)
{
        if (p->rate == PREFETCH_UNLIMITED)
                return 0;

        int64_t burst = (int64_t)bytes_in(p->rate, BURST_NS) + 1;
        uint64_t passed_ns = now_ns - p->refilled_ns;
        uint64_t gained = bytes_in(p->rate, passed_ns);

        if (gained >= (uint64_t)(burst - p->tokens)) {
                p->tokens = burst;
                p->refilled_ns = now_ns;
        } else {
                /* what is less than a byte keeps its time for the next look */
                p->tokens += (int64_t)gained;
                p->refilled_ns += ns_for(p->rate, gained);
        }
        return p->tokens > 0 ? 0 : p->refilled_ns + ns_for(p->rate, (uint64_t)-p->tokens + 1) + 1;
}

static enum prefetch_pick pick_locked(struct prefetch *p, uint64_t now_ns, const struct look *l,
                                      struct prefetch_span *ret, uint64_t *ret_wait_ns)
        REQUIRES(p->lock)
{
        if (from_windows(&p->around, l, ret))
                return PREFETCH_TAKE;
        if (p->rate == 0 || p->paused)
                return PREFETCH_IS_OFF;

        uint64_t until = blocked_until_locked(p, now_ns);

        if (until) {
                *ret_wait_ns = until;
                return PREFETCH_WAIT;
        }
        /* what was recorded is worth more than a guess */
        if (p->at_first >= p->firsts && from_windows(&p->near, l, ret))
                return PREFETCH_TAKE;
        return from_lists_locked(p, l, ret);
}

enum prefetch_pick prefetch_pick(struct prefetch *p, uint64_t now_ns, uint64_t max,
                                 prefetch_missing_fn *missing, void *ctx,
                                 struct prefetch_span *ret, uint64_t *ret_wait_ns)
{
        struct look l = { .missing = missing, .ctx = ctx, .max = max };

        ASSERT(max > 0);
        lock_acquire(&p->lock);
        enum prefetch_pick r = pick_locked(p, now_ns, &l, ret, ret_wait_ns);
        lock_release(&p->lock);
        return r;
}

void prefetch_charge(struct prefetch *p, uint64_t bytes)
{
        lock_acquire(&p->lock);
        if (p->rate != PREFETCH_UNLIMITED)
                p->tokens -= (int64_t)bytes;
        lock_release(&p->lock);
}

static void push(struct prefetch_windows *w, uint64_t first, uint64_t end)
{
        if (first >= end)
                return;
        if (w->n == PREFETCH_WINDOWS_MAX) {
                memmove(&w->at[0], &w->at[1], (PREFETCH_WINDOWS_MAX - 1) * sizeof(w->at[0]));
                w->n--;
        }
        w->at[w->n++] = (struct prefetch_span){ .first = first, .end = end };
}

void prefetch_return(struct prefetch *p, uint64_t unit, uint64_t end)
{
        lock_acquire(&p->lock);
        push(&p->near, unit, end);
        lock_release(&p->lock);
}

static const struct prefetch_span *span_of(const struct prefetch *p, uint64_t unit)
{
        size_t low = 0;
        size_t high = p->spans;

        while (low < high) {
                size_t mid = (low + high) / 2;

                if (p->span[mid].end <= unit)
                        low = mid + 1;
                else
                        high = mid;
        }
        return low < p->spans && p->span[low].first <= unit ? &p->span[low] : NULL;
}

/* The aligned block around the fault, what lies behind the fault first. */
static void push_around_locked(struct prefetch *p, const struct prefetch_span *s, uint64_t unit)
        REQUIRES(p->lock)
{
        uint64_t block = p->around_bytes / p->unit_bytes;

        if (block < 2)
                return;

        uint64_t first = unit - unit % block;

        push(&p->around, MAX(first, s->first), unit);
        push(&p->around, unit + 1, MIN(first + block, s->end));
}

void prefetch_hint(struct prefetch *p, uint64_t unit)
{
        const struct prefetch_span *s = span_of(p, unit);
        uint64_t ahead = MAX(PREFETCH_AHEAD_BYTES / p->unit_bytes, 1);
        uint64_t behind = PREFETCH_BEHIND_BYTES / p->unit_bytes;

        if (!s)
                return;
        lock_acquire(&p->lock);
        push_around_locked(p, s, unit);
        push(&p->near, unit - MIN(behind, unit - s->first), unit);
        push(&p->near, unit + 1, MIN(s->end, unit + 1 + ahead));
        lock_release(&p->lock);
}

void prefetch_rate(struct prefetch *p, uint64_t rate)
{
        lock_acquire(&p->lock);
        p->rate = rate;
        p->tokens = 0;
        p->refilled_ns = 0;
        lock_release(&p->lock);
}

void prefetch_pause(struct prefetch *p, bool paused)
{
        lock_acquire(&p->lock);
        p->paused = paused;
        lock_release(&p->lock);
}

bool prefetch_paused(struct prefetch *p)
{
        lock_acquire(&p->lock);

        bool paused = p->paused;

        lock_release(&p->lock);
        return paused;
}

uint64_t prefetch_rate_set(struct prefetch *p)
{
        lock_acquire(&p->lock);

        uint64_t rate = p->rate;

        lock_release(&p->lock);
        return rate;
}

uint64_t prefetch_rate_now(struct prefetch *p)
{
        lock_acquire(&p->lock);

        uint64_t rate = p->paused ? 0 : p->rate;

        lock_release(&p->lock);
        return rate;
}

void prefetch_restart(struct prefetch *p)
{
        lock_acquire(&p->lock);
        rewind_locked(p);
        lock_release(&p->lock);
}
