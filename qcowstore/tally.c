/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/tally.h"

#include <errno.h>

#include "common/check.h"

void tally_init(struct tally *t, qs_progress_fn *progress, void *progress_ctx,
                uint64_t total_bytes)
{
        t->progress = progress;
        t->progress_ctx = progress_ctx;
        t->total_bytes = total_bytes;
        t->done_bytes = 0;
        atomic_flag_clear(&t->telling);
}

int tally_add(struct tally *t, uint64_t bytes, struct err *e)
{
        uint64_t done = atomic_fetch_add(&t->done_bytes, bytes) + bytes;

        if (!t->progress || atomic_flag_test_and_set(&t->telling))
                return 0;

        /* the total is a forecast where files of other programs are walked */
        bool go = t->progress(t->progress_ctx, MIN(done, t->total_bytes), t->total_bytes);

        atomic_flag_clear(&t->telling);
        return go ? 0 : err_msg(e, ECANCELED, "cancelled");
}
