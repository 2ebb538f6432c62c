/* SPDX-License-Identifier: Apache-2.0 */
/* ramfetch.h - plain content of guest RAM, from where the caller has it, into
 * chunks.
 *
 * Ownership: borrows all of it.
 * Threads:   any, on chunks of their own; the source is asked by all of them.
 * Errors:    those of the source and of a parent.
 */
#ifndef QCOWSTORE_RAMFETCH_H
#define QCOWSTORE_RAMFETCH_H

#include <stddef.h>

#include "common/err.h"
#include "qcowstore/chunk.h"
#include "qcowstore/delta.h"
#include "qcowstore/ramplan.h"
#include "qcowstore/store.h"
#include "qcowstore/writer-priv.h"

struct ramfetch {
        struct qs_writer *w;
        const struct qs_ram_range *ranges;
        size_t n_ranges;
        const struct qs_ram_source *source;
        bool again;                     /* the rest of the piece is as it was */
};

/* A piece of RAM, compared with what a parent has there; view NULL = none. If it is
 * taken again, the chunk has only those of its clusters that ranges touch, and what
 * they were; what is beside the ranges in these is read back. */
int ramfetch(const struct ramfetch *f, struct delta_view *view, struct chunk *c,
             const struct ram_piece *piece, struct err *e);

#endif
