/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/chunk.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "qcowstore/l2entry.h"
#include "qcowstore/sum.h"

/* direct use of guest pages by pwritev likes page-aligned buffers too */
#define BUF_ALIGN 4096

/* of 256 words of a cluster, so many may be zero: 5 % */
#define DENSE_SAMPLES 256u
#define DENSE_ZEROS_MAX 12u

struct chunk *chunk_new(unsigned cluster_bits, enum qs_compress compress, int level,
                        uint64_t seed, const struct dedup *dedup)
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
        c->dedup = dedup;
        c->buf = aligned_alloc(BUF_ALIGN, c->bytes);
        if (compress == QS_COMPRESS_ZSTD) {
                c->zstd = ZSTD_createCCtx();
                if (c->zstd)
                        ZSTD_CCtx_setParameter(c->zstd, ZSTD_c_compressionLevel, level);
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

/* Machine code and the like, unlike tables and text, has many short matches and
 * few zeros; samples tell. */
static bool is_dense(const uint8_t *plain, size_t bytes)
{
        const size_t step = bytes / DENSE_SAMPLES;
        unsigned zeros = 0;

        for (size_t at = 0; at < bytes; at += step) {
                uint32_t word;

                memcpy(&word, plain + at, sizeof(word));
                zeros += word == 0;
        }
        return zeros <= DENSE_ZEROS_MAX;
}

/* What does not shrink is stored raw; so is what zstd fails on, for raw is
 * always right. A stream depends on nothing but its cluster's content, lest the
 * file depend on timing. */
static bool pack(struct chunk *c, struct chunk_cluster *k, const uint8_t *plain)
{
        size_t cluster = layout_cluster_bytes(c->cluster_bits);

        if (c->compress != QS_COMPRESS_ZSTD)
                return false;
        if (c->level == 1)
                ZSTD_CCtx_setParameter(c->zstd, ZSTD_c_minMatch, is_dense(plain, cluster) ? 4 : 5);

        size_t n = ZSTD_compress2(c->zstd, c->streams + c->stream_bytes, cluster - 1, plain,
                                  cluster);

        if (ZSTD_isError(n))
                return false;
        k->at = (uint32_t)c->stream_bytes;
        k->bytes = (uint32_t)n;
        c->stream_bytes += n;
        return true;
}

bool chunk_seen(struct chunk *c, unsigned i)
{
        struct chunk_cluster *k = &c->cluster[i];
        uint16_t *last = &c->last[k->key.word[0] % CHUNK_HASH];

        if (*last && dedup_equal(&c->cluster[*last - 1].key, &k->key)) {
                k->same = *last - 1u;
                return true;
        }
        *last = (uint16_t)(i + 1);
        return dedup_known(c->dedup, &k->key);
}

/* cluster i of content that is all zero if it is NULL */
static const uint8_t *nonzero(const struct chunk *c, const uint8_t *content, unsigned i)
{
        size_t cluster = layout_cluster_bytes(c->cluster_bits);
        const uint8_t *p = content ? content + i * cluster : NULL;

        return p && !sum_all_zero(p, cluster) ? p : NULL;
}

static enum chunk_kind classify(struct chunk *c, unsigned i, bool dense)
{
        size_t cluster = layout_cluster_bytes(c->cluster_bits);
        struct chunk_cluster *k = &c->cluster[i];
        const uint8_t *plain = c->keep[i] ? NULL : nonzero(c, c->plain, i);

        *k = (struct chunk_cluster){ .kind = CHUNK_ZERO };
        if (c->keep[i])
                return CHUNK_KEPT;
        if (!plain && nonzero(c, c->base, i)) {
                k->entry = L2ENTRY_ZERO;
                return CHUNK_BLANK;
        }
        if (!plain)
                return CHUNK_ZERO;
        if (c->base && memcmp(plain, c->base + i * cluster, cluster) == 0)
                return CHUNK_SAME;
        k->sum = sum_bytes(plain, cluster, c->seed);
        k->key = dedup_key(c->dedup, plain, cluster);
        if (chunk_seen(c, i))
                return CHUNK_SHARED;
        return !dense && pack(c, k, plain) ? CHUNK_PACKED : CHUNK_RAW;
}

void chunk_begin(struct chunk *c, uint64_t first, unsigned n, const void *plain)
{
        ASSERT((size_t)n << c->cluster_bits <= c->bytes);
        c->first = first;
        c->n = n;
        c->plain = plain;
        c->stream_bytes = 0;
        memset(c->count, 0, sizeof(c->count));
        memset(c->last, 0, sizeof(c->last));
}

void chunk_look(struct chunk *c, unsigned i, bool dense)
{
        c->cluster[i].kind = classify(c, i, dense);
        chunk_count(c, i);
}

void chunk_fill(struct chunk *c, uint64_t first, unsigned n, const void *plain)
{
        chunk_begin(c, first, n, plain);
        for (unsigned i = 0; i < n; i++)
                chunk_look(c, i, false);
}

void chunk_turn(struct chunk *c, unsigned i, enum chunk_kind kind)
{
        c->count[c->cluster[i].kind]--;
        c->cluster[i].kind = kind;
        c->count[kind]++;
}

void chunk_close_gaps(struct chunk *c)
{
        size_t to = 0;

        for (unsigned i = 0; i < c->n; i++) {
                struct chunk_cluster *k = &c->cluster[i];

                if (k->kind != CHUNK_PACKED)
                        continue;
                if (k->at != to)
                        memmove(c->streams + to, c->streams + k->at, k->bytes);
                k->at = (uint32_t)to;
                to += k->bytes;
        }
        c->stream_bytes = to;
}
