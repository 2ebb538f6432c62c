/* SPDX-License-Identifier: Apache-2.0 */
/* a stage's life, and its writer's side: pieces are taken, in rounds */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/auto.h"
#include "pageserver/adapters/qemu/stage-priv.h"

/* ---- making one ---------------------------------------------------------- */

static void count_missing(struct stage *s, const struct qemu_place *p)
{
        size_t range = stage_range_of(s, p->gpa);

        ASSERT(range < s->n_ranges);
        for (uint64_t gpa = p->gpa, end = p->gpa + p->bytes; gpa < end;) {
                uint64_t next = MIN(ALIGN_DOWN(gpa, PIECE_BYTES) + PIECE_BYTES, end);

                s->pieces[stage_piece_of(s, range, gpa)].missing +=
                        (uint16_t)((next - gpa) / s->page_bytes);
                gpa = next;
        }
        s->missing += p->bytes / s->page_bytes;
}

static int init_pieces(struct stage *s, const struct qemu_blocks *b)
{
        s->n_ranges = qemu_blocks_ranges(b, s->range);
        for (size_t i = 0; i < s->n_ranges; i++) {
                s->first[i] = s->n_pieces;
                s->n_pieces = stage_piece_of(s, i, stage_end_of(&s->range[i]) - 1) + 1;
        }
        s->pieces = calloc(s->n_pieces, sizeof(*s->pieces));
        if (!s->pieces)
                return -ENOMEM;
        for (size_t i = 0; i < b->n_places; i++)
                count_missing(s, &b->places[i]);
        for (uint64_t i = 0; i < s->n_pieces; i++) {
                if (s->pieces[i].missing == 0)          /* a gap */
                        s->pieces[i].state = PIECE_READY;
        }
        return 0;
}

