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
                s->back = o->back;
                s->back_ctx = o->back_ctx;
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

/* The table of the piece is the caller's then; NULL = it has none. */
static int take_locked(struct stage *s, struct piece *p, uint32_t **ret) REQUIRES(s->lock)
{
        while (!s->stopped && p->state == PIECE_FILLING)
                cond_wait(&s->ready, &s->lock);
        if (s->stopped || (p->state == PIECE_TAKEN && !s->again))
                return s->stopped ? -ECANCELED : -EALREADY;
        if (p->state == PIECE_LATE) {
                s->late_stored -= p->stored;
                s->late_pieces--;
        }
        *ret = ptr_take(&p->table);
        p->stored = 0;
        p->state = PIECE_TAKEN;
        while (s->untaken < s->n_pieces && s->pieces[s->untaken].state >= PIECE_TAKEN)
                s->untaken++;
        cond_broadcast(&s->room);       /* the first one may have changed */
        return 0;
}

static void give_back(struct stage *s, uint32_t *table)
{
        if (!table)
                return;
        lock_acquire(&s->lock);
        for (unsigned i = 0; i < s->piece_pages; i++) {
                if (table[i] >= PAGE_SLOT)
                        stage_give_locked(s, table[i]);
        }
        cond_broadcast(&s->room);
        lock_release(&s->lock);
        free(table);
}

static bool lacks_pages(const uint32_t *table, unsigned page, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                if (!table || table[page + i] == PAGE_NONE)
                        return true;
        }
        return false;
}

/* Pages of the table into buf; where it has none, zeros, or what buf has already. */
static void copy_out(const struct stage *s, const uint32_t *table, unsigned page, size_t n,
                     uint8_t *buf, bool keep)
{
        for (size_t i = 0; i < n; i++, buf += s->page_bytes) {
                uint32_t value = table ? table[page + i] : PAGE_NONE;

                if (value >= PAGE_SLOT)
                        memcpy(buf, stage_slot_at(s, value), s->page_bytes);
                else if (value == PAGE_ZERO || !keep)
                        memset(buf, 0, s->page_bytes);
        }
}

/* one piece; *ret_zero: buf is not touched */
static int take_piece(struct stage *s, struct piece *p, uint64_t gpa, size_t bytes, uint8_t *buf,
                      bool *ret_zero, struct err *e)
{
        unsigned page = stage_page_of(s, gpa);
        size_t n = bytes / s->page_bytes;
        uint32_t *table;
        bool zero = true;

        lock_acquire(&s->lock);

        bool again = s->again;
        int rc = take_locked(s, p, &table);

        lock_release(&s->lock);
        if (rc < 0)
                return err_msg(e, -rc, rc == -EALREADY ? "guest memory was asked for twice"
                               : "the save was stopped");
        if (again && lacks_pages(table, page, n))
                rc = s->back(s->back_ctx, gpa, bytes, buf, &zero, e);
        *ret_zero = zero && !table;
        if (rc == 0 && !*ret_zero)
                copy_out(s, table, page, n, buf, !zero);
        give_back(s, table);
        return rc;
}

const void *stage_span(void *stage, uint64_t gpa, size_t bytes, void *buf, bool *ret_zero,
                       struct err *e)
{
        struct stage *s = stage;
        size_t range = stage_range_of(s, gpa);
        uint8_t *to = buf;
        bool any = false;

        ASSERT(range < s->n_ranges && bytes <= stage_end_of(&s->range[range]) - gpa);
        for (uint64_t end = gpa + bytes; gpa < end;) {
                uint64_t next = MIN(ALIGN_DOWN(gpa, PIECE_BYTES) + PIECE_BYTES, end);
                size_t n = next - gpa;
                bool zero = true;

                if (take_piece(s, &s->pieces[stage_piece_of(s, range, gpa)], gpa, n, to, &zero, e) < 0)
                        return NULL;
                if (zero && n < bytes)
                        memset(to, 0, n);
                any |= !zero;
                to += n;
                gpa = next;
        }
        *ret_zero = !any;
        return buf;
}

/* ---- rounds -------------------------------------------------------------- */

/* pieces that are late, neighbours in one range; ret NULL: only counts */
static size_t list_locked(struct stage *s, struct qs_ram_range *ret) REQUIRES(s->lock)
{
        size_t n = 0;

        for (size_t k = 0; k < s->n_ranges; k++) {
                const struct qs_ram_range *r = &s->range[k];
                bool before = false;

                for (uint64_t gpa = r->gpa; gpa < stage_end_of(r);) {
                        uint64_t next = MIN(ALIGN_DOWN(gpa, PIECE_BYTES) + PIECE_BYTES, stage_end_of(r));
                        bool late = s->pieces[stage_piece_of(s, k, gpa)].state == PIECE_LATE;

                        if (late && !before && ret)
                                ret[n] = (struct qs_ram_range){ .gpa = gpa };
                        n += late && !before;
                        if (late && ret)
                                ret[n - 1].bytes = next - ret[n - 1].gpa;
                        before = late;
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
