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
 * Threads: constant after ramplan_init().
 */
#ifndef QCOWSTORE_RAMPLAN_H
#define QCOWSTORE_RAMPLAN_H

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
        /* private */
        uint64_t step;
        struct ram_piece *ahead;
        size_t n_ahead;
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

#endif
