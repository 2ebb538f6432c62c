/* SPDX-License-Identifier: Apache-2.0 */
/* chunk.h - a stretch of guest RAM on its way into a file: what each cluster
 * of it is, its sum, its compressed stream.
 *
 * Ownership: a chunk has its own buffers, of about twice its size, and belongs
 *            to one thread at a time. No I/O here.
 */
#ifndef QCOWSTORE_CHUNK_H
#define QCOWSTORE_CHUNK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "qcowstore/dedup.h"
#include "qcowstore/layout.h"
#include "qcowstore/store.h"

/* of guest RAM, unless a cluster is larger: enough for long writes, little
 * enough to keep several per thread in the cache of the processor */
#define CHUNK_BYTES (1u << 20)
#define CHUNK_CLUSTERS_MAX (CHUNK_BYTES >> QS_CLUSTER_BITS_MIN)

/* KEPT    not looked at: what was said of it before stays true
 * ZERO    nothing is stored: zeros, and no parent has anything else there
 * SAME    nothing is stored: the parent has the same bytes there
 * BLANK   nothing but an entry: zeros where the parent has other bytes
 * RAW     to be stored as it is
 * PACKED  to be stored as the stream that was made of it
 * SHARED  an earlier cluster of the file or of the chunk is equal
 *
 * RAW, PACKED -> SHARED and SHARED, PACKED -> RAW by the placer, which knows
 * what came before. */
enum chunk_kind {
        CHUNK_KEPT, CHUNK_ZERO, CHUNK_SAME, CHUNK_BLANK, CHUNK_RAW, CHUNK_PACKED, CHUNK_SHARED,
        CHUNK_KINDS,
};

/* it refers to data in the file */
static inline bool chunk_stores(enum chunk_kind kind)
{
        return kind >= CHUNK_RAW;
}

/* Where a cluster that is stored comes from.
 * PLAIN   its bytes are in chunk->plain
 * COPIED  from another file, as a stream; its bytes are not there
 * LINKED  from an earlier tag of the file: SHARED, and its entry is known */
enum chunk_origin { CHUNK_PLAIN, CHUNK_COPIED, CHUNK_LINKED };

struct chunk_cluster {
        enum chunk_kind kind;
        enum chunk_origin origin;
        enum chunk_kind was;            /* the caller's, of RAM that is taken again */
        uint32_t at;                    /* of the stream in chunk->streams */
        uint32_t bytes;                 /* of the stream */
        uint32_t same;                  /* SHARED, entry 0: with this cluster of the chunk */
        uint64_t sum;                   /* of the plain content; 0 = no data */
        struct dedup_key key;           /* of the plain content, if there are data */
        uint64_t entry;                 /* for the L2 table; the placer's, if there are data */
        struct dedup_slot *slot;        /* placer only: remembers the entry */
};

/* whole host clusters, in the chunk's memory */
struct placer_run {
        const uint8_t *data;
        uint64_t offset;
        size_t bytes;                   /* 0 = none */
};

struct placement {
        uint64_t raw_offset;            /* of the first raw cluster; they follow each other */
        struct placer_run run[2];       /* of streams: rest of the old tail, new clusters */
};

/* to find equal clusters of a chunk; a later key takes an earlier one's place */
#define CHUNK_HASH 1024

struct chunk {
        /* constant */
        unsigned cluster_bits;
        size_t bytes;                   /* a full chunk */
        enum qs_compress compress;
        int level;
        uint64_t seed;
        const struct dedup *dedup;
        struct ZSTD_CCtx_s *zstd;
        uint8_t *buf;                   /* room for plain content, if the source needs it */
        uint8_t *head;                  /* a cluster of room, directly before streams */
        uint8_t *streams;               /* back to back */
        uint8_t *spare;                 /* one cluster, for the placer */
        /* the caller's, before chunk_fill(): what the parent has in these clusters;
         * NULL = zeros, or there is none */
        const uint8_t *base;
        bool keep[CHUNK_CLUSTERS_MAX];  /* the caller's too: these are KEPT */
        bool ahead;                     /* placed, but nothing refers to it (ramplan.h) */
        /* of the present content */
        uint64_t first;                 /* guest cluster */
        unsigned n;
        const uint8_t *plain;           /* n clusters */
        uint64_t ram_bytes;             /* the caller's: of guest RAM in it */
        unsigned count[CHUNK_KINDS];    /* clusters of each kind */
        size_t stream_bytes;
        uint16_t last[CHUNK_HASH];      /* cluster with such a key, plus 1 */
        struct chunk_cluster cluster[CHUNK_CLUSTERS_MAX];
        struct placement to;            /* from the placer */
        struct chunk *next;             /* of a list of whoever has it */
};

static inline size_t chunk_bytes(unsigned cluster_bits)
{
        return MAX(CHUNK_BYTES, layout_cluster_bytes(cluster_bits));
}

/* dedup is borrowed. NULL without memory */
struct chunk *chunk_new(unsigned cluster_bits, enum qs_compress compress, int level,
                        uint64_t seed, const struct dedup *dedup);
void chunk_free(struct chunk *c);

/* n clusters at guest cluster `first`; plain NULL = all zero. plain is
 * borrowed until the next call, c->base only during this one. */
void chunk_fill(struct chunk *c, uint64_t first, unsigned n, const void *plain);

/* For who fills it otherwise (clone.h, heritage.h): begins with no cluster described;
 * then each in turn, from 0 on: by chunk_look(), as chunk_fill() does, or by putting
 * it there and chunk_count(). dense: it is known not to shrink. */
void chunk_begin(struct chunk *c, uint64_t first, unsigned n, const void *plain);
void chunk_look(struct chunk *c, unsigned i, bool dense);
static inline void chunk_count(struct chunk *c, unsigned i)
{
        c->count[c->cluster[i].kind]++;
}
/* Cluster i having its key: is the content in the file or the chunk already? */
bool chunk_seen(struct chunk *c, unsigned i);

/* The placer's: cluster i is of another kind than it seemed; then, once, what
 * is left of the streams is made contiguous. */
void chunk_turn(struct chunk *c, unsigned i, enum chunk_kind kind);
void chunk_close_gaps(struct chunk *c);

#endif
