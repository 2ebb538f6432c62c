/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/adapters/qemu/recover.h"

#include "common/check.h"

static bool has(const uint8_t *bitmap, uint64_t i)
{
        return bitmap[i / 8] >> (i % 8) & 1;
}

static bool has_all(const uint8_t *bitmap, uint64_t first, uint64_t n)
{
        for (uint64_t i = first; i < first + n; i++) {
                if (!has(bitmap, i))
                        return false;
        }
        return true;
}

void recover_mark(struct hostpages *h, unsigned block, const uint8_t *bitmap)
{
        uint64_t page_bytes = h->of[block].page_bytes;
        uint64_t pages = h->blocks->at[block].bytes / page_bytes;
        uint64_t each = page_bytes / h->target_bytes;

        for (uint64_t p = 0; p < pages; p++) {
                if (has_all(bitmap, p * each, each))
                        bits_set(&h->sent, h->of[block].first_page + p);
        }
}
