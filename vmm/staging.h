/* SPDX-License-Identifier: Apache-2.0 */
/* staging.h - bounded memory for pages that are copied aside during a live save.
 *
 * Pieces of 64 KiB and of 2 MiB, aligned to their size. A piece's content is whatever was
 * there before. Memory that was touched once is kept for the next piece until the end:
 * the first touch of fresh memory costs more than copying into it.
 *
 * Ownership: pieces belong to who got them until they are put back; staging_free() gives
 *            all memory back at once, pieces that are still out with it.
 * Threads:   any. Its lock is a leaf: nothing is called under it.
 * Errors:    only new can fail; get says NULL when the limit is reached.
 */
#ifndef VMM_STAGING_H
#define VMM_STAGING_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

#define STAGING_SMALL_BYTES (64u << 10)
#define STAGING_LARGE_BYTES (2u << 20)

struct staging;

/* Reserves address space, touches nothing. The limit, of at least STAGING_LARGE_BYTES, is
 * rounded down to a multiple of it. */
int staging_new(uint64_t limit_bytes, struct staging **ret, struct err *e);
void staging_free(struct staging *s);

/* Touches so much of it (rounded up to frames, the limit at most), unless that was done, so
 * that the first faults do not wait for it. Takes 0.2 to 10 ms for 2 MiB. */
void staging_warm(struct staging *s, uint64_t bytes);

/* bytes: STAGING_SMALL_BYTES or STAGING_LARGE_BYTES */
void *staging_get(struct staging *s, size_t bytes);
void staging_put(struct staging *s, void *piece, size_t bytes);

struct staging_stats {
        uint64_t used_bytes;            /* in pieces that are out now */
        uint64_t used_bytes_max;
        uint64_t touched_bytes;         /* memory that it holds, used or not */
        uint64_t limit_bytes;
};

struct staging_stats staging_stats(struct staging *s);

#endif
