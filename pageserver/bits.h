/* SPDX-License-Identifier: Apache-2.0 */
/* bits.h - a bit per cluster, set and read by any thread without a lock.
 *
 * Memory is only used where bits are set. Setting a bit publishes what the
 * thread did before; reading it as set makes that visible.
 *
 * Ownership: bits_init() maps memory of its own; bits_over() borrows.
 */
#ifndef PAGESERVER_BITS_H
#define PAGESERVER_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bits {
        _Atomic uint64_t *word;
        uint64_t n;
        bool owned;
};

/* bytes of memory that hold n bits */
uint64_t bits_bytes(uint64_t n);

/* 0 or -ENOMEM; all clear */
int bits_init(struct bits *b, uint64_t n);
void bits_over(struct bits *b, void *memory, uint64_t n);
void bits_fini(struct bits *b);

bool bits_test(const struct bits *b, uint64_t i);
/* whether this call changed it */
bool bits_set(struct bits *b, uint64_t i);
bool bits_clear(struct bits *b, uint64_t i);
/* Of a map of its own only; a bit set at the same time may be lost. */
void bits_clear_all(struct bits *b);

/* The first i in [from, end) that is set in none of the maps; end if there is none. */
uint64_t bits_next_unset(const struct bits *const *maps, size_t n, uint64_t from, uint64_t end);
/* How many of [from, end) are set in at least one of the maps. */
uint64_t bits_count_any(const struct bits *const *maps, size_t n, uint64_t from, uint64_t end);

#endif
