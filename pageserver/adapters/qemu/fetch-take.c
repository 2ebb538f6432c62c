/* SPDX-License-Identifier: Apache-2.0 */
#include "common/check.h"
#include "pageserver/adapters/qemu/fetch-priv.h"

/* ---- batches ----------------------------------------------------------------- */

/* One more run of the batch, or more of the last one. false: it is full. */
static bool add(struct fetch_batch *b, const struct fetch_piece *p)
{
        struct fetch_piece *last = b->n ? &b->piece[b->n - 1] : NULL;

        if (p->data && b->bytes + p->bytes > FETCH_BATCH_BYTES)
                return false;
        if (last && last->block == p->block && last->offset + last->bytes == p->offset &&
            (p->data ? last->data && last->data + last->bytes == p->data : !last->data)) {
                last->bytes += p->bytes;
        } else {
                if (b->n == FETCH_PIECES_MAX)
                        return false;
                b->piece[b->n++] = *p;
        }
        b->bytes += p->data ? p->bytes : 0;
        return true;
}

/* The page that is begun; false: the batch is full before its end. */
static bool go_on_locked(struct fetch *f, struct fetch_batch *b) REQUIRES(f->lock)
{
        struct load *l = f->begun;

        while (f->begun_at < f->begun_end) {
                bool zero;
                uint64_t at = f->begun_at;
                uint64_t limit = MIN(f->begun_end, at + FETCH_BATCH_BYTES / 2);
                uint64_t end = load_run(l, f->pages, at, limit, &zero);
                struct fetch_piece p = {
                        .block = l->span.block, .offset = l->span.offset + at,
                        .bytes = end - at, .data = zero ? NULL : l->data + at,
                };

                if (!add(b, &p))
                        return false;
                l->lent = true;
                f->begun_at = end;
        }
        f->begun = NULL;
        return true;
}

/* The page at offset of l's block, which was not sent. false: the batch is full. */
static bool send_locked(struct fetch *f, struct load *l, uint64_t offset, uint64_t page,
                        struct fetch_batch *b) REQUIRES(f->lock)
{
        bool mine = bits_set(&f->pages->sent, page);

        ASSERT(mine && !f->begun);              /* INV-ONCE */
        f->begun = l;
        f->begun_at = offset - l->span.offset;
        f->begun_end = f->begun_at + f->pages->of[l->span.block].page_bytes;
        return go_on_locked(f, b);
}

/* ---- requests ---------------------------------------------------------------- */

static bool answer_locked(struct fetch *f, struct load *l, struct fetch_batch *b)
        REQUIRES(f->lock)
{
        uint64_t page_bytes = f->pages->of[l->span.block].page_bytes;

        while (l->nwanted > 0) {
                uint64_t offset = load_unwant(l, f->pages);
                uint64_t page = hostpages_page(f->pages, l->span.block, offset);
                uint64_t at = offset - l->span.offset;

                if (l->span.bytes == page_bytes)
                        l->cursor = page_bytes;         /* that is all of it */
                if (bits_test(&f->pages->sent, page))
                        continue;
                b->requests++;
                f->stats.requests++;
                f->stats.zero_answers += load_is_zero(l, f->pages, at, at + page_bytes);
                if (!send_locked(f, l, offset, page, b))
                        return false;
        }
        return true;
}

static bool answers_locked(struct fetch *f, struct fetch_batch *b) REQUIRES(f->lock)
{
        for (unsigned i = f->nloads; i-- > 0;) {
                if (f->load[i].state == LOAD_READY && !answer_locked(f, &f->load[i], b))
                        return false;
        }
        return true;
}

/* ---- the background ---------------------------------------------------------- */

/* The load whose turn it is: the rest of what was asked for first, then as picked. */
static struct load *turn_locked(struct fetch *f, bool urgent) REQUIRES(f->lock)
{
        struct load *first = NULL;
        unsigned end = urgent ? f->nloads : f->nahead;

