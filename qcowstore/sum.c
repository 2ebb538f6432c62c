/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/sum.h"

#include <string.h>

#include "common/check.h"
#include "qcowstore/xxh3.h"

/* Looked at in one go: long enough to be vectorised, short enough that a
 * cluster with content is left at its first bytes. */
#define STEP_WORDS 32

uint64_t sum_bytes(const void *data, size_t bytes, uint64_t seed)
{
        uint64_t sum = XXH3_64bits_withSeed(data, bytes, seed);

        return sum ? sum : 1;
}

static bool step_zero(const uint8_t *p)
{
        uint64_t words[STEP_WORDS];
        uint64_t any = 0;

        memcpy(words, p, sizeof(words));
        for (unsigned i = 0; i < STEP_WORDS; i++)
                any |= words[i];
        return any == 0;
}

bool sum_all_zero(const void *data, size_t bytes)
{
        const uint8_t *p = data;
        const size_t step = STEP_WORDS * sizeof(uint64_t);

        for (; bytes >= step; p += step, bytes -= step) {
                if (!step_zero(p))
                        return false;
        }
        for (; bytes > 0; p++, bytes--) {
                if (*p)
                        return false;
        }
        return true;
}
