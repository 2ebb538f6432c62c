/* SPDX-License-Identifier: Apache-2.0 */
/* stage.h - guest pages on their way from the stream to the threads that write the image.
 *
 * One thread, the reader, puts pages in the order in which QEMU sends them; the threads of
 * a qs_writer take them a piece of 1 MiB at a time, in guest-physical order. What comes
 * again is kept until it can be written in place of what was written before.
 *
 * Ownership: pages are copied in and out.
 * Threads:   stage_page(), stage_zeros(), stage_end(): the reader. stage_span(): any
 *            number. stage_round(): the one that called the writer, between its calls.
 *            stage_stop(): any.
 * Errors:    -ECANCELED once it was stopped, -ENOMEM.
 */
#ifndef PAGESERVER_ADAPTERS_QEMU_STAGE_H
#define PAGESERVER_ADAPTERS_QEMU_STAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "pageserver/adapters/qemu/blocks.h"
#include "qcowstore/store.h"

struct stage;

struct stage_options {
        const struct qemu_blocks *blocks;       /* sealed: all their pages must come; borrowed */
        uint32_t page_bytes;                    /* of the target */
        uint64_t memory_bytes;                  /* for pages that wait; STAGE_MEMORY_MIN */
};

/* enough for what a few threads have in hand */
#define STAGE_MEMORY_MIN (16ull << 20)

int stage_new(const struct stage_options *o, struct stage **ret, struct err *e);
void stage_free(struct stage *s);
/* what the writer is to be called with; the stage's */
const struct qs_ram_range *stage_ranges(const struct stage *s, size_t *ret_n);

/* ---- the reader ---------------------------------------------------------- */

/* The page at gpa, one of blocks', is now as data says; may wait for room. */
int stage_page(struct stage *s, uint64_t gpa, const void *data);
/* bytes of zeros from there on, whole pages of one extent */
int stage_zeros(struct stage *s, uint64_t gpa, uint64_t bytes);
/* No more pages come. -EBADMSG: some never came. */
int stage_end(struct stage *s, struct err *e);

/* ---- the writer's side --------------------------------------------------- */

/* the span function of struct qs_ram_source, the stage its ctx; waits for the pages */
const void *stage_span(void *stage, uint64_t gpa, size_t bytes, void *buf, struct qs_span *ret,
                       struct err *e);
/* All pages were taken once, then those of the last round: waits until many have come again,
 * or no more will, and says which; the caller frees *ret. 1: to be
 * taken with qs_writer_again(); 0: that was all. */
int stage_round(struct stage *s, struct qs_ram_range **ret, size_t *ret_n, struct err *e);

/* One side has failed: the other is woken and not waited for any more. */
void stage_stop(struct stage *s);

#endif
