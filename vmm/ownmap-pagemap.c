/* SPDX-License-Identifier: Apache-2.0 */
/* The map by reading /proc/self/pagemap: eight bytes for each page, mapped or not. It has
 * no word for huge pages, so only hugetlbfs, where all are, counts as such. */
#include <string.h>

#include "common/check.h"
#include "common/io.h"
#include "vmm/ownmap-priv.h"

#define ENTRY_FILE (1ull << 61)
#define ENTRY_SWAPPED (1ull << 62)
#define ENTRY_PRESENT (1ull << 63)

/* What the kernel itself gathers at a time; 4 KiB, on the stack. */
#define ENTRIES_MAX OWNMAP_BLOCK_PAGES

static int look(int fd, const uint8_t *hva, uint64_t *entries, struct err *e)
{
        uint64_t at = (uintptr_t)hva / OWNMAP_PAGE_BYTES * sizeof(uint64_t);
        int rc = io_pread_full(fd, entries, ENTRIES_MAX * sizeof(uint64_t), at);

        return rc < 0 ? err_set(e, -rc, "read") : 0;
}

static bool works(int pagemap_fd)
{
        uint64_t entry;
        uint64_t at = (uintptr_t)&entry / OWNMAP_PAGE_BYTES * sizeof(entry);

        return io_pread_full(pagemap_fd, &entry, sizeof(entry), at) == 0 &&
               (entry & ENTRY_PRESENT);
}

static uint64_t word_of(const uint64_t *entries)
{
        uint64_t word = 0;

        for (unsigned i = 0; i < OWNMAP_WORD_PAGES; i++) {
                uint64_t there = (entries[i] & (ENTRY_PRESENT | ENTRY_SWAPPED)) != 0;
                uint64_t file = (entries[i] & ENTRY_FILE) != 0;

                word |= (there & ~file) << i;
        }
        return word;
}

static int scan_all(int pagemap_fd, struct ownmap_slot *slot, uint64_t first_page,
                    uint64_t pages, struct err *e)
{
        uint64_t entries[ENTRIES_MAX];

        for (uint64_t at = first_page; at < first_page + pages; at += ENTRIES_MAX) {
                uint64_t *words = &slot->own[at / OWNMAP_WORD_PAGES];
                int rc = look(pagemap_fd, slot->hva + at * OWNMAP_PAGE_BYTES, entries, e);

                if (rc < 0)
                        return rc;
                for (unsigned w = 0; w < ENTRIES_MAX / OWNMAP_WORD_PAGES; w++)
                        words[w] = word_of(&entries[w * OWNMAP_WORD_PAGES]);
                slot->huge[at / OWNMAP_BLOCK_PAGES] = slot->hugetlb && words[0];
        }
        return 0;
}

const struct ownmap_way ownmap_by_pagemap = {
        .name = "/proc/self/pagemap", .works = works, .scan = scan_all,
};