        for (unsigned i = urgent ? f->nahead : 0; i < end; i++) {
                struct load *l = &f->load[i];

                if (l->state == LOAD_FREE || !l->whole || l->cursor == l->span.bytes ||
                    (urgent && l->state != LOAD_READY))
                        continue;
                if (!first || l->ticket < first->ticket)
                        first = l;
        }
        if (!first && urgent)
                return turn_locked(f, false);
        return first && first->state == LOAD_READY ? first : NULL;
}

static bool push_load_locked(struct fetch *f, struct load *l, uint64_t max, struct fetch_batch *b)
        REQUIRES(f->lock)
{
        const struct hostpages *h = f->pages;
        uint64_t page_bytes = h->of[l->span.block].page_bytes;

        while (l->cursor < l->span.bytes && b->bytes < max) {
                uint64_t at = l->cursor;
                uint64_t page = hostpages_page(h, l->span.block, l->span.offset + at);

                l->cursor += page_bytes;
                if (bits_test(&h->sent, page) ||
                    (!f->zeros && load_is_zero(l, h, at, at + page_bytes)))
                        continue;
                if (!send_locked(f, l, l->span.offset + at, page, b))
                        return false;
        }
        return true;
}

static void push_locked(struct fetch *f, uint64_t max, struct fetch_batch *b) REQUIRES(f->lock)
{
        struct load *l;

        max = MIN(max, FETCH_BATCH_BYTES);
        while (b->bytes < max && (l = turn_locked(f, true))) {
                if (!push_load_locked(f, l, max, b))
                        return;
        }
}

/* ---- what is next ------------------------------------------------------------ */

/* Nobody needs its data any more, all of the batch before is written. */
static void retire_locked(struct fetch *f) REQUIRES(f->lock)
{
        bool any = false;

        for (unsigned i = 0; i < f->nloads; i++) {
                struct load *l = &f->load[i];

                l->lent = false;
                if (l->state == LOAD_READY && l->nwanted == 0 && l != f->begun &&
                    (!l->whole || l->cursor == l->span.bytes)) {
                        l->state = LOAD_FREE;
                        any = true;
                }
        }
        /* a fetcher may have looked for one in vain */
        if (f->requests.n > 0 || (any && f->going && !f->swept))
                cond_broadcast(&f->work);
}

static bool done_locked(struct fetch *f) REQUIRES(f->lock)
{
        for (unsigned i = 0; i < f->nloads; i++) {
                if (f->load[i].state != LOAD_FREE)
                        return false;
        }
        return f->going && f->swept && !f->held && f->requests.n == 0;
}

static enum fetch_next look_locked(struct fetch *f, uint64_t max, struct fetch_batch *b,
                                   struct err *e) REQUIRES(f->lock)
{
        if (f->failed && !f->begun) {
                *e = f->err;
                return FETCH_FAILED;
        }
        if (f->closed)
                return FETCH_CLOSED;
        retire_locked(f);
        b->n = b->requests = 0;
        b->bytes = 0;
        /* a page that is begun is here whole, whatever has failed since */
        if ((!f->begun || go_on_locked(f, b)) && !f->failed && answers_locked(f, b) && b->n == 0)
                push_locked(f, max, b);
        b->goes_on = f->begun != NULL;
        if (b->n > 0)
                return FETCH_BATCH;
        retire_locked(f);               /* loads of which nothing had to be sent */
        return done_locked(f) ? FETCH_DONE : FETCH_WAITED;
}

enum fetch_next fetch_take(struct fetch *f, uint64_t background_bytes, uint64_t until_ns,
                           struct fetch_batch *ret, struct err *e)
{
        enum fetch_next next;
        bool waited = true;

        lock_acquire(&f->lock);
        while ((next = look_locked(f, background_bytes, ret, e)) == FETCH_WAITED && waited) {
                if (until_ns == FETCH_NEVER)
                        cond_wait(&f->ready, &f->lock);
                else
                        waited = cond_wait_until(&f->ready, &f->lock, until_ns);
        }
        lock_release(&f->lock);
        return next;
}
