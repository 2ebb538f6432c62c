/* SPDX-License-Identifier: Apache-2.0 */
/* store-ram.h - memory like a guest's, the same for the same seed: pages that
 * are zero, compressible or noise, in runs of some length. */
#ifndef TESTS_UNIT_STORE_RAM_H
#define TESTS_UNIT_STORE_RAM_H

#include <stddef.h>
#include <stdint.h>

/* xorshift64*; *state is not 0 */
static inline uint64_t store_random(uint64_t *state)
{
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        return *state * 0x2545f4914f6cdd1dull;
}

static inline void store_ram_page(uint8_t *p, size_t bytes, unsigned kind, uint64_t *state)
{
        static const char text[] = "the quick brown fox jumps over the lazy dog ";
        uint64_t shift = store_random(state);

        for (size_t i = 0; i < bytes; i++) {
                if (kind == 1)
                        p[i] = (uint8_t)(text[(i + shift) % 44] ^ (i % 97 == 0 ? shift >> 8 : 0));
                else if (kind == 2)
                        p[i] = (uint8_t)(store_random(state) >> 32);
        }
}

/* p is zero before */
static inline void store_ram_fill(uint8_t *p, size_t bytes, uint64_t seed)
{
        uint64_t state = seed * 2 + 1;
        size_t at = 0;

        while (at < bytes) {
                unsigned kind = (unsigned)(store_random(&state) % 3);
                size_t run = (1 + store_random(&state) % 24) * 4096;

                for (; run > 0 && at < bytes; run -= 4096) {
                        size_t n = bytes - at < 4096 ? bytes - at : 4096;

                        store_ram_page(p + at, n, kind, &state);
                        at += n;
                }
        }
}

#endif
