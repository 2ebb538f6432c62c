/* SPDX-License-Identifier: Apache-2.0 */
/* origin.h - the image that a QEMU machine is reverted from, opened and understood.
 *
 * Ownership: in place; origin_fini() takes an all-zero or half-built one.
 * Threads:   constant once opened, but for the bits of `pages`.
 * Errors:    a sentence; nothing was sent to QEMU yet.
 */
#ifndef PAGESERVER_ADAPTERS_QEMU_ORIGIN_H
#define PAGESERVER_ADAPTERS_QEMU_ORIGIN_H

#include "common/err.h"
#include "common/wire/qemuload.h"
#include "pageserver/adapters/qemu/hostpages.h"
#include "pageserver/adapters/qemu/revert.h"
#include "pageserver/adapters/qemu/state.h"
#include "pageserver/prefetch.h"
#include "qcowstore/store.h"

struct origin {
        struct qs_image *image;
        struct qs_reader *reader;
        struct qemu_state state;
        struct hostpages pages;
        struct qemu_ramblock *ramblock;         /* the state's blocks, for the codecs */
        struct qemuload load;
        uint64_t ram_bytes;                     /* of all blocks */
        struct prefetch_span *first;            /* units: the working set, in its order */
        size_t nfirst;
};

int origin_open(struct origin *o, const struct revert_options *options, struct err *e);
void origin_fini(struct origin *o);

#endif
