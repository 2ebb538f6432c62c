/* SPDX-License-Identifier: Apache-2.0 */
/* recording.h - what a guest asked for becomes the working set of its image.
 *
 * It is stored by a thread, so that requests are answered meanwhile: after so many seconds,
 * or when it is told to, whatever comes first.
 *
 * Ownership: options are the caller's and outlive it.
 * Threads:   recording_touch() any, also after it was stored; the rest is the caller's.
 */
#ifndef PAGESERVER_ADAPTERS_QEMU_RECORDING_H
#define PAGESERVER_ADAPTERS_QEMU_RECORDING_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "pageserver/adapters/qemu/blocks.h"
#include "qcowstore/store.h"

struct recording;

struct recording_options {
        const char *path;               /* of the image */
        const struct qs_image *image;
        const struct qemu_blocks *blocks;
        unsigned seconds;               /* since recording_begin(); 0 = until it is told to */
        void (*over)(void *ctx);        /* the seconds have passed; on the thread */
        void (*stored)(void *ctx);      /* or not, but the thread has ended; may be NULL */
        void *ctx;
};

int recording_new(const struct recording_options *o, struct recording **ret, struct err *e);
/* The guest runs, or is about to. */
void recording_begin(struct recording *r);
/* without storing, if that has not begun */
void recording_free(struct recording *r);
void recording_touch(struct recording *r, unsigned block, uint64_t offset, uint64_t bytes);
/* The thread stores it now. false: it has done so already, `stored` may have been called. */
bool recording_store(struct recording *r);
/* Waits until it is stored. A failure is the recording's, not the revert's. */
int recording_end(struct recording *r, struct err *e);

#endif
