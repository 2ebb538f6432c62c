/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "common/check.h"
#include "common/clock.h"
#include "pageserver/adapters/qemu/fetch-priv.h"

/* While the background has a limit, the last unit of all is not its: QEMU hangs when there is
 * nothing to discard before LISTEN. Called under f->lock, through the order. */
static uint64_t untaken(void *ctx, uint64_t from, uint64_t end) NO_TSA
{
        const struct fetch *f = ctx;
        const struct bits *taken = &f->pages->taken;
        uint64_t stop = f->limited ? MIN(end, f->pages->units - 1) : end;
        uint64_t u = from < stop ? bits_next_unset(&taken, 1, from, stop) : stop;

        return u < stop ? u : end;
}

static void take_locked(struct fetch *f, const struct hostpages_span *s, uint64_t first,
                        uint64_t n) REQUIRES(f->lock)
{
        for (uint64_t u = first; u < first + n; u++) {
                bool mine = bits_set(&f->pages->taken, u);

                ASSERT(mine);           /* INV-COVERED */
        }
        f->taken_bytes += s->bytes;
}

/* A load for a request. Where all have one, the rest of the oldest that nobody waits for is
 * left to the background: requests come first. */
static struct load *urgent_load_locked(struct fetch *f) REQUIRES(f->lock)
{
        struct load *l = fetch_free_load_locked(f, true);
        struct load *oldest = NULL;

        for (unsigned i = f->nahead; !l && i < f->nloads; i++) {
                struct load *x = &f->load[i];

                if (x->state == LOAD_READY && x->whole && x->nwanted == 0 && !x->lent &&
                    x != f->begun && (!oldest || x->ticket < oldest->ticket))
                        oldest = x;
        }
        if (!oldest)
                return l;
        bits_clear(&f->pages->taken,
                   hostpages_unit(f->pages, oldest->span.block, oldest->span.offset));
        f->taken_bytes -= oldest->span.bytes;
        oldest->state = LOAD_FREE;
        f->swept = false;
        cond_broadcast(&f->work);       /* the background has work again */
        return oldest;
}

/* The unit of the first request that no load answers. */
static struct load *request_locked(struct fetch *f) REQUIRES(f->lock)
{
        struct load *l = f->requests.n > 0 ? urgent_load_locked(f) : NULL;
        uint64_t page;

        while (l && l->state == LOAD_FREE && requests_pop(&f->requests, &page)) {
                const struct hostpages *h = f->pages;
                struct hostpages_span s = hostpages_page_span(h, page);
                uint64_t unit = hostpages_unit(h, s.block, s.offset);

                cond_broadcast(&f->work);       /* there is room for one more */
                if (fetch_admit_locked(f, page)) {
                        l = urgent_load_locked(f);
                        continue;
                }

                struct hostpages_span whole = hostpages_unit_span(h, unit, 1);

                take_locked(f, &whole, unit, 1);
                load_begin(l, &whole, true, f->tickets++, h);
                load_want(l, h, s.offset);
                prefetch_hint(&f->order, unit);
        }
        return l && l->state == LOAD_FETCHING ? l : NULL;
}

/* How many of n units from first on fit a load. */
static uint64_t fitting(const struct fetch *f, const struct load *l, uint64_t first, uint64_t n)
{
        struct hostpages_span one = hostpages_unit_span(f->pages, first, 1);

        return MAX(1, MIN(n, l->room / f->pages->of[one.block].unit_bytes));
}

/* The order forgets what was returned to it when much else comes between: it is at its end
 * only when every unit is taken. */
static enum prefetch_pick pick_locked(struct fetch *f, uint64_t max, struct prefetch_span *ret,
                                      uint64_t *ret_until_ns) REQUIRES(f->lock)
{
        enum prefetch_pick pick = prefetch_pick(&f->order, clock_now_ns(), max, untaken, f, ret,
                                                ret_until_ns);

        if (pick == PREFETCH_SWEPT && untaken(f, 0, f->pages->units) < f->pages->units) {
                prefetch_restart(&f->order);
                pick = PREFETCH_AGAIN;
        }
        return pick;
}

/* Of the order. *ret_until_ns: when to look again. */
static struct load *background_locked(struct fetch *f, uint64_t *ret_until_ns) REQUIRES(f->lock)
{
        struct load *l = fetch_free_load_locked(f, false);
        uint64_t max = MAX(1u, FETCH_LOAD_BYTES / f->order.unit_bytes);
        enum prefetch_pick pick = PREFETCH_AGAIN;
        struct prefetch_span p;

        if (!l || !f->going || f->swept)
                return NULL;
        while (pick == PREFETCH_AGAIN && f->taken_bytes < f->until_bytes)
                pick = pick_locked(f, max, &p, ret_until_ns);
        if (pick == PREFETCH_SWEPT || pick == PREFETCH_AGAIN) {
                f->swept = true;
                cond_broadcast(&f->ready);
        }
        if (pick != PREFETCH_TAKE)
                return NULL;

        uint64_t n = fitting(f, l, p.first, p.end - p.first);
        struct hostpages_span s = hostpages_unit_span(f->pages, p.first, n);

        if (p.first + n < p.end)
                prefetch_return(&f->order, p.first + n, p.end);
        take_locked(f, &s, p.first, n);
        load_begin(l, &s, true, f->tickets++, f->pages);
        return l;
}

/* What to read next; waits for it. NULL: nothing more. */
static struct load *next_locked(struct fetch *f, bool urgent_only) REQUIRES(f->lock)
{
        while (!f->closed && !f->failed) {
                uint64_t until_ns = FETCH_NEVER;
                struct load *l = request_locked(f);

                if (!l && !urgent_only)
                        l = background_locked(f, &until_ns);
                if (l)
                        return l;
                if (until_ns == FETCH_NEVER)
                        cond_wait(&f->work, &f->lock);
                else
                        cond_wait_until(&f->work, &f->lock, until_ns);
        }
        return NULL;
}

static void finish_locked(struct fetch *f, struct load *l, int rc, const struct err *e)
        REQUIRES(f->lock)
{
        if (rc == 0) {
                bool empty = l->nwanted == 0 && !f->zeros &&
                             load_is_zero(l, f->pages, 0, l->span.bytes);

                l->state = empty ? LOAD_FREE : LOAD_READY;
        } else if (!f->failed) {        /* the load stays as it is: nobody sends it */
                f->failed = true;
                f->err = *e;
                cond_broadcast(&f->work);
        }
        cond_broadcast(&f->ready);
}

void fetch_work(struct fetcher *w)
{
        struct fetch *f = w->fetch;
        struct load *l;

        lock_acquire(&f->lock);
        while ((l = next_locked(f, w->urgent_only))) {
                bool background = l < &f->load[f->nahead];
                uint64_t read = 0;
                struct err e;

                lock_release(&f->lock);

                int rc = load_read(l, f->pages, w->reader, &read, &e);

                if (background)
                        prefetch_charge(&f->order, read);
                lock_acquire(&f->lock);
                finish_locked(f, l, rc, &e);
        }
        lock_release(&f->lock);
}
