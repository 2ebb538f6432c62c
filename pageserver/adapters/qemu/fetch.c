/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/adapters/qemu/fetch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/check.h"
#include "pageserver/adapters/qemu/fetch-priv.h"

/* ---- life ------------------------------------------------------------------ */

static void *fetcher_main(void *ctx)
{
        fetch_work(ctx);
        return NULL;
}

static int start_fetchers(struct fetch *f, struct qs_image *image, struct err *e)
{
        for (unsigned i = 0; i < f->nfetchers; i++) {
                struct fetcher *w = &f->fetcher[i];
                int rc = qs_reader_new(image, &w->reader, e);

                if (rc < 0)
                        return rc;
                w->fetch = f;
                w->urgent_only = i == 0 && !f->zeros;
                rc = pthread_create(&w->thread, NULL, fetcher_main, w);
                if (rc)
                        return err_set(e, rc, "start a thread to read the image");
                w->started = true;
        }
        return 0;
}

static int make_loads(struct fetch *f)
{
        uint64_t unit = f->pages->largest_unit_bytes;
        uint64_t room = MAX(unit, FETCH_LOAD_BYTES);

        f->nahead = (unsigned)MAX(2u, MIN(FETCH_AHEAD_BYTES / room, FETCH_AHEAD_MAX));
        f->nloads = f->nahead + (unsigned)MAX(2u, MIN(FETCH_URGENT_BYTES / unit,
                                                      FETCH_URGENT_MAX));
        for (unsigned i = 0; i < f->nloads; i++) {
                int rc = load_init(&f->load[i], i < f->nahead ? room : unit,
                                   f->pages->target_bytes);

                if (rc < 0)
                        return rc;
        }
        return 0;
}

/* a span for each block, in units */
static int make_order(struct fetch *f, const struct fetch_options *o)
{
        const struct hostpages *h = f->pages;
        struct prefetch_span *span = calloc(h->blocks->n, sizeof(*span));
        struct prefetch_options p = {
                .span = span, .unit_bytes = h->of[0].unit_bytes, .rate = o->rate,
        };
        int rc = span ? 0 : -ENOMEM;

        for (unsigned i = 0; rc == 0 && i < h->blocks->n; i++) {
                p.unit_bytes = MIN(p.unit_bytes, h->of[i].unit_bytes);
                if (h->blocks->at[i].bytes > 0)
                        span[p.spans++] = (struct prefetch_span){ h->of[i].first_unit,
                                                                  hostpages_units_end(h, i) };
        }
        if (rc == 0)
                rc = prefetch_init(&f->order, &p);
        if (rc == 0)
                rc = prefetch_first(&f->order, o->first, o->nfirst);
        free(span);
        return rc;
}

static unsigned threads(const struct fetch_options *o)
{
        long cpus = sysconf(_SC_NPROCESSORS_ONLN);

        return 1 + (unsigned)MIN(o->threads ? o->threads : MAX(cpus, 1), (long)FETCH_THREADS_MAX);
}

int fetch_new(const struct fetch_options *o, struct fetch **ret, struct err *e)
{
        struct fetch *f = calloc(1, sizeof(*f));
        int rc = f ? 0 : -ENOMEM;

        if (f) {
                f->pages = o->pages;
                f->zeros = o->zeros;
                f->nfetchers = threads(o);
                lock_init(&f->lock);
                cond_init(&f->work);
                cond_init(&f->ready);
                rc = requests_init(&f->requests, o->pages->pages);
        }
        if (rc == 0)
                rc = make_loads(f);
        if (rc == 0)
                rc = make_order(f, o);
        if (rc < 0)
                err_msg(e, ENOMEM, "no memory to fetch pages");
        else
                rc = start_fetchers(f, o->image, e);
        if (rc < 0) {
                fetch_free(f);
                return rc;
        }
        *ret = f;
        return 0;
}

