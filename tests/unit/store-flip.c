/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/store-flip.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "qcowstore/layout.h"
#include "tests/unit/store-kit.h"

/* sanitizers look for other faults, and are ten times slower */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STRIDE 67
#define TABLE_BITS(at) ((uint8_t)(1 << (at) % 8))
#else
#define STRIDE 7
#define TABLE_BITS(at) 0xff
#endif
/* every so many changes are looked at in all ways */
#define READ_STRIDE 5
#define MISSES_PRINTED 20

/* In a table most bytes are zero. */
static bool is_table(const uint8_t *page)
{
        unsigned used = 0;

        for (size_t i = 0; i < FLIP_PAGE; i++)
                used += page[i] != 0;
        return used < FLIP_PAGE / 4;
}

/* which of the bits of this byte are flipped */
static uint8_t bits_to_flip(const uint8_t *bytes, size_t at, bool table)
{
        if (at < LAYOUT_SECTOR_BYTES || getenv("STORE_EXHAUSTIVE"))
                return 0xff;
        if (bytes[at] != 0 && table)
                return TABLE_BITS(at);
        return at % STRIDE == 0 ? (uint8_t)(1 << at / STRIDE % 8) : 0;
}

unsigned flip_all(const uint8_t *bytes, size_t n, const bool *in_use, flip_fn *noticed,
                  void *ctx)
{
        AUTO_FD fd = kit_file(bytes, n);
        unsigned missed = 0;
        bool table = false;

        ASSERT(n % FLIP_PAGE == 0);
        for (size_t at = 0; at < n; at++) {
                if (at % FLIP_PAGE == 0)
                        table = is_table(bytes + at);

                uint8_t bits = in_use && !in_use[at / FLIP_PAGE] ? 0
                               : bits_to_flip(bytes, at, table);

                for (unsigned bit = 0; bit < 8; bit++) {
                        uint8_t bad = bytes[at] ^ (uint8_t)(1 << bit);

                        if (!(bits >> bit & 1))
                                continue;
                        io_pwrite_full(fd, &bad, 1, at);
                        if (!noticed(ctx, fd, at % READ_STRIDE == 0) && missed++ < MISSES_PRINTED)
                                fprintf(stderr, "bit %u of byte %zu\n", bit, at);
                }
                if (bits)
                        io_pwrite_full(fd, &bytes[at], 1, at);
        }
        return missed;
}