static int init_pool(struct stage *s, uint64_t bytes)
{
        s->n_slots = MAX(bytes, STAGE_MEMORY_MIN) / s->page_bytes;
        s->free = calloc(s->n_slots, sizeof(*s->free));
        s->pool = mmap(NULL, s->n_slots * s->page_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (s->pool == MAP_FAILED)
                s->pool = NULL;
        if (!s->pool || !s->free)
                return -ENOMEM;
        /* fewer faults; a hint, as memory that stays small pages does as well */
        madvise(s->pool, s->n_slots * s->page_bytes, MADV_HUGEPAGE);
        return 0;
}

int stage_new(const struct stage_options *o, struct stage **ret, struct err *e)
{
        struct stage *s = calloc(1, sizeof(*s));
        int rc = s ? 0 : -ENOMEM;

        if (rc == 0) {
                lock_init(&s->lock);
                cond_init(&s->ready);
                cond_init(&s->room);
                s->page_bytes = o->page_bytes;
                s->piece_pages = (unsigned)(PIECE_BYTES / o->page_bytes);
                rc = init_pieces(s, o->blocks);
        }
        if (rc == 0)
                rc = init_pool(s, o->memory_bytes);
        if (rc < 0) {
                stage_free(s);
                return err_set(e, -rc, "keep pages of guest memory");
        }
        *ret = s;
        return 0;
}

void stage_free(struct stage *s)
{
        if (!s)
                return;
        for (uint64_t i = 0; s->pieces && i < s->n_pieces; i++) {
                free(s->pieces[i].table);
                free(s->pieces[i].seen);
        }
        free(s->pieces);
        free(s->spare);
        free(s->free);
        if (s->pool)
                munmap(s->pool, s->n_slots * s->page_bytes);
        cond_fini(&s->room);
        cond_fini(&s->ready);
        lock_fini(&s->lock);
        free(s);
}

const struct qs_ram_range *stage_ranges(const struct stage *s, size_t *ret_n)
{
        *ret_n = s->n_ranges;
        return s->range;
}

/* ---- the writer's side --------------------------------------------------- */

/* n pages of the piece, which are the caller's then. -EINVAL: a round asks for pages that
 * did not come again. */
static int take_locked(struct stage *s, struct piece *p, unsigned page, size_t n, uint32_t *ret)
        REQUIRES(s->lock)
{
        while (!s->stopped && p->state == PIECE_FILLING)
                cond_wait(&s->ready, &s->lock);
        if (s->stopped)
                return -ECANCELED;

        bool late = p->state == PIECE_LATE;

        for (size_t i = 0; i < n; i++) {
                ret[i] = p->table ? p->table[page + i] : PAGE_NONE;
                if (ret[i] == PAGE_NONE && s->again)
                        return -EINVAL;
                if (ret[i] == PAGE_NONE)
                        continue;
                p->table[page + i] = PAGE_NONE;
                p->pages--;
                p->stored -= ret[i] >= PAGE_SLOT;
                s->late_stored -= late && ret[i] >= PAGE_SLOT;
        }
        if (p->pages == 0 && p->state != PIECE_TAKEN) {
                s->late_pieces -= late;
                p->state = PIECE_TAKEN;
                free(ptr_take(&p->table));
        }
        while (s->untaken < s->n_pieces && s->pieces[s->untaken].state >= PIECE_TAKEN)
                s->untaken++;
        cond_broadcast(&s->room);       /* the first one may have changed */
        return 0;
}

static void give_back(struct stage *s, const uint32_t *value, size_t n)
{
        lock_acquire(&s->lock);
        for (size_t i = 0; i < n; i++) {
                if (value[i] >= PAGE_SLOT)
                        stage_give_locked(s, value[i]);
        }
        cond_broadcast(&s->room);
        lock_release(&s->lock);
}

/* in slots, or zero; returns whether any was in a slot */
static bool copy_out(const struct stage *s, const uint32_t *value, size_t n, uint8_t *buf)
{
        size_t first = 0;

        while (first < n && value[first] < PAGE_SLOT)
                first++;
        if (first == n)
                return false;
        for (size_t i = 0; i < n; i++, buf += s->page_bytes) {
                if (value[i] >= PAGE_SLOT)
                        memcpy(buf, stage_slot_at(s, value[i]), s->page_bytes);
                else
                        memset(buf, 0, s->page_bytes);
        }
        return true;
}

/* Of one piece. 1: all zero, buf is not touched. */
static int take_pages(struct stage *s, struct piece *p, uint64_t gpa, size_t bytes, uint8_t *buf,
                      struct err *e)
{
        uint32_t value[PIECE_PAGES_MAX];
        size_t n = bytes / s->page_bytes;

        lock_acquire(&s->lock);

        int rc = take_locked(s, p, stage_page_of(s, gpa), n, value);

        lock_release(&s->lock);
        if (rc < 0)
                return err_msg(e, -rc, rc == -ECANCELED ? "the save was stopped"
                               : "memory was asked for again that did not come again");
        if (!copy_out(s, value, n, buf))
                return 1;
        give_back(s, value, n);
        return 0;
}

const void *stage_span(void *stage, uint64_t gpa, size_t bytes, void *buf, struct qs_span *ret,
                       struct err *e)
{
        struct stage *s = stage;
        size_t range = stage_range_of(s, gpa);
        uint8_t *to = buf;
        bool any = false;

        ASSERT(range < s->n_ranges && bytes <= stage_end_of(&s->range[range]) - gpa);
        for (uint64_t end = gpa + bytes; gpa < end;) {
                uint64_t next = MIN(ALIGN_DOWN(gpa, PIECE_BYTES) + PIECE_BYTES, end);
                struct piece *p = &s->pieces[stage_piece_of(s, range, gpa)];
                int rc = take_pages(s, p, gpa, next - gpa, to, e);

                if (rc < 0)
                        return NULL;
                if (rc == 1 && next - gpa < bytes)
                        memset(to, 0, next - gpa);
                any |= rc == 0;
                to += next - gpa;
                gpa = next;
        }
        ret->kind = any ? QS_SPAN_DATA : QS_SPAN_ZERO;
        return buf;
}

/* ---- rounds -------------------------------------------------------------- */

/* Late pages in order, neighbours together; at: how many there are so far. ret NULL: only
 * counts. */
static size_t list_piece_locked(struct stage *s, const struct piece *p, uint64_t gpa,
                                uint64_t bytes, struct qs_ram_range *ret, size_t at)
        REQUIRES(s->lock)
{
        bool before = false;

        for (uint64_t end = gpa + bytes; gpa < end; gpa += s->page_bytes) {
                bool late = p->table[stage_page_of(s, gpa)] != PAGE_NONE;

                if (late && !before && ret)
                        ret[at] = (struct qs_ram_range){ .gpa = gpa };
                at += late && !before;
                if (late && ret)
                        ret[at - 1].bytes += s->page_bytes;
                before = late;
        }
        return at;
}

static size_t list_locked(struct stage *s, struct qs_ram_range *ret) REQUIRES(s->lock)
{
        size_t n = 0;

        for (size_t k = 0; k < s->n_ranges; k++) {
                uint64_t end = stage_end_of(&s->range[k]);

                for (uint64_t gpa = s->range[k].gpa; gpa < end;) {
                        uint64_t next = MIN(ALIGN_DOWN(gpa, PIECE_BYTES) + PIECE_BYTES, end);
                        const struct piece *p = &s->pieces[stage_piece_of(s, k, gpa)];

                        if (p->state == PIECE_LATE)
                                n = list_piece_locked(s, p, gpa, next - gpa, ret, n);
                        gpa = next;
                }
        }
        return n;
}

static int round_locked(struct stage *s, struct qs_ram_range **ret, size_t *ret_n)
        REQUIRES(s->lock)
{
        s->again = true;
        while (!s->stopped && !s->ended && s->late_stored <= s->n_slots / 2)
                cond_wait(&s->ready, &s->lock);
        if (s->stopped)
                return -ECANCELED;
        if (s->late_pieces == 0)
                return 0;

        struct qs_ram_range *list = calloc(list_locked(s, NULL), sizeof(*list));

        if (!list)
                return -ENOMEM;
        *ret_n = list_locked(s, list);
        *ret = list;
        return 1;
}

int stage_round(struct stage *s, struct qs_ram_range **ret, size_t *ret_n, struct err *e)
{
        lock_acquire(&s->lock);

        int rc = round_locked(s, ret, ret_n);

        lock_release(&s->lock);
        if (rc == -ECANCELED)
                return err_msg(e, ECANCELED, "the save was stopped");
        return rc < 0 ? err_set(e, -rc, "keep pages of guest memory") : rc;
}

void stage_stop(struct stage *s)
{
        lock_acquire(&s->lock);
        s->stopped = true;
        cond_broadcast(&s->ready);
        cond_broadcast(&s->room);
        lock_release(&s->lock);
}
