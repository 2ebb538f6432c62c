/* SPDX-License-Identifier: Apache-2.0 */
/* returnpath.h - what QEMU says while it loads: read by a thread from the first byte on.
 *
 * If nobody read it while the stream is written, both pipes could fill and neither side go
 * on. The thread passes requests on and notes all else for those who wait for it. It ends
 * by itself when QEMU says SHUT or goes, or says what no QEMU says; then `ended` is called.
 *
 * Ownership: the descriptor and the blocks are the caller's and outlive it.
 * Threads:   the callbacks run on the thread; all else is the caller's.
 * Errors:    how it ended is told by returnpath_end().
 */
#ifndef PAGESERVER_ADAPTERS_QEMU_RETURNPATH_H
#define PAGESERVER_ADAPTERS_QEMU_RETURNPATH_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "common/wire/qemurp.h"

struct returnpath;

struct returnpath_ops {
        /* whole pages of the block's memory, at least one */
        void (*request)(void *ctx, unsigned block, uint64_t offset, uint64_t bytes);
        void (*pong)(void *ctx, uint32_t token);
        /* once; nothing more is read */
        void (*ended)(void *ctx);
};

enum returnpath_end {
        RETURNPATH_OPEN,
        RETURNPATH_SHUT_OK,             /* QEMU says that all is well           */
        RETURNPATH_SHUT_BAD,            /* ... that it could not load           */
        RETURNPATH_GONE,                /* it closed without a word             */
        RETURNPATH_BROKEN,              /* what it said is no QEMU's: the err   */
};

int returnpath_new(int fd, const struct qemu_ramblock *blocks, unsigned nblocks,
                   uint32_t page_bytes, const struct returnpath_ops *ops, void *ctx,
                   struct returnpath **ret, struct err *e);
/* Ends the thread. */
void returnpath_free(struct returnpath *r);

/* Each waits for what it names, or for the end. */
void returnpath_wait_bitmaps(struct returnpath *r);
void returnpath_wait_ack(struct returnpath *r);
void returnpath_wait_end(struct returnpath *r);

enum returnpath_end returnpath_end(struct returnpath *r, struct err *e);
/* of the block, a bit per page of the target; after returnpath_wait_bitmaps(). NULL: it
 * did not come. */
const uint8_t *returnpath_bitmap(struct returnpath *r, unsigned block);
/* QEMU goes on with a postcopy that was interrupted. */
bool returnpath_acked(struct returnpath *r);

#endif
