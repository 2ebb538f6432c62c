/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/prefetch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/clock.h"

/* A pause of this length may be made up for at once. */
#define BURST_NS (20 * NS_PER_MS)

int prefetch_init(struct prefetch *p, const struct prefetch_span *span, size_t spans,
                  uint64_t cluster_bytes, uint64_t rate)
{
        ASSERT(spans > 0);
        *p = (struct prefetch){
                .spans = spans, .cluster_bytes = cluster_bytes, .rate = rate, .at = span[0].first,
        };
        p->span = calloc(spans, sizeof(*span));
        if (!p->span)
                return -ENOMEM;
        memcpy(p->span, span, spans * sizeof(*span));
        lock_init(&p->lock);
        return 0;
}

void prefetch_fini(struct prefetch *p)
{
        if (!p->span)
                return;
        free(p->span);
        p->span = NULL;
        lock_fini(&p->lock);
}

/* Newest window first; it is dropped when nothing is missing in it any more. */
static bool from_windows_locked(struct prefetch *p, prefetch_missing_fn *missing, void *ctx,
                                uint64_t *ret) REQUIRES(p->lock)
{
        while (p->windows > 0) {
                struct prefetch_span *w = &p->window[p->windows - 1];
                uint64_t c = missing(ctx, w->first, w->end);

                if (c < w->end) {
                        w->first = c + 1;
                        *ret = c;
                        return true;
                }
                p->windows--;
        }
        return false;
}

static enum prefetch_pick from_sweep_locked(struct prefetch *p, prefetch_missing_fn *missing,
                                            void *ctx, uint64_t *ret) REQUIRES(p->lock)
{
        if (p->at_span == p->spans)
                return PREFETCH_SWEPT;

        const struct prefetch_span *s = &p->span[p->at_span];
        uint64_t end = MIN(s->end, p->at + PREFETCH_SCAN_MAX);
        uint64_t c = missing(ctx, p->at, end);

        if (c < end) {
                p->at = c + 1;
                *ret = c;
                return PREFETCH_TAKE;
        }
        p->at = end;
        if (end == s->end && ++p->at_span < p->spans)
                p->at = p->span[p->at_span].first;
        return PREFETCH_AGAIN;
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

static enum prefetch_pick pick_locked(struct prefetch *p, uint64_t now_ns,
                                      prefetch_missing_fn *missing, void *ctx,
                                      uint64_t *ret_cluster, uint64_t *ret_wait_ns)
        REQUIRES(p->lock)
{
        if (p->rate == 0)
                return PREFETCH_IS_OFF;

        uint64_t until = blocked_until_locked(p, now_ns);

        if (until) {
                *ret_wait_ns = until;
                return PREFETCH_WAIT;
        }
        if (from_windows_locked(p, missing, ctx, ret_cluster))
                return PREFETCH_TAKE;
        return from_sweep_locked(p, missing, ctx, ret_cluster);
}

enum prefetch_pick prefetch_pick(struct prefetch *p, uint64_t now_ns,
                                 prefetch_missing_fn *missing, void *ctx,
                                 uint64_t *ret_cluster, uint64_t *ret_wait_ns)
{
        lock_acquire(&p->lock);
        enum prefetch_pick r = pick_locked(p, now_ns, missing, ctx, ret_cluster, ret_wait_ns);
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

/* the oldest gives way */
static void push_locked(struct prefetch *p, uint64_t first, uint64_t end) REQUIRES(p->lock)
{
        if (first >= end)
                return;
        if (p->windows == PREFETCH_WINDOWS_MAX) {
                memmove(&p->window[0], &p->window[1],
                        (PREFETCH_WINDOWS_MAX - 1) * sizeof(p->window[0]));
                p->windows--;
        }
        p->window[p->windows++] = (struct prefetch_span){ .first = first, .end = end };
}

static const struct prefetch_span *span_of(const struct prefetch *p, uint64_t cluster)
{
        size_t low = 0;
        size_t high = p->spans;

        while (low < high) {
                size_t mid = (low + high) / 2;

                if (p->span[mid].end <= cluster)
                        low = mid + 1;
                else
                        high = mid;
        }
        return low < p->spans && p->span[low].first <= cluster ? &p->span[low] : NULL;
}

void prefetch_hint(struct prefetch *p, uint64_t cluster)
{
        const struct prefetch_span *s = span_of(p, cluster);
        uint64_t ahead = MAX(PREFETCH_AHEAD_BYTES / p->cluster_bytes, 1);
        uint64_t behind = PREFETCH_BEHIND_BYTES / p->cluster_bytes;

        if (!s)
                return;
        lock_acquire(&p->lock);
        push_locked(p, cluster - MIN(behind, cluster - s->first), cluster);
        push_locked(p, cluster + 1, MIN(s->end, cluster + 1 + ahead));
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

void prefetch_restart(struct prefetch *p)
{
        lock_acquire(&p->lock);
        p->at_span = 0;
        p->at = p->span[0].first;
        lock_release(&p->lock);
}