void fetch_free(struct fetch *f)
{
        if (!f)
                return;
        fetch_close(f);
        for (unsigned i = 0; i < f->nfetchers; i++) {
                if (f->fetcher[i].started)
                        pthread_join(f->fetcher[i].thread, NULL);
                qs_reader_free(f->fetcher[i].reader);
        }
        for (unsigned i = 0; i < f->nloads; i++)
                load_fini(&f->load[i]);
        prefetch_fini(&f->order);
        requests_fini(&f->requests);
        cond_fini(&f->work);
        cond_fini(&f->ready);
        lock_fini(&f->lock);
        free(f);
}

void fetch_close(struct fetch *f)
{
        lock_acquire(&f->lock);
        f->closed = true;
        cond_broadcast(&f->work);
        cond_broadcast(&f->ready);
        lock_release(&f->lock);
}

/* ---- the background ---------------------------------------------------------- */

void fetch_go(struct fetch *f, uint64_t until_bytes)
{
        lock_acquire(&f->lock);
        f->going = true;
        f->until_bytes = until_bytes;
        f->limited = until_bytes != FETCH_NEVER;
        f->swept = false;
        cond_broadcast(&f->work);
        lock_release(&f->lock);
}

void fetch_pause(struct fetch *f)
{
        lock_acquire(&f->lock);
        f->going = false;
        lock_release(&f->lock);
}

void fetch_rate(struct fetch *f, uint64_t rate)
{
        prefetch_rate(&f->order, rate);
        lock_acquire(&f->lock);
        cond_broadcast(&f->work);
        lock_release(&f->lock);
}

void fetch_hold(struct fetch *f, bool held)
{
        lock_acquire(&f->lock);
        f->held = held;
        cond_broadcast(&f->ready);
        lock_release(&f->lock);
}

/* ---- requests ---------------------------------------------------------------- */

struct load *fetch_free_load_locked(struct fetch *f, bool urgent)
{
        unsigned end = urgent ? f->nloads : f->nahead;

        for (unsigned i = urgent ? f->nahead : 0; i < end; i++) {
                if (f->load[i].state == LOAD_FREE)
                        return &f->load[i];
        }
        return NULL;
}

static struct load *covering_locked(struct fetch *f, unsigned block, uint64_t offset)
        REQUIRES(f->lock)
{
        for (unsigned i = 0; i < f->nloads; i++) {
                if (load_covers(&f->load[i], block, offset))
                        return &f->load[i];
        }
        return NULL;
}

/* INV-COVERED: no load has the page, its unit is taken: it is zero. */
static struct load *zero_load_locked(struct fetch *f, const struct hostpages_span *page)
        REQUIRES(f->lock)
{
        struct load *l = fetch_free_load_locked(f, true);

        if (l) {
                load_begin(l, page, false, f->tickets++, f->pages);
                load_zeros(l, f->pages);
                l->state = LOAD_READY;
        }
        return l;
}

bool fetch_admit_locked(struct fetch *f, uint64_t page)
{
        const struct hostpages *h = f->pages;
        struct hostpages_span s = hostpages_page_span(h, page);
        struct load *l;

        if (bits_test(&h->sent, page))
                return true;
        l = covering_locked(f, s.block, s.offset);
        if (!l && bits_test(&h->taken, hostpages_unit(h, s.block, s.offset)))
                l = zero_load_locked(f, &s);
        if (!l)
                return false;
        load_want(l, h, s.offset);
        if (l->state == LOAD_READY)
                cond_broadcast(&f->ready);
        return true;
}

static void want_locked(struct fetch *f, uint64_t page) REQUIRES(f->lock)
{
        if (bits_test(&f->pages->sent, page) || !requests_new(&f->requests, page)) {
                f->stats.repeated++;
                return;
        }
        if (fetch_admit_locked(f, page))
                return;
        while (requests_full(&f->requests) && !f->closed)
                cond_wait(&f->work, &f->lock);
        if (f->closed)
                return;
        requests_push(&f->requests, page);
        cond_broadcast(&f->work);
}

void fetch_want(struct fetch *f, unsigned block, uint64_t offset)
{
        lock_acquire(&f->lock);
        if (!f->closed)
                want_locked(f, hostpages_page(f->pages, block, offset));
        lock_release(&f->lock);
}

void fetch_stats(struct fetch *f, struct fetch_stats *ret)
{
        lock_acquire(&f->lock);
        *ret = f->stats;
        lock_release(&f->lock);
}
