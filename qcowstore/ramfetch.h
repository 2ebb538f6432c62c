/* SPDX-License-Identifier: Apache-2.0 */
/* ramfetch.h - guest RAM, from where the caller has it, into chunks: plain content, or
 * what is known of it without (heritage.h).
 *
 * INV-UNTOUCHED: what a source returns for pages that it says are its parent's is not
 *                looked at, nor is the parent's content of clusters that are known.
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
#include "qcowstore/heritage.h"
#include "qcowstore/ramplan.h"
#include "qcowstore/store.h"
#include "qcowstore/writer-priv.h"

struct ramfetch {
        struct qs_writer *w;
        const struct qs_ram_range *ranges;
        size_t n_ranges;
        const struct qs_ram_source *source;
        bool again;                     /* the rest of the piece is as it was */
        struct heritage heritage;       /* of what is the source's parent's */
};

/* of one thread */
struct ramfetch_tools {
        struct delta_view *view;        /* what the file's parent has; NULL = it has none */
        struct heir heir;
};

int ramfetch_tools_init(struct ramfetch_tools *t, const struct ramfetch *f, struct err *e);
/* also on failure */
void ramfetch_tools_fini(struct ramfetch_tools *t);

/* A piece of RAM, compared with what the file's parent has there. If it is
 * taken again, the chunk has only those of its clusters that ranges touch, and what
 * they were; what is beside the ranges in these is read back. */
int ramfetch(const struct ramfetch *f, struct ramfetch_tools *t, struct chunk *c,
             const struct ram_piece *piece, struct err *e);

#endif
