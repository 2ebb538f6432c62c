/* SPDX-License-Identifier: Apache-2.0 */
/* ramjob.h - a crew that brings guest RAM into a file: threads take pieces, with
 * tickets from a counter, and prepare them; the placer, in the order of the tickets,
 * says where they go; then they are written by whoever brought the one that the
 * others had to wait for.
 *
 * Ownership: the caller's struct; ramjob_fini() also after a failure.
 * Threads:   one; the crew is in here.
 */
#ifndef QCOWSTORE_RAMJOB_H
#define QCOWSTORE_RAMJOB_H

#include <stdatomic.h>
#include <stdint.h>

#include "common/err.h"
#include "qcowstore/chunkpool.h"
#include "qcowstore/placer.h"
#include "qcowstore/ramfetch.h"
#include "qcowstore/ramplan.h"
#include "qcowstore/store.h"
#include "qcowstore/writer-priv.h"

struct ramjob {
        /* the caller's, constant while threads run */
        struct qs_writer *w;
        struct ramfetch fetch;
        qs_progress_fn *progress;
        void *progress_ctx;
        struct ramplan plan;
        /* constant while threads run */
        struct placer *placer;
        struct chunkpool *pool;
        /* any thread */
        _Atomic uint64_t next;          /* ticket */
        struct ramorder order;          /* only if the source says what is next */
        _Atomic uint64_t done_bytes;
        atomic_flag in_progress;        /* a thread is in the progress function */
        _Atomic uint64_t count[CHUNK_KINDS];    /* clusters that are of each kind now */
        /* of RAM that is taken again, the caller's: room for the L2 entries of data that
         * clusters had, one for each that the plan counts */
        uint64_t *old;
        _Atomic uint64_t n_old;
};

/* All of the plan. The writer has a dedup; its stats are right afterwards. */
int ramjob_run(struct ramjob *job, struct err *e);
/* of the plan too */
void ramjob_fini(struct ramjob *job);

#endif
