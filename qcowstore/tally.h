/* SPDX-License-Identifier: Apache-2.0 */
/* tally.h - how much of a long piece of work is done, told to whoever asked.
 *
 * Threads: tally_add() from any; the progress function is called by one at a
 *          time, and not at all for a step that ends while it is busy.
 * Errors:  -ECANCELED once the progress function said so; the caller stops its
 *          other threads itself.
 */
#ifndef QCOWSTORE_TALLY_H
#define QCOWSTORE_TALLY_H

#include <stdatomic.h>
#include <stdint.h>

#include "common/err.h"
#include "qcowstore/store.h"

struct tally {
        /* set before the threads start, constant after */
        qs_progress_fn *progress;               /* NULL = nobody asked */
        void *progress_ctx;
        uint64_t total_bytes;
        /* any thread */
        _Atomic uint64_t done_bytes;
        atomic_flag telling;
};

void tally_init(struct tally *t, qs_progress_fn *progress, void *progress_ctx,
                uint64_t total_bytes);
int tally_add(struct tally *t, uint64_t bytes, struct err *e);

#endif
