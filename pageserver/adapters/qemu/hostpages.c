/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/adapters/qemu/hostpages.h"

#include <errno.h>
#include <stdlib.h>

#include "common/check.h"

static void count(struct hostpages *h, uint32_t cluster_bytes)
{
        for (size_t i = 0; i < h->blocks->n; i++) {
                const struct qemu_block *b = &h->blocks->at[i];
                struct hostpages_block *of = &h->of[i];

                of->first_page = h->pages;
                of->first_unit = h->units;
                of->page_bytes = MAX(b->page_size, h->target_bytes);
                of->unit_bytes = MAX(of->page_bytes, cluster_bytes);
                ASSERT(IS_ALIGNED(b->bytes, of->page_bytes));   /* qemu_blocks_seal() */
                h->pages += b->bytes / of->page_bytes;
                h->units += DIV_ROUND_UP(b->bytes, of->unit_bytes);
                h->largest_unit_bytes = MAX(h->largest_unit_bytes, of->unit_bytes);
        }
}

int hostpages_init(struct hostpages *h, const struct qemu_blocks *blocks, uint32_t target_bytes,
                   uint32_t cluster_bytes, struct err *e)
{
        *h = (struct hostpages){ .blocks = blocks, .target_bytes = target_bytes };
        if (blocks->n == 0)
                return err_msg(e, EBADMSG, "the machine has no RAM blocks");
        h->of = calloc(blocks->n, sizeof(*h->of));
        if (!h->of)
                return err_msg(e, ENOMEM, "no memory for the table of pages");
        count(h, cluster_bytes);
        if (h->pages == 0)
                return err_msg(e, EBADMSG, "the machine has no RAM");
        if (bits_init(&h->sent, h->pages) < 0 || bits_init(&h->taken, h->units) < 0)
                return err_msg(e, ENOMEM, "no memory for the map of pages");
        return 0;
}

void hostpages_fini(struct hostpages *h)
{
        free(h->of);
        bits_fini(&h->sent);
        bits_fini(&h->taken);
        *h = (struct hostpages){ 0 };
}

uint64_t hostpages_page(const struct hostpages *h, unsigned block, uint64_t offset)
{
        ASSERT(block < h->blocks->n && offset < h->blocks->at[block].bytes);
        return h->of[block].first_page + offset / h->of[block].page_bytes;
}

uint64_t hostpages_unit(const struct hostpages *h, unsigned block, uint64_t offset)
{
        ASSERT(block < h->blocks->n && offset < h->blocks->at[block].bytes);
        return h->of[block].first_unit + offset / h->of[block].unit_bytes;
}

struct hostpages_span hostpages_page_span(const struct hostpages *h, uint64_t page)
{
        unsigned block = 0;

        ASSERT(page < h->pages);
        while (block + 1 < h->blocks->n && h->of[block + 1].first_page <= page)
                block++;

        uint64_t bytes = h->of[block].page_bytes;

        return (struct hostpages_span){ block, (page - h->of[block].first_page) * bytes, bytes };
}

struct hostpages_span hostpages_unit_span(const struct hostpages *h, uint64_t first, uint64_t n)
{
        unsigned block = 0;

        ASSERT(n > 0 && first + n <= h->units);
        while (block + 1 < h->blocks->n && h->of[block + 1].first_unit <= first)
                block++;
        ASSERT(first + n <= hostpages_units_end(h, block));

        uint64_t offset = (first - h->of[block].first_unit) * h->of[block].unit_bytes;
        uint64_t left = h->blocks->at[block].bytes - offset;

        return (struct hostpages_span){ block, offset, MIN(left, n * h->of[block].unit_bytes) };
}

uint64_t hostpages_units_end(const struct hostpages *h, unsigned block)
{
        ASSERT(block < h->blocks->n);
        return block + 1 < h->blocks->n ? h->of[block + 1].first_unit : h->units;
}

bool hostpages_unsent(const struct hostpages *h, unsigned block, uint64_t offset,
                      struct hostpages_span *ret)
{
        const struct bits *sent = &h->sent;
        uint64_t first = h->of[block].first_page;
        uint64_t page_bytes = h->of[block].page_bytes;
        uint64_t end = first + h->blocks->at[block].bytes / page_bytes;
        uint64_t from = bits_next_unset(&sent, 1, first + offset / page_bytes, end);
        uint64_t to = from;

        if (from >= end)
                return false;
        while (to < end && !bits_test(sent, to))
                to++;
        *ret = (struct hostpages_span){ block, (from - first) * page_bytes,
                                        (to - from) * page_bytes };
        return true;
}
