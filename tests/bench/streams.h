/* SPDX-License-Identifier: Apache-2.0 */
/* streams.h - the clusters of a flat file as the very zstd streams that an image
 * of it has, in memory: what decompressing costs when nothing else is done.
 *
 * Ownership: streams_make() allocates, streams_free() frees; the plain content is
 *            borrowed during streams_make().
 * Threads:   any number may unpack at a time, each with its own context.
 */
#ifndef TESTS_BENCH_STREAMS_H
#define TESTS_BENCH_STREAMS_H

#include <stddef.h>
#include <stdint.h>

struct ZSTD_DCtx_s;

struct streams {
        size_t cluster;                 /* bytes */
        size_t n;
        uint8_t *data;
        size_t *at;                     /* n + 1 of them: where each begins */
};

void streams_make(struct streams *s, const uint8_t *plain, size_t bytes, unsigned cluster_bits);
void streams_free(struct streams *s);
/* out: one cluster. One that was not worth packing is copied. */
void streams_unpack(const struct streams *s, size_t i, struct ZSTD_DCtx_s *zstd, uint8_t *out);

#endif
