/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/bits.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "common/check.h"

uint64_t bits_bytes(uint64_t n)
{
        return ALIGN_UP(DIV_ROUND_UP(n, 8), 4096);
}

int bits_init(struct bits *b, uint64_t n)
{
        void *p = mmap(NULL, bits_bytes(n), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (p == MAP_FAILED)
                return -ENOMEM;
        *b = (struct bits){ .word = p, .n = n, .owned = true };
        return 0;
}

void bits_over(struct bits *b, void *memory, uint64_t n)
{
        *b = (struct bits){ .word = memory, .n = n };
}

void bits_fini(struct bits *b)
{
        if (b->owned)
                munmap((void *)b->word, bits_bytes(b->n));
        *b = (struct bits){ 0 };
}

static uint64_t mask(uint64_t i)
{
        return 1ull << (i % 64);
}

bool bits_test(const struct bits *b, uint64_t i)
{
        ASSERT(i < b->n);
        return atomic_load_explicit(&b->word[i / 64], memory_order_acquire) & mask(i);
}

bool bits_set(struct bits *b, uint64_t i)
{
        ASSERT(i < b->n);
        return !(atomic_fetch_or(&b->word[i / 64], mask(i)) & mask(i));
}

bool bits_clear(struct bits *b, uint64_t i)
{
        ASSERT(i < b->n);
        return atomic_fetch_and(&b->word[i / 64], ~mask(i)) & mask(i);
}

void bits_clear_all(struct bits *b)
{
        ASSERT(b->owned);

        int rc = madvise((void *)b->word, bits_bytes(b->n), MADV_DONTNEED);

        ASSERT(rc == 0);
}

/* the union of the maps' words at w, only the bits within [from, end) */
static uint64_t any(const struct bits *const *maps, size_t n, uint64_t w, uint64_t from,
                    uint64_t end, uint64_t *ret_inside)
{
        uint64_t inside = ~0ull;
        uint64_t set = 0;

        if (w == from / 64)
                inside &= ~0ull << (from % 64);
        if (w == end / 64)
                inside &= mask(end) - 1;
        for (size_t i = 0; i < n; i++)
                set |= atomic_load_explicit(&maps[i]->word[w], memory_order_acquire);
        *ret_inside = inside;
        return set & inside;
}

uint64_t bits_next_unset(const struct bits *const *maps, size_t n, uint64_t from, uint64_t end)
{
        uint64_t inside;

        for (uint64_t w = from / 64; from < end && w * 64 < end; w++) {
                uint64_t unset = ~any(maps, n, w, from, end, &inside) & inside;

                if (unset)
                        return w * 64 + (uint64_t)__builtin_ctzll(unset);
        }
        return end;
}

uint64_t bits_count_any(const struct bits *const *maps, size_t n, uint64_t from, uint64_t end)
{
        uint64_t inside;
        uint64_t count = 0;

        for (uint64_t w = from / 64; from < end && w * 64 < end; w++)
                count += (uint64_t)__builtin_popcountll(any(maps, n, w, from, end, &inside));
        return count;
}
