/* SPDX-License-Identifier: Apache-2.0 */
/* stage-priv.h - what the two sides of a stage share: stage-fill.c is the reader's, stage.c
 * the writer's. */
#ifndef PAGESERVER_ADAPTERS_QEMU_STAGE_PRIV_H
#define PAGESERVER_ADAPTERS_QEMU_STAGE_PRIV_H

#include "common/check.h"
#include "common/lock.h"
#include "pageserver/adapters/qemu/stage.h"

/* Theory of operation
 *
 * Memory is pieces of 1 MiB. A page that is not zero lies in a slot of a pool that is as
 * large as it may get; a piece has a table of its pages' slots, while it has pages at all.
 * Slots are used again, the last one first: memory that was touched is fast. The reader
 * owns a piece while it fills, without a lock; from then on its table is under the lock,
 * and whoever takes pages removes them from it.
 *
 *     page of a FILLING, READY or LATE piece, again    replaces the one before
 *     page of a TAKEN one                              is late: waits for a round
 *
 * INV-LATEST: what the writer got last of a page is what came last: pages are taken under
 * the lock, and what comes after that is late.
 *
 * INV-FORWARD: the reader waits for room only while the writer can go on without it. The
 * writer takes pieces in order (qcowstore/ramplan.h), several at a time; so it can as long
 * as the first piece that was not taken is READY. If that one is FILLING and the pool is
 * full, it is made READY as it is, and what it lacks will be late: such memory is written
 * twice, but what is kept stays bounded whatever the order of the stream. After the first
 * pass a full pool is full of late pages, and the next round takes them.
 *
 * What is missing is counted for each piece, so that a stream that left out a page is
 * known (INV-NOHALF of save.c). */

#define PIECE_BYTES (1ull << 20)
#define PIECE_PAGES_MAX (PIECE_BYTES / QEMU_PAGE_MIN)
/* slots that the reader has in hand: one lock for so many pages */
#define HAND_MAX 256

/* FILLING  the reader's; pages are missing
 *          -> READY   it is complete, or was hurried (INV-FORWARD); reader
 * READY    to be taken
 *          -> TAKEN   stage_span()
 * TAKEN    no table
 *          -> LATE    a page came again; reader
 * LATE     has pages for the next round
 *          -> TAKEN   stage_span(), with the last of them                       */
enum piece_state { PIECE_FILLING, PIECE_READY, PIECE_TAKEN, PIECE_LATE };

/* in a table; what is not less than PAGE_SLOT is that + a slot's number */
enum { PAGE_NONE, PAGE_ZERO, PAGE_SLOT };

struct piece {
        /* written by the reader while PIECE_FILLING, else under the lock */
        _Atomic uint8_t state;
        uint16_t pages;                 /* that the table has */
        uint16_t stored;                /* those of them in slots */
        uint32_t *table;                /* NULL = PAGE_NONE throughout */
        /* reader only */
        uint16_t missing;               /* pages that never came */
        uint64_t *seen;                 /* which did: of one that was hurried */
};

struct stage {
        /* constant */
        struct qs_ram_range range[QS_RAM_RANGES_MAX];
        uint64_t first[QS_RAM_RANGES_MAX];      /* piece of each */
        size_t n_ranges;
        uint32_t page_bytes;
        unsigned piece_pages;
        uint64_t n_pieces;
        uint8_t *pool;
        size_t n_slots;
        uint32_t *free;                 /* slots; what it holds is under the lock */
        /* reader only */
        size_t last_range;
        uint32_t hand[HAND_MAX];        /* free slots */
        unsigned in_hand;
        uint32_t *spare;                /* an empty table */
        uint64_t missing;
        /* any thread; in a piece see there */
        struct piece *pieces;
        struct lock lock;
        struct cond ready;              /* for takers: a piece is, or the end has come */
        struct cond room;               /* for the reader: free slots, or other first piece */
        size_t n_free           GUARDED_BY(lock);
        size_t n_fresh          GUARDED_BY(lock);       /* slots from here on were never used */
        uint64_t untaken        GUARDED_BY(lock);       /* first piece that was never taken */
        size_t late_stored      GUARDED_BY(lock);
        uint64_t late_pieces    GUARDED_BY(lock);
        bool again              GUARDED_BY(lock);       /* rounds have begun */
        bool ended              GUARDED_BY(lock);
        _Atomic bool stopped;           /* written under the lock */
};

static inline uint64_t stage_end_of(const struct qs_ram_range *r)
{
        return r->gpa + r->bytes;
}

/* A piece belongs to one range: two may meet within a MiB. */
static inline uint64_t stage_piece_of(const struct stage *s, size_t range, uint64_t gpa)
{
        return s->first[range] + gpa / PIECE_BYTES - s->range[range].gpa / PIECE_BYTES;
}

static inline size_t stage_range_of(const struct stage *s, uint64_t gpa)
{
        for (size_t i = 0; i < s->n_ranges; i++) {
                if (gpa - s->range[i].gpa < s->range[i].bytes)
                        return i;
        }
        return s->n_ranges;
}

static inline uint8_t *stage_slot_at(const struct stage *s, uint32_t value)
{
        return s->pool + (size_t)(value - PAGE_SLOT) * s->page_bytes;
}

static inline unsigned stage_page_of(const struct stage *s, uint64_t gpa)
{
        return (unsigned)(gpa % PIECE_BYTES / s->page_bytes);
}

/* then the reader is to be woken */
static inline void stage_give_locked(struct stage *s, uint32_t value) REQUIRES(s->lock)
{
        s->free[s->n_free++] = value - PAGE_SLOT;
}

#endif
