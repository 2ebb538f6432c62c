/* SPDX-License-Identifier: Apache-2.0 */
/* The map by PAGEMAP_SCAN: the kernel reports runs of pages that match, one for a huge page
 * or a thousand of them, and passes over what is not mapped by the page table. */
#include <errno.h>

#include "common/check.h"
#include "vmm/ownmap-priv.h"
#include "vmm/pagemapscan.h"

/* On the stack, 6 KiB. The kernel has a buffer of 512 of its own at most. */
#define REGIONS_MAX 256u

/* Returns how many regions were written, or a negative errno. Zero pages are nobody's own:
 * that one is there says that the page was never written. */
static int scan(int fd, uint64_t start_hva, uint64_t end_hva,
                struct pagemapscan_region *regions, uint64_t *ret_walked_hva)
{
        struct pagemapscan s = {
                .size = sizeof(s), .start_hva = start_hva, .end_hva = end_hva,
                .regions = (uintptr_t)regions, .regions_max = REGIONS_MAX,
                .inverted = PAGE_OF_FILE | PAGE_ZERO, .all_of = PAGE_OF_FILE | PAGE_ZERO,
                .any_of = PAGE_PRESENT | PAGE_SWAPPED, .report = PAGE_HUGE,
        };
        int n = ioctl(fd, PAGEMAPSCAN, &s);

        if (n < 0)
                return -errno;
        *ret_walked_hva = s.walked_hva;
        return n;
}

/* asks about the page of its own variables */
static bool works(int pagemap_fd)
{
        struct pagemapscan_region regions[REGIONS_MAX];
        uint64_t walked;
        uint64_t page = ALIGN_DOWN((uintptr_t)&walked, OWNMAP_PAGE_BYTES);

        return scan(pagemap_fd, page, page + OWNMAP_PAGE_BYTES, regions, &walked) >= 0;
}

static void mark(struct ownmap_slot *slot, const struct pagemapscan_region *r)
{
        uint64_t hva = (uintptr_t)slot->hva;
        uint64_t first = (r->start_hva - hva) / OWNMAP_PAGE_BYTES;
        uint64_t end = (r->end_hva - hva) / OWNMAP_PAGE_BYTES;

        ownmap_mark(slot, first, end);
        if (!(r->categories & PAGE_HUGE))
                return;
        for (uint64_t b = DIV_ROUND_UP(first, OWNMAP_BLOCK_PAGES);
             b < end / OWNMAP_BLOCK_PAGES; b++)
                slot->huge[b] = 1;
}

static int scan_all(int pagemap_fd, struct ownmap_slot *slot, uint64_t first_page,
                    uint64_t pages, struct err *e)
{
        struct pagemapscan_region regions[REGIONS_MAX];
        uint64_t at = (uintptr_t)slot->hva + first_page * OWNMAP_PAGE_BYTES;
        uint64_t end = at + pages * OWNMAP_PAGE_BYTES;

        while (at < end) {
                uint64_t walked = at;
                int n = scan(pagemap_fd, at, end, regions, &walked);

                if (n == -EINTR)
                        continue;
                if (n < 0)
                        return err_set(e, -n, "ioctl");
                for (int i = 0; i < n; i++)
                        mark(slot, &regions[i]);
                ASSERT(walked > at && walked <= end);
                at = walked;
        }
        return 0;
}

const struct ownmap_way ownmap_by_scan = {
        .name = "PAGEMAP_SCAN", .works = works, .scan = scan_all,
};
