/* SPDX-License-Identifier: Apache-2.0 */
/* ownmap.h - which pages of guest RAM have content of their own, at one moment.
 *
 * What "own" means stands in vmm/ram-source.h: present or swapped, and not of a file. All
 * else is the parent image's, or zero after a cold boot, and the map leaves it alone. The
 * map may say own of a page that is not, never the other way round:
 *  - zero pages are own: some were only read, others are what is left of a huge page;
 *  - so is what the page server has filled in the copy lane;
 *  - so is a page that is absent and write-protected: the kernel's marker of it looks like
 *    a protected page that was swapped out, to PAGEMAP_SCAN too. Whoever reads such a page
 *    has it fetched. So scan before you protect, and take the protection of an earlier save
 *    away (UFFDIO_WRITEPROTECT or unregistering: both drop markers) before the next scan.
 *
 * The guest stands still from the first ownmap_scan() until what is own is protected. The
 * page server may go on filling: whether a page that it fills meanwhile is in the map or
 * not, the parent has the same content.
 *
 * Ownership: freed by its maker, before the RAM is unmapped. All memory is had and touched
 *            in ownmap_new(): a scan allocates nothing and faults nothing in.
 * Threads:   ownmap_scan() of disjoint ranges by any number; the rest by any number once
 *            all scans have returned.
 * Errors:    only new and scan can fail.
 */
#ifndef VMM_OWNMAP_H
#define VMM_OWNMAP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "vmm/ram.h"

#define OWNMAP_PAGE_BYTES 4096u

struct ownmap;

/* An empty map of mapped RAM. Opens /proc/self/pagemap, and finds out which way works. */
int ownmap_new(const struct ram *ram, struct ownmap **ret, struct err *e);
void ownmap_free(struct ownmap *m);
/* "PAGEMAP_SCAN", or "/proc/self/pagemap", which does not tell huge pages but those of
 * hugetlbfs, and takes the same time whatever RAM holds */
const char *ownmap_way_name(const struct ownmap *m);

/* Looks anew at [offset, offset + bytes) of a slot, multiples of 2 MiB. */
int ownmap_scan(struct ownmap *m, unsigned slot, uint64_t offset, uint64_t bytes,
                struct err *e);

/* After ownmap_scan() and the protection of all that was own: adds what has become own
 * since, or is own and not protected (any more): only that is fresh. Much quicker where
 * little is. Nothing may have lost its content meanwhile. Only where can_rescan says so. */
bool ownmap_can_rescan(const struct ownmap *m);
int ownmap_rescan(struct ownmap *m, unsigned slot, uint64_t offset, uint64_t bytes,
                  struct err *e);
/* whether any page of [gpa, gpa + bytes), which lies in one slot, is fresh */
bool ownmap_fresh(const struct ownmap *m, uint64_t gpa, uint64_t bytes);

bool ownmap_page(const struct ownmap *m, uint64_t gpa);
/* The 2 MiB around gpa are own and mapped by one huge page. A hint from the scan on: the
 * kernel may split it or make another. */
bool ownmap_huge(const struct ownmap *m, uint64_t gpa);
/* whether any page of [gpa, gpa + bytes), which lies in one slot, is own */
bool ownmap_any(const struct ownmap *m, uint64_t gpa, uint64_t bytes);

struct ownmap_run {
        uint64_t gpa;
        uint64_t bytes;
};

/* The first run of own pages in [gpa, end_gpa), which lies in one slot; false when there is
 * none. Runs with at most gap_pages between them count as one, which begins and ends with a
 * page of its own. The next one is found from behind it. */
bool ownmap_run(const struct ownmap *m, uint64_t gpa, uint64_t end_gpa, uint64_t gap_pages,
                struct ownmap_run *ret);

struct ownmap_counts {
        uint64_t own_pages;
        uint64_t huge_blocks;           /* of 2 MiB; their pages are own pages too */
};

/* of all that was scanned */
struct ownmap_counts ownmap_count(const struct ownmap *m);

#endif
