/* SPDX-License-Identifier: Apache-2.0 */
/* ramplan.h - in which pieces and in which order guest RAM goes into a file.
 *
 * Chunks in guest-physical order; chunks without RAM are left out, unless a
 * parent has data there, which must not show through. What the caller wants
 * first (qs_writer_first()) is cut into pieces that come ahead of all chunks:
 * their content is placed, in that order, but nothing refers to it yet. When the
 * chunk comes that they are part of, it finds the content in the file already
 * (dedup.h), and refers to it.
 *
 * Of RAM that is taken again (qs_writer_again()): the chunks that it touches.
 *
 * Where the source says what shall be next (struct ramorder), any of the chunks may be
 * taken before its turn; what comes ahead stays first.
 *
 * Threads: constant after ramplan_init(), but for ramorder_take().
 */
#ifndef QCOWSTORE_RAMPLAN_H
#define QCOWSTORE_RAMPLAN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "qcowstore/writer-priv.h"

struct ram_piece {
        uint64_t gpa;                   /* a cluster starts there */
        uint64_t bytes;                 /* at most a chunk's; may reach behind the disk's end */
        bool ahead;
};

struct ramplan {
        uint64_t chunks;                /* pieces, in all */
        uint64_t clusters;              /* that they may need, in all */
        uint64_t ram_bytes;             /* of the ranges */
        size_t n_ahead;                 /* pieces that come ahead */
        /* private */
        uint64_t step;
        struct ram_piece *ahead;
        /* chunks that follow each other, ascending */
        struct ramplan_stretch {
                uint64_t gpa;
                uint64_t before;        /* chunks in earlier stretches */
        } *stretch;
        size_t n_stretches;
        uint64_t done;                  /* where the last stretch ends */
};

/* The ranges ascend, do not overlap, are of whole pages and of the disk? */
int ramplan_check(const struct qs_writer *w, const struct qs_ram_range *ranges, size_t n,
                  struct err *e);
/* ramplan_fini() also on failure */
int ramplan_init(struct ramplan *p, const struct qs_writer *w, const struct qs_ram_range *ranges,
                 size_t n, struct err *e);
int ramplan_again(struct ramplan *p, const struct qs_writer *w, const struct qs_ram_range *ranges,
                  size_t n, struct err *e);
void ramplan_fini(struct ramplan *p);
struct ram_piece ramplan_at(const struct ramplan *p, uint64_t i);
/* Which piece has gpa, those ahead left out; false = none. */
bool ramplan_find(const struct ramplan *p, uint64_t gpa, uint64_t *ret);

/* Which piece comes next, where that is not simply the next one. Each is taken by who
 * sets its bit first.
 * INV-EACH: ramorder_take() is called as often as there are pieces, so there is one for
 *           each call: those that the others took are fewer. */
struct ramorder {
        const struct ramplan *plan;
        _Atomic uint64_t cursor;        /* pieces before it were taken, or are just now */
        _Atomic uint64_t *taken;        /* a bit each */
};

int ramorder_init(struct ramorder *o, const struct ramplan *p, struct err *e);
void ramorder_fini(struct ramorder *o);
/* A piece that nobody else has, none of those ahead: that with *want_gpa, unless it was
 * taken already; NULL = any. Once for each of them. */
uint64_t ramorder_take(struct ramorder *o, const uint64_t *want_gpa);

#endif
