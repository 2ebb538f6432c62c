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
        uint64_t *_Atomic *block;
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

/* Several threads may load the same block; the first one to publish wins. */
static int load_block(struct sumtree *t, uint64_t i, uint64_t **ret, struct err *e)
{
        size_t bytes = layout_cluster_bytes(t->cluster_bits);
        uint64_t at = t->section.offset + sumtree_blocks_at(sumtree_entries(t), t->cluster_bits) +
                      (i << t->cluster_bits);
        AUTO_FREE uint64_t *sums = malloc(bytes);
        uint64_t *present = NULL;

        if (!sums)
                return err_set(e, ENOMEM, "read %s", t->section.name);

        int rc = t->read(t->ctx, at, sums, bytes, e);

        if (rc < 0)
                return rc;
        if (sum_bytes(sums, bytes, t->seed) != t->first[i])
                return err_msg(e, EBADMSG, "block %llu of %s is damaged",
                               (unsigned long long)i, t->section.name);
        to_host(sums, bytes / 8);
        if (atomic_compare_exchange_strong(&t->block[i], &present, sums))
                *ret = ptr_take(&sums);
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
        uint64_t *sums;

        if (t->first[i] == 0) {
                *ret = 0;
                return 0;
        }
        sums = atomic_load_explicit(&t->block[i], memory_order_acquire);
        if (!sums) {
                int rc = load_block(t, i, &sums, e);

                if (rc < 0)
                        return rc;
        }
        *ret = sums[index & (layout_l2_entries(t->cluster_bits) - 1)];
        return 0;
}
