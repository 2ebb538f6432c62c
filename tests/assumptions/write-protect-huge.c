/* SPDX-License-Identifier: Apache-2.0 */
/* What a live save rests on where pages are huge: protected and unprotected as a whole they
 * stay so, with one entry to change and one fault where small ones have 512. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "common/check.h"
#include "tests/assumptions/wp-kit.h"
#include "vmm/pagemapscan.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define UNIT ((size_t)64 << 10)

static unsigned huge_pages(const struct wp *w)
{
        return (unsigned)(kit_smaps_kib(w->map, "AnonHugePages:") * 1024 / (long)WP_HUGE);
}

static bool scan_says_huge(const char *at, bool protected)
{
        uint64_t categories;
        int n = wp_scan(at, 0, &categories);

        return n == -ENOTTY || (n == 1 && (categories & PAGE_HUGE) &&
                                protected == !(categories & PAGE_WRITTEN));
}

/* the second of four, then the third */
static void whole_stays_huge(struct wp *w)
{
        wp_register(w, WP_BOTH);
        wp_protect(w, w->map, WP_BYTES);
        HOLDS(huge_pages(w) == 4);
        for (size_t i = 1; i < 3; i++) {
                char *block = w->map + i * WP_HUGE;
                struct wp_writer t;

                wp_write_start(&t, block + 5 * KIT_PAGE, 0x21, -1);
                wp_write_trapped(w, &t);
                HOLDS(huge_pages(w) == 4 && scan_says_huge(block, true));
                wp_unprotect(w, block, WP_HUGE);
                wp_write_done(&t);
                wp_write_passes(w, block, 0x22);
                HOLDS(huge_pages(w) == 4 && scan_says_huge(block, false));
        }
        wp_write_traps(w, w->map, 0x23);
}

static void piece_splits(struct wp *w)
{
        wp_register(w, WP_BOTH);
        wp_protect(w, w->map, WP_BYTES);
        wp_unprotect(w, w->map, UNIT);
        HOLDS(huge_pages(w) == 3);
        wp_write_passes(w, w->map, 0x21);
        wp_write_passes(w, w->map + UNIT - KIT_PAGE, 0x21);
        wp_write_traps(w, w->map + UNIT, 0x22);
        wp_write_traps(w, w->map + WP_HUGE - KIT_PAGE, 0x22);
        wp_unprotect(w, w->map, WP_BYTES);

        /* and so does protecting one */
        wp_protect(w, w->map + WP_HUGE, UNIT);
        HOLDS(huge_pages(w) == 2);
        wp_write_passes(w, w->map + WP_HUGE + UNIT, 0x23);
        wp_write_traps(w, w->map + WP_HUGE, 0x24);
}

/* Nobody makes a huge page of small ones while one of them is protected: it would take the
 * protection of some or spread it to all. */
static void protected_is_not_collapsed(struct wp *w)
{
        wp_register(w, WP_BOTH);
        wp_protect(w, w->map, WP_HUGE);
        wp_unprotect(w, w->map, UNIT);
        HOLDS(huge_pages(w) == 3);
        if (madvise(w->map + WP_HUGE, WP_HUGE, MADV_COLLAPSE) < 0) {
                w->skip = "no MADV_COLLAPSE (Linux 6.1)";
                return;
        }
        HOLDS(madvise(w->map, WP_HUGE, MADV_COLLAPSE) < 0 && huge_pages(w) == 3);
        wp_write_traps(w, w->map + UNIT, 0x21);
        wp_unprotect(w, w->map, WP_HUGE);
        HOLDS(madvise(w->map, WP_HUGE, MADV_COLLAPSE) == 0 && huge_pages(w) == 4);
        wp_write_passes(w, w->map, 0x22);
}

/* hugetlbfs: whole pages only */
static void hugetlb_traps_whole(struct wp *w)
{
        memset(w->map, 1, WP_BYTES);
        wp_register(w, WP_BOTH);
        HOLDS(wp_change(w, w->map, UNIT, UFFDIO_WRITEPROTECT_MODE_WP) == EINVAL);
        wp_protect(w, w->map, WP_BYTES);
        HOLDS(scan_says_huge(w->map, true));
        HOLDS(wp_change(w, w->map, UNIT, 0) == EINVAL);
        wp_write_traps(w, w->map + 5 * KIT_PAGE, 0x21);
        wp_write_passes(w, w->map, 0x22);
        wp_write_traps(w, w->map + WP_BYTES - 1, 0x23);
        wp_unprotect(w, w->map, WP_BYTES);
        wp_write_passes(w, w->map + WP_HUGE, 0x24);
}

static const struct wp_case cases[] = {
        { "a huge page, protected and unprotected as a whole, stays huge", whole_stays_huge,
          WP_THP, 0 },
        { "protecting or unprotecting 64 KiB of it splits it", piece_splits, WP_THP, 0 },
        { "protected pages are not collapsed", protected_is_not_collapsed, WP_THP, 0 },
        { "hugetlbfs traps by whole pages", hugetlb_traps_whole, WP_HUGETLB, 0 },
};

int main(void)
{
        return wp_main(cases, ARRAY_SIZE(cases));
}
