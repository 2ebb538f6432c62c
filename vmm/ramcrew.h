/* SPDX-License-Identifier: Apache-2.0 */
/* ramcrew.h - guest RAM in chunks of 2 MiB, dealt to threads in ascending order.
 *
 * The calling thread only waits, unless no other can be had. The first error wins and
 * ends all.
 */
#ifndef VMM_RAMCREW_H
#define VMM_RAMCREW_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "vmm/ram.h"

#define RAMCREW_CHUNK_BYTES RAM_HUGE_BYTES

struct starter;

struct ramcrew_work {
        /* What one thread has for itself; NULL = nothing is needed. */
        int (*begin)(void *ctx, void **ret_own, struct err *e);
        void (*end)(void *own);
        int (*chunk)(void *ctx, void *own, unsigned slot, uint64_t offset, struct err *e);
        void *ctx;
        struct starter *starter;        /* of the threads; may be NULL */
        /* Set by anyone: -ECANCELED soon; NULL = by nobody. */
        const _Atomic bool *cancelled;
};

int ramcrew_run(const struct ram *ram, const struct ramcrew_work *work, struct err *e);

#endif
