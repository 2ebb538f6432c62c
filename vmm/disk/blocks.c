/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/disk/blocks.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/check.h"

#define WORD_BITS 64

int blocks_init(struct blocks *b, uint64_t nblocks, struct err *e)
{
        /* calloc, so that pages come when they are touched */
        _Atomic uint64_t *words = calloc(DIV_ROUND_UP(nblocks, WORD_BITS) + 1, sizeof(*words));

        if (!words)
                return err_msg(e, ENOMEM, "no memory for a map of %llu blocks",
                               (unsigned long long)nblocks);
        *b = (struct blocks){ words, nblocks };
        return 0;
}

void blocks_fini(struct blocks *b)
{
        free((void *)b->words);
        *b = (struct blocks){ 0 };
}

bool blocks_has(const struct blocks *b, uint64_t block)
{
        ASSERT(block < b->nblocks);
        return atomic_load_explicit(&b->words[block / WORD_BITS], memory_order_acquire) >>
               block % WORD_BITS & 1;
}

bool blocks_set(struct blocks *b, uint64_t block)
{
        uint64_t bit = 1ull << block % WORD_BITS;

        ASSERT(block < b->nblocks);
        return !(atomic_fetch_or_explicit(&b->words[block / WORD_BITS], bit,
                                          memory_order_acq_rel) & bit);
}

uint64_t blocks_count(const struct blocks *b)
{
        uint64_t n = 0;

        for (uint64_t i = 0; i < DIV_ROUND_UP(b->nblocks, WORD_BITS); i++)
                n += (unsigned)__builtin_popcountll(b->words[i]);
        return n;
}
