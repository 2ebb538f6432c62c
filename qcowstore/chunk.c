/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/chunk.h"

#include <stdlib.h>
#include <zstd.h>

#include "qcowstore/sum.h"

/* direct use of guest pages by pwritev likes page-aligned buffers too */
#define BUF_ALIGN 4096

struct chunk *chunk_new(unsigned cluster_bits, enum qs_compress compress, int level,
                        uint64_t seed)
{
        struct chunk *c = calloc(1, sizeof(*c));
        size_t cluster = layout_cluster_bytes(cluster_bits);

        if (!c)
                return NULL;
        c->cluster_bits = cluster_bits;
        c->bytes = chunk_bytes(cluster_bits);
        c->compress = compress;
        c->level = level;
        c->seed = seed;
        c->buf = aligned_alloc(BUF_ALIGN, c->bytes);
        if (compress == QS_COMPRESS_ZSTD) {
                c->zstd = ZSTD_createCCtx();
                c->head = aligned_alloc(BUF_ALIGN, cluster + c->bytes);
                c->spare = aligned_alloc(BUF_ALIGN, cluster);
                c->streams = c->head ? c->head + cluster : NULL;
        }
        if (!c->buf || (compress == QS_COMPRESS_ZSTD && (!c->zstd || !c->head || !c->spare))) {
                chunk_free(c);
                return NULL;
        }
        return c;
}

void chunk_free(struct chunk *c)
{
        if (!c)
                return;
        ZSTD_freeCCtx(c->zstd);
        free(c->buf);
        free(c->head);
        free(c->spare);
        free(c);
}

/* What does not shrink is stored raw; so is what zstd fails on, for raw is
 * always right. */
static bool pack(struct chunk *c, struct chunk_cluster *k, const uint8_t *plain)
{
        size_t cluster = layout_cluster_bytes(c->cluster_bits);

        if (c->compress != QS_COMPRESS_ZSTD)
                return false;

        size_t n = ZSTD_compressCCtx(c->zstd, c->streams + c->stream_bytes, cluster - 1, plain,
                                     cluster, c->level);

        if (ZSTD_isError(n))
                return false;
        k->at = (uint32_t)c->stream_bytes;
        k->bytes = (uint32_t)n;
        c->stream_bytes += n;
        return true;
}

static void classify(struct chunk *c, struct chunk_cluster *k, const uint8_t *plain)
{
        size_t cluster = layout_cluster_bytes(c->cluster_bits);

        *k = (struct chunk_cluster){ .kind = QS_ZERO };
        if (!plain || sum_all_zero(plain, cluster))
                return;
        k->sum = sum_bytes(plain, cluster, c->seed);
        if (pack(c, k, plain)) {
                k->kind = QS_PACKED;
                c->packed++;
        } else {
                k->kind = QS_RAW;
                c->raw++;
        }
}

void chunk_fill(struct chunk *c, uint64_t first, unsigned n, const void *plain)
{
        ASSERT((size_t)n << c->cluster_bits <= c->bytes);
        c->first = first;
        c->n = n;
        c->plain = plain;
        c->raw = c->packed = 0;
        c->stream_bytes = 0;
        for (unsigned i = 0; i < n; i++)
                classify(c, &c->cluster[i],
                         plain ? c->plain + ((size_t)i << c->cluster_bits) : NULL);
}
