/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/streams.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "common/check.h"
#include "qcowstore/chunk.h"

/* QS_ZSTD_LEVEL_DEFAULT */
#define LEVEL 1

void streams_make(struct streams *s, const uint8_t *plain, size_t bytes, unsigned cluster_bits)
{
        struct dedup *dedup = dedup_new(1, 1, 1);
        struct chunk *chunk = chunk_new(cluster_bits, QS_COMPRESS_ZSTD, LEVEL, 1, dedup);

        *s = (struct streams){ .cluster = (size_t)1 << cluster_bits };
        s->n = bytes / s->cluster;
        s->data = malloc(bytes);
        s->at = calloc(s->n + 1, sizeof(*s->at));
        ASSERT(dedup && chunk && s->data && s->at);
        for (size_t i = 0; i < s->n; i++) {
                const uint8_t *from = plain + i * s->cluster;

                chunk_fill(chunk, 0, 1, from);

                bool packed = chunk->cluster[0].kind == CHUNK_PACKED;
                size_t n = packed ? chunk->stream_bytes : s->cluster;

                memcpy(s->data + s->at[i], packed ? chunk->streams : from, n);
                s->at[i + 1] = s->at[i] + n;
        }
        chunk_free(chunk);
        dedup_free(dedup);
}

void streams_free(struct streams *s)
{
        free(s->data);
        free(s->at);
        *s = (struct streams){ 0 };
}

void streams_unpack(const struct streams *s, size_t i, ZSTD_DCtx *zstd, uint8_t *out)
{
        size_t n = s->at[i + 1] - s->at[i];

        if (n == s->cluster)
                memcpy(out, s->data + s->at[i], n);
        else
                ZSTD_decompressDCtx(zstd, out, s->cluster, s->data + s->at[i], n);
}
