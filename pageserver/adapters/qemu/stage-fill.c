/* SPDX-License-Identifier: Apache-2.0 */
/* the reader's side of a stage: pages as they come */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "pageserver/adapters/qemu/stage-priv.h"

/* ---- the reader: room ---------------------------------------------------- */

static bool has_room_locked(struct stage *s) REQUIRES(s->lock)
{
        return s->n_free > 0 || s->n_fresh < s->n_slots;
}

/* INV-FORWARD */
static int hurry_locked(struct stage *s, struct piece *p) REQUIRES(s->lock)
{
        p->seen = calloc(PIECE_PAGES_MAX / 64, sizeof(*p->seen));
        if (!p->seen)
                return -ENOMEM;
        for (unsigned i = 0; p->table && i < s->piece_pages; i++) {
                if (p->table[i] != PAGE_NONE)
                        p->seen[i / 64] |= 1ull << i % 64;
        }
        p->state = PIECE_READY;
        cond_broadcast(&s->ready);
        return 0;
}

static int fill_hand_locked(struct stage *s) REQUIRES(s->lock)
{
        int rc = 0;

        while (rc == 0 && !s->stopped && !has_room_locked(s)) {
                struct piece *p = s->untaken < s->n_pieces ? &s->pieces[s->untaken] : NULL;

                if (p && p->state == PIECE_FILLING)
                        rc = hurry_locked(s, p);
                else
                        cond_wait(&s->room, &s->lock);
        }
        if (s->stopped)
                return -ECANCELED;
        while (has_room_locked(s) && s->in_hand < HAND_MAX / 2)
                s->hand[s->in_hand++] = s->n_free ? s->free[--s->n_free]
                                                  : (uint32_t)s->n_fresh++;
        return rc;
}

static int take_slot(struct stage *s, uint32_t *ret)
{
        if (s->stopped)
                return -ECANCELED;
        if (s->in_hand == 0) {
                lock_acquire(&s->lock);

                int rc = fill_hand_locked(s);

                lock_release(&s->lock);
                if (rc < 0)
                        return rc;
        }
        *ret = s->hand[--s->in_hand] + PAGE_SLOT;
        return 0;
}

/* what a page was, if it was in a slot */
static void drop(struct stage *s, uint32_t value)
{
        if (value < PAGE_SLOT)
                return;
        if (s->in_hand < HAND_MAX) {
                s->hand[s->in_hand++] = value - PAGE_SLOT;
                return;
        }
        lock_acquire(&s->lock);
        stage_give_locked(s, value);
        lock_release(&s->lock);
}

/* ---- the reader: pages --------------------------------------------------- */

static int make_spare(struct stage *s)
{
        if (!s->spare)
                s->spare = calloc(s->piece_pages, sizeof(*s->spare));
        return s->spare ? 0 : -ENOMEM;
}

/* Takes the spare table if the piece has none. *value: what the page was before. */
static void set_page(struct stage *s, struct piece *p, unsigned page, uint32_t *value)
{
        uint32_t old = PAGE_NONE;

        if (p->table)
                old = p->table[page];
        else
                p->table = ptr_take(&s->spare);
        p->table[page] = *value;
        p->pages += old == PAGE_NONE;
        p->stored = (uint16_t)(p->stored + (*value >= PAGE_SLOT) - (old >= PAGE_SLOT));
        *value = old;
}

static void complete(struct stage *s, struct piece *p)
{
        if (p->stored == 0) {
                free(ptr_take(&p->table));
                p->pages = 0;
        }
        lock_acquire(&s->lock);
        p->state = PIECE_READY;
        cond_broadcast(&s->ready);
        lock_release(&s->lock);
}

static void set_filled_locked(struct stage *s, struct piece *p, unsigned page, uint32_t *value)
        REQUIRES(s->lock)
{
        if (p->state == PIECE_TAKEN) {
                p->state = PIECE_LATE;
                s->late_pieces++;
        }
        set_page(s, p, page, value);
        if (p->state == PIECE_LATE)
                s->late_stored += (size_t)((p->table[page] >= PAGE_SLOT) -
                                           (*value >= PAGE_SLOT));
        if (s->late_stored > s->n_slots / 2)
                cond_broadcast(&s->ready);
}

static bool first_time(struct piece *p, unsigned page, uint32_t old)
{
        uint64_t bit = 1ull << page % 64;

        if (p->missing == 0)
                return false;
        if (!p->seen)
                return old == PAGE_NONE;
        if (p->seen[page / 64] & bit)
                return false;
        p->seen[page / 64] |= bit;
        return true;
}

/* value: PAGE_ZERO, or a slot that is filled and will be the stage's */
static int put(struct stage *s, struct piece *p, unsigned page, uint32_t value)
{
        bool filling = atomic_load_explicit(&p->state, memory_order_relaxed) == PIECE_FILLING;
        int rc = make_spare(s);

        if (rc < 0)
                return rc;
        if (filling) {
                set_page(s, p, page, &value);
        } else {
                lock_acquire(&s->lock);
                set_filled_locked(s, p, page, &value);
                lock_release(&s->lock);
        }
        if (first_time(p, page, value)) {
                s->missing--;
                if (--p->missing == 0 && filling)
                        complete(s, p);
        }
        drop(s, value);
        return 0;
}

static struct piece *find(struct stage *s, uint64_t gpa)
{
        if (gpa - s->range[s->last_range].gpa >= s->range[s->last_range].bytes)
                s->last_range = stage_range_of(s, gpa);
        ASSERT(s->last_range < s->n_ranges);            /* blocks is sealed */
        return &s->pieces[stage_piece_of(s, s->last_range, gpa)];
}

int stage_page(struct stage *s, uint64_t gpa, const void *data)
{
        uint32_t value;
        int rc = take_slot(s, &value);

        if (rc < 0)
                return rc;
        memcpy(stage_slot_at(s, value), data, s->page_bytes);
        return put(s, find(s, gpa), stage_page_of(s, gpa), value);
}

int stage_zeros(struct stage *s, uint64_t gpa, uint64_t bytes)
{
        int rc = s->stopped ? -ECANCELED : 0;

        for (uint64_t end = gpa + bytes; rc == 0 && gpa < end; gpa += s->page_bytes)
                rc = put(s, find(s, gpa), stage_page_of(s, gpa), PAGE_ZERO);
        return rc;
}

int stage_end(struct stage *s, struct err *e)
{
        if (s->missing > 0)
                return err_msg(e, EBADMSG, "the stream of QEMU left out %llu pages of memory: "
                               "switch free-page-hint of a balloon off, or take virtio-mem out "
                               "of the machine, and save again",
                               (unsigned long long)s->missing);
        lock_acquire(&s->lock);
        s->ended = true;
        cond_broadcast(&s->ready);
        lock_release(&s->lock);
        return 0;
}
