/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/sumtree.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "qcowstore/layout.h"
#include "qcowstore/sectoc.h"
#include "qcowstore/sum.h"

/* Most of a delta's sums are zero, and a chain has many deltas. So a block is kept as the sums
 * that are not: of the 64 that share a word of `present`, those that it has a bit for, from
 * before[word] on. */
struct block {
        uint64_t *present;
        uint32_t *before;
        uint64_t *sums;
};

struct sumtree {
        /* constant after sumtree_open() */
        struct section section;
        unsigned cluster_bits;
        uint64_t seed;
        sumtree_read_fn *read;
        void *ctx;
        uint64_t blocks;
        uint64_t *first;
        /* any thread; NULL -> a verified block, once */
        struct block *_Atomic *block;
};

uint64_t sumtree_blocks(uint64_t entries, unsigned cluster_bits)
{
        return DIV_ROUND_UP(entries, layout_l2_entries(cluster_bits));
}

uint64_t sumtree_blocks_at(uint64_t entries, unsigned cluster_bits)
{
        return ALIGN_UP(sumtree_blocks(entries, cluster_bits) * 8,
                        layout_cluster_bytes(cluster_bits));
}

uint64_t sumtree_extent(uint64_t entries, unsigned cluster_bits)
{
        return sumtree_blocks_at(entries, cluster_bits) +
               (sumtree_blocks(entries, cluster_bits) << cluster_bits);
}

uint64_t sumtree_entries(const struct sumtree *t)
{
        return t->section.bytes / 8;
}

void sumtree_free(struct sumtree *t)
{
        if (!t)
                return;
        for (uint64_t i = 0; t->first && t->block && i < t->blocks; i++) {
                if (t->first[i])        /* others were never touched */
                        free(atomic_load_explicit(&t->block[i], memory_order_relaxed));
        }
        free(t->block);
        free(t->first);
        free(t);
}

static void to_host(uint64_t *sums, uint64_t n)
{
        for (uint64_t i = 0; i < n; i++)
                sums[i] = le64toh(sums[i]);
}

static int load_first(struct sumtree *t, struct err *e)
{
        size_t bytes = t->blocks * 8;
        int rc = t->read(t->ctx, t->section.offset, t->first, bytes, e);

        if (rc < 0)
                return rc;
        if (sum_bytes(t->first, bytes, t->seed) != t->section.sum)
                return err_msg(e, EBADMSG, "%s is damaged", t->section.name);
        to_host(t->first, t->blocks);
        return 0;
}

int sumtree_open(const struct section *section, unsigned cluster_bits, uint64_t seed,
                 sumtree_read_fn *read, void *ctx, struct sumtree **ret, struct err *e)
{
        ASSERT(section->flags & SECTION_TREE);

        struct sumtree *t = calloc(1, sizeof(*t));
        uint64_t blocks = sumtree_blocks(section->bytes / 8, cluster_bits);

        if (!t)
                return err_set(e, ENOMEM, "read %s", section->name);
        *t = (struct sumtree){ *section, cluster_bits, seed, read, ctx, blocks, NULL, NULL };
        t->first = calloc(blocks + 1, sizeof(*t->first));
        t->block = calloc(blocks + 1, sizeof(*t->block));

        int rc = t->first && t->block ? load_first(t, e)
                                      : err_set(e, ENOMEM, "read %s", section->name);

        if (rc < 0) {
                sumtree_free(t);
                return rc;
        }
        *ret = t;
        return 0;
}

static bool eight_zero(const uint64_t *s)
{
        return !(s[0] | s[1] | s[2] | s[3] | s[4] | s[5] | s[6] | s[7]);
}

/* a bit for each of 64 that is not zero */
static uint64_t which(const uint64_t *sums)
{
        uint64_t bits = 0;

        for (unsigned at = 0; at < 64; at += 8) {
                if (eight_zero(sums + at))
                        continue;
                for (unsigned i = at; i < at + 8; i++)
                        bits |= (uint64_t)(sums[i] != 0) << i;
        }
        return bits;
}

/* n is a multiple of 64; one allocation */
static struct block *block_new(const uint64_t *sums, uint64_t n)
{
        uint64_t words = n / 64;
        uint32_t kept = 0;

        for (uint64_t i = 0; i < words; i++)
                kept += (uint32_t)__builtin_popcountll(which(sums + i * 64));

        struct block *b = calloc(1, sizeof(*b) + (words + kept) * sizeof(uint64_t) +
                                    words * sizeof(uint32_t));

        if (!b)
                return NULL;
        b->present = (uint64_t *)(b + 1);
        b->sums = b->present + words;
        b->before = (uint32_t *)(b->sums + kept);
        kept = 0;
        for (uint64_t i = 0; i < words; i++) {
                b->before[i] = kept;
                b->present[i] = which(sums + i * 64);
                for (uint64_t left = b->present[i]; left; left &= left - 1)
                        b->sums[kept++] = le64toh(sums[i * 64 + (unsigned)__builtin_ctzll(left)]);
        }
        return b;
}

static uint64_t block_get(const struct block *b, uint64_t i)
{
        uint64_t bit = 1ull << i % 64;
        uint64_t word = b->present[i / 64];

        if (!(word & bit))
                return 0;
        return b->sums[b->before[i / 64] + (unsigned)__builtin_popcountll(word & (bit - 1))];
}

/* Several threads may load the same block; the first one to publish wins. */
static int load_block(struct sumtree *t, uint64_t i, struct block **ret, struct err *e)
{
        size_t bytes = layout_cluster_bytes(t->cluster_bits);
        uint64_t at = t->section.offset + sumtree_blocks_at(sumtree_entries(t), t->cluster_bits) +
                      (i << t->cluster_bits);
        AUTO_FREE uint64_t *sums = malloc(bytes);
        struct block *present = NULL;

        if (!sums)
                return err_set(e, ENOMEM, "read %s", t->section.name);

        int rc = t->read(t->ctx, at, sums, bytes, e);

        if (rc < 0)
                return rc;
        if (sum_bytes(sums, bytes, t->seed) != t->first[i])
                return err_msg(e, EBADMSG, "block %llu of %s is damaged",
                               (unsigned long long)i, t->section.name);

        AUTO_FREE struct block *b = block_new(sums, bytes / 8);

        if (!b)
                return err_set(e, ENOMEM, "read %s", t->section.name);
        if (atomic_compare_exchange_strong(&t->block[i], &present, b))
                *ret = ptr_take(&b);
        else
                *ret = present;
        return 0;
}

bool sumtree_block_empty(const struct sumtree *t, uint64_t index)
{
        ASSERT(index < sumtree_entries(t));
        return t->first[index >> (t->cluster_bits - 3)] == 0;
}

int sumtree_get(struct sumtree *t, uint64_t index, uint64_t *ret, struct err *e)
{
        ASSERT(index < sumtree_entries(t));

        uint64_t i = index >> (t->cluster_bits - 3);
        struct block *b;

        if (t->first[i] == 0) {
                *ret = 0;
                return 0;
        }
        b = atomic_load_explicit(&t->block[i], memory_order_acquire);
        if (!b) {
                int rc = load_block(t, i, &b, e);

                if (rc < 0)
                        return rc;
        }
        *ret = block_get(b, index & (layout_l2_entries(t->cluster_bits) - 1));
        return 0;
}
