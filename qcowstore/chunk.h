/* SPDX-License-Identifier: Apache-2.0 */
/* chunk.h - a stretch of guest RAM on its way into a file: what each cluster
 * of it is, its sum, its compressed stream.
 *
 * Ownership: a chunk has its own buffers, of about three times its size, and
 *            belongs to one thread. No I/O here.
 */
#ifndef QCOWSTORE_CHUNK_H
#define QCOWSTORE_CHUNK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "qcowstore/layout.h"
#include "qcowstore/store.h"

/* of guest RAM, unless a cluster is larger: enough for long writes, little
 * enough to keep several per thread in the cache of the processor */
#define CHUNK_BYTES (1u << 20)
#define CHUNK_CLUSTERS_MAX (CHUNK_BYTES >> QS_CLUSTER_BITS_MIN)

struct chunk_cluster {
        enum qs_kind kind;
        uint32_t at;                    /* of the stream in chunk->streams */
        uint32_t bytes;                 /* of the stream */
        uint64_t sum;                   /* of the plain content; 0 = all zero */
        uint64_t entry;                 /* for the L2 table, from the placer */
};

struct chunk {
        /* constant */
        unsigned cluster_bits;
        size_t bytes;                   /* a full chunk */
        enum qs_compress compress;
        int level;
        uint64_t seed;
        void *zstd;
        uint8_t *buf;                   /* room for plain content, if the source needs it */
        uint8_t *head;                  /* a cluster of room, directly before streams */
        uint8_t *streams;               /* back to back */
        uint8_t *spare;                 /* one cluster, for the placer */
        /* of the present content */
        uint64_t first;                 /* guest cluster */
        unsigned n;
        const uint8_t *plain;           /* n clusters */
        unsigned raw;                   /* clusters of each kind */
        unsigned packed;
        size_t stream_bytes;
        struct chunk_cluster cluster[CHUNK_CLUSTERS_MAX];
};

static inline size_t chunk_bytes(unsigned cluster_bits)
{
        return MAX(CHUNK_BYTES, layout_cluster_bytes(cluster_bits));
}

/* NULL without memory */
struct chunk *chunk_new(unsigned cluster_bits, enum qs_compress compress, int level,
                        uint64_t seed);
void chunk_free(struct chunk *c);

/* n clusters at guest cluster `first`; plain NULL = all zero. plain is
 * borrowed until the next call. */
void chunk_fill(struct chunk *c, uint64_t first, unsigned n, const void *plain);

#endif
