/* SPDX-License-Identifier: Apache-2.0 */
/* ownmap-priv.h - the map's memory and its two ways to fill it; for ownmap*.c and tests. */
#ifndef VMM_OWNMAP_PRIV_H
#define VMM_OWNMAP_PRIV_H

#include <stddef.h>

#include "vmm/ownmap.h"

#define OWNMAP_BLOCK_PAGES (RAM_HUGE_BYTES / OWNMAP_PAGE_BYTES)
#define OWNMAP_WORD_PAGES 64u

/* Threads that scan disjoint blocks write to different words and bytes of these. */
struct ownmap_slot {
        const uint8_t *hva;
        uint64_t gpa;
        uint64_t pages;
        bool hugetlb;
        bool of_file;                   /* some pages may be those of a file */
        uint64_t *own;                  /* a bit per page */
        uint64_t *fresh;                /* of the latest rescan */
        uint8_t *huge;                  /* a byte per block, 0 or 1 */
};

struct ownmap_way {
        const char *name;
        bool (*works)(int pagemap_fd);
        /* Whole blocks, in which nothing is marked yet. */
        int (*scan)(int pagemap_fd, struct ownmap_slot *slot, uint64_t first_page,
                    uint64_t pages, struct err *e);
        /* The same into fresh, of what is not write-protected. NULL = cannot be told */
        int (*scan_fresh)(int pagemap_fd, struct ownmap_slot *slot, uint64_t first_page,
                          uint64_t pages, struct err *e);
};

extern const struct ownmap_way ownmap_by_scan;          /* Linux 6.7 */
extern const struct ownmap_way ownmap_by_pagemap;

/* ENOTSUP where this way does not work */
int ownmap_new_by(const struct ownmap_way *way, const struct ram *ram, struct ownmap **ret,
                  struct err *e);

/* of a map of so many pages */
void ownmap_mark(uint64_t *bits, uint64_t pages, uint64_t first_page, uint64_t end_page);

#endif
