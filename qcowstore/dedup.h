/* SPDX-License-Identifier: Apache-2.0 */
/* dedup.h - which contents a file has already, and where.
 *
 * Theory of operation
 *
 * Threads that prepare chunks ask dedup_known(), to spare themselves the
 * compression; the placer, which sees all clusters in guest-physical order,
 * decides with dedup_claim(). So of equal clusters the first one of the guest
 * is placed and the later ones refer to it, whatever the timing; two threads
 * that meet a new content at once both compress it, and the later one's stream
 * is dropped. While they work nothing is taken out: what was known stays known
 * (INV-KNOWN). Between two passes over RAM dedup_forget() takes out what is not
 * in the file any more.
 *
 * Bytes are not compared: the earlier ones are compressed, and perhaps not yet
 * written. So the key must withstand a guest that plants equal keys. A seed
 * alone does not achieve that: pairs of pages can be built that collide under
 * XXH3-128 for one seed in 64, whatever it is, because the seed is added to all
 * words of the secret alike and the 128 bits are made of the same accumulators
 * as the 64 (tests/unit/store-dedup.c has such a pair). A key of ours is two
 * XXH3-64 with secrets of their own, all of whose words are independent of each
 * other: a planted pair collides with a chance of about 2^-33 in each.
 *
 * INV-COUNT: a content has at most refs_max references, so that refcounts of
 *            32 bits suffice; then another copy is stored. By default that is
 *            2 GiB of equal clusters: a host cluster has at most one stream
 *            per byte, and each reference counts twice.
 *
 * In a pool the contents of earlier tags are preloaded (dedupindex.h), and what
 * is fresh is remembered there.
 *
 * Memory: for as many contents as the caller says, usually not more than
 * DEDUP_CONTENTS_MAX; what comes later is stored without being remembered.
 */
#ifndef QCOWSTORE_DEDUP_H
#define QCOWSTORE_DEDUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* 4 GiB in clusters of 4 KiB; 60 MiB of memory */
#define DEDUP_CONTENTS_MAX (1u << 20)

struct dedup;

struct dedup_key {
        uint64_t word[2];               /* the first one is not 0 */
};

struct dedup_slot {
        _Atomic uint64_t word[2];       /* the first one is stored last; 0 = free */
        /* placer only */
        uint64_t entry;                 /* L2 entry; 0 = owner is being placed */
        uint32_t refs;                  /* 0 = just claimed */
        uint32_t owner;                 /* cluster of the chunk in the placer */
        bool fresh;                     /* placed by this writer, not preloaded */
};

static inline bool dedup_equal(const struct dedup_key *a, const struct dedup_key *b)
{
        return a->word[0] == b->word[0] && a->word[1] == b->word[1];
}

static inline uint32_t dedup_refs_max(unsigned cluster_bits)
{
        return (1u << (31 - cluster_bits)) - 1;
}

/* For so many contents. NULL without memory. */
struct dedup *dedup_new(uint64_t seed, uint64_t contents_max, uint32_t refs_max);
void dedup_free(struct dedup *d);
uint32_t dedup_limit(const struct dedup *d);

struct dedup_key dedup_key(const struct dedup *d, const void *plain, size_t bytes);
/* Before threads start: the file has this content at that L2 entry, referred to
 * so often. Of equal keys the first one stays. false = full. */
bool dedup_preload(struct dedup *d, const struct dedup_key *key, uint64_t entry, uint32_t refs);
/* When threads are done: room for so many more, if that does not make it larger than
 * DEDUP_CONTENTS_MAX. false without memory; it is as it was then. */
bool dedup_reserve(struct dedup *d, uint64_t more);
/* Takes out the contents at L2 entries of which gone() is true. When threads are done. */
void dedup_forget(struct dedup *d, bool (*gone)(const void *ctx, uint64_t entry),
                  const void *ctx);
/* The fresh contents, one after the other; *cursor is 0 at first. NULL = no
 * more. When threads are done. */
const struct dedup_slot *dedup_next_fresh(const struct dedup *d, uint64_t *cursor);
/* When threads are done; NULL = not known. */
const struct dedup_slot *dedup_find(const struct dedup *d, const struct dedup_key *key);
/* any thread */
bool dedup_known(const struct dedup *d, const struct dedup_key *key);
/* One thread at a time. NULL when it is new and cannot be remembered. */
struct dedup_slot *dedup_claim(struct dedup *d, const struct dedup_key *key);

#endif
