/* SPDX-License-Identifier: Apache-2.0 */
/* The map by PAGEMAP_SCAN: the kernel reports runs of pages that match, one for a huge page
 * or a thousand of them, and passes over what is not mapped by the page table. */
#include <errno.h>

#include "common/check.h"
#include "vmm/ownmap-priv.h"
#include "vmm/pagemapscan.h"

/* On the stack, 6 KiB. The kernel has a buffer of 512 of its own at most. */
#define REGIONS_MAX 256u

/* What is asked of the kernel: for whether a page is a file's it looks at each page's own
 * struct, which makes the scan of small pages several times slower. */
struct question {
        bool of_files;                  /* some pages may be */
        bool written;                   /* only what is not protected */
};

/* Returns how many regions were written, or a negative errno. Zero pages count as others: when
 * a huge page is split, from Linux 6.12 on, what of it is all zero becomes one, and was
 * written. */
static int scan(int fd, uint64_t start_hva, uint64_t end_hva, const struct question *q,
                struct pagemapscan_region *regions, uint64_t *ret_walked_hva)
{
        uint64_t not = q->of_files ? PAGE_OF_FILE : 0;
        struct pagemapscan s = {
                .size = sizeof(s), .start_hva = start_hva, .end_hva = end_hva,
                .regions = (uintptr_t)regions, .regions_max = REGIONS_MAX,
                .inverted = not, .all_of = not | (q->written ? PAGE_WRITTEN : 0),
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
        const struct question q = { .of_files = true, .written = true };

        return scan(pagemap_fd, page, page + OWNMAP_PAGE_BYTES, &q, regions, &walked) >= 0;
}

static bool any_own(const struct ownmap_slot *slot, uint64_t block)
{
        const uint64_t *words = &slot->own[block * (OWNMAP_BLOCK_PAGES / OWNMAP_WORD_PAGES)];
        uint64_t any = 0;

        for (unsigned i = 0; i < OWNMAP_BLOCK_PAGES / OWNMAP_WORD_PAGES; i++)
                any |= words[i];
        return any;
}

/* A block that had pages of its own stays what it was: its units are known by then. */
static void mark(struct ownmap_slot *slot, uint64_t *bits, const struct pagemapscan_region *r)
{
        uint64_t hva = (uintptr_t)slot->hva;
        uint64_t first = (r->start_hva - hva) / OWNMAP_PAGE_BYTES;
        uint64_t end = (r->end_hva - hva) / OWNMAP_PAGE_BYTES;
        uint64_t b = DIV_ROUND_UP(first, OWNMAP_BLOCK_PAGES);

        ownmap_mark(bits, slot->pages, first, end);
        for (; (r->categories & PAGE_HUGE) && b < end / OWNMAP_BLOCK_PAGES; b++) {
                if (bits == slot->own || !any_own(slot, b))
                        slot->huge[b] = 1;
        }
}

static int scan_into(int pagemap_fd, struct ownmap_slot *slot, uint64_t first_page,
                     uint64_t pages, uint64_t *bits, struct err *e)
{
        const struct question q = { .of_files = slot->of_file, .written = bits != slot->own };
        struct pagemapscan_region regions[REGIONS_MAX];
        uint64_t at = (uintptr_t)slot->hva + first_page * OWNMAP_PAGE_BYTES;
        uint64_t end = at + pages * OWNMAP_PAGE_BYTES;

        while (at < end) {
                uint64_t walked = at;
                int n = scan(pagemap_fd, at, end, &q, regions, &walked);

                if (n == -EINTR)
                        continue;
                if (n < 0)
                        return err_set(e, -n, "ioctl");
                for (int i = 0; i < n; i++)
                        mark(slot, bits, &regions[i]);
                ASSERT(walked > at && walked <= end);
                at = walked;
        }
        return 0;
}

static int scan_all(int pagemap_fd, struct ownmap_slot *slot, uint64_t first_page,
                    uint64_t pages, struct err *e)
{
        return scan_into(pagemap_fd, slot, first_page, pages, slot->own, e);
}

static int scan_fresh(int pagemap_fd, struct ownmap_slot *slot, uint64_t first_page,
                      uint64_t pages, struct err *e)
{
        return scan_into(pagemap_fd, slot, first_page, pages, slot->fresh, e);
}

const struct ownmap_way ownmap_by_scan = {
        .name = "PAGEMAP_SCAN", .works = works, .scan = scan_all, .scan_fresh = scan_fresh,
};
