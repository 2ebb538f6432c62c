/* SPDX-License-Identifier: Apache-2.0 */
/* What a live save rests on: how userfaultfd's write-protection behaves on pages of every
 * state, how waiting threads are let go, and what of it leaves traces. */
#include <errno.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/check.h"
#include "tests/assumptions/wp-kit.h"
#include "vmm/pagemapscan.h"

static void wake(const struct wp *w, const char *at)
{
        HOLDS(uffd_wake(w->uffd, (uintptr_t)at, KIT_PAGE) == UFFD_DONE);
}

static void unregister(const struct wp *w)
{
        struct uffdio_range r = { .start = (uintptr_t)w->map, .len = WP_BYTES };

        HOLDS(ioctl(w->uffd, UFFDIO_UNREGISTER, &r) == 0);
}

/* A page of its own at 0, protected; the rest of the memory missing. */
static void own_page_protected(const struct wp *w)
{
        wp_register(w, WP_BOTH);
        wp_fill(w, w->map, 0x11, 0);
        wp_protect(w, w->map, KIT_PAGE);
}

/* A running revert is armed for its first save: the ranges are not unregistered meanwhile,
 * or the kernel would fill holes (INV-HOLE); who waits goes on waiting. */
static void registered_again(struct wp *w)
{
        struct kit k = { .uffd = w->uffd };
        struct kit_touch t;

        wp_register(w, WP_MISSING);
        wp_fill(w, w->map, 0x11, 0);
        kit_touch_start(&t, wp_page(w, 1));
        kit_await_fault(&k, wp_page(w, 1));
        wp_register(w, WP_BOTH);
        HOLDS(w->map[0] == 0x11 && kit_touch_sleeps(&t) && wp_quiet(w));
        wp_fill(w, wp_page(w, 1), 0x12, 0);
        HOLDS(kit_touch_join(&t) == 0x12);
        kit_touch_start(&t, wp_page(w, 2));
        kit_await_fault(&k, wp_page(w, 2));
        wp_fill(w, wp_page(w, 2), 0x13, 0);
        HOLDS(kit_touch_join(&t) == 0x13);
        wp_protect(w, w->map, 3 * (size_t)KIT_PAGE);
        wp_write_traps(w, w->map, 0x21);
        wp_write_traps(w, wp_page(w, 2), 0x23);
}

/* No way back but unregistering: after a save the ranges stay registered for both. */
static void missing_alone_takes_nothing_away(struct wp *w)
{
        own_page_protected(w);
        wp_register(w, WP_MISSING);
        wp_write_traps(w, w->map, 0x22);
        wp_protect(w, w->map, KIT_PAGE);
        wp_write_traps(w, w->map, 0x23);
}

/* Own, clean, in the cache but not mapped: all trap. A hole is missing first. */
static void pages_of_the_cache(struct wp *w)
{
        struct wp_writer t;

        wp_register(w, WP_BOTH);
        wp_cache_page(w, 0, 0x10);
        wp_write_passes(w, w->map, 0x20);
        wp_cache_page(w, 1, 0x11);
        HOLDS(*(volatile char *)wp_page(w, 1) == 0x11);
        wp_cache_page(w, 2, 0x12);
        HOLDS((wp_entry(w->map) & (WP_ENTRY_PRESENT | WP_ENTRY_FILE)) == WP_ENTRY_PRESENT);
        HOLDS((wp_entry(wp_page(w, 1)) & WP_ENTRY_PRESENT) &&
              (wp_entry(wp_page(w, 1)) & WP_ENTRY_FILE));
        HOLDS(!(wp_entry(wp_page(w, 2)) & WP_ENTRY_PRESENT));
        wp_protect(w, w->map, 4 * (size_t)KIT_PAGE);
        for (unsigned i = 0; i < 3; i++) {
                wp_write_traps(w, wp_page(w, i), 0x30);
                wp_write_passes(w, wp_page(w, i), 0x31);
        }
        wp_write_start(&t, wp_page(w, 3), 0x33, -1);
        wp_await(w, wp_page(w, 3), false);
        wp_cache_page(w, 3, 0x13);
        wake(w, wp_page(w, 3));
        wp_write_trapped(w, &t);
        wp_unprotect(w, wp_page(w, 3), KIT_PAGE);
        wp_write_done(&t);
}

/* Reading a protected page asks nobody, absent from the page table or not. */
static void reading_passes(struct wp *w)
{
        wp_register(w, WP_BOTH);
        wp_cache_page(w, 0, 0x10);
        wp_cache_page(w, 1, 0x11);
        wp_write_passes(w, w->map, 0x20);
        wp_protect(w, w->map, 2 * (size_t)KIT_PAGE);
        HOLDS(*(volatile char *)w->map == 0x20 && *(volatile char *)wp_page(w, 1) == 0x11);
        HOLDS(wp_quiet(w));
        wp_write_traps(w, wp_page(w, 1), 0x21);
}

/* An absent page that was protected looks like one that was swapped out: marker. Taking
 * the protection away takes the marker away. */
static void markers(struct wp *w)
{
        const uint64_t bits = WP_ENTRY_PRESENT | WP_ENTRY_SWAPPED | WP_ENTRY_FILE |
                              WP_ENTRY_PROTECTED;
        uint64_t categories;

        wp_register(w, WP_BOTH);
        HOLDS((wp_entry(w->map) & bits) == 0);
        wp_protect(w, w->map, KIT_PAGE);
        HOLDS((wp_entry(w->map) & bits) == (WP_ENTRY_SWAPPED | WP_ENTRY_PROTECTED));

        int n = wp_scan(w->map, 0, &categories);

        if (n != -ENOTTY)
                HOLDS(n == 1 && categories == PAGE_SWAPPED);
        wp_unprotect(w, w->map, KIT_PAGE);
        HOLDS((wp_entry(w->map) & bits) == 0);
        wp_protect(w, w->map, KIT_PAGE);
        unregister(w);
        HOLDS((wp_entry(w->map) & bits) == 0);
}

static void empty_is_skipped(struct wp *w)
{
        wp_register(w, UFFDIO_REGISTER_MODE_WP);
        wp_write_passes(w, wp_page(w, 1), 0x11);
        wp_protect(w, w->map, 2 * (size_t)KIT_PAGE);
        HOLDS(wp_entry(w->map) == 0 || !(wp_entry(w->map) & WP_ENTRY_PROTECTED));
        wp_write_passes(w, w->map, 0x20);
        wp_write_traps(w, wp_page(w, 1), 0x21);
}

static void empty_is_trapped(struct wp *w)
{
        wp_register(w, UFFDIO_REGISTER_MODE_WP);
        wp_protect(w, w->map, KIT_PAGE);
        HOLDS(wp_entry(w->map) & WP_ENTRY_PROTECTED);
        wp_write_traps(w, w->map, 0x20);
        wp_write_passes(w, wp_page(w, 1), 0x21);
}

/* What was absent at the arming comes from the parent image; so the page server fills it by
 * plain UFFDIO_COPY, and the guest writes to it at once. */
static void filled_after_arming(struct wp *w)
{
        struct wp_writer t;

        wp_register(w, WP_BOTH);
        wp_protect(w, w->map, 4 * (size_t)KIT_PAGE);
        wp_fill(w, w->map, 0x11, 0);
        HOLDS(!(wp_entry(w->map) & WP_ENTRY_PROTECTED));
        wp_write_passes(w, w->map, 0x21);

        /* a write that waits for the page goes on as soon as it is there */
        wp_write_start(&t, wp_page(w, 1), 0x22, -1);
        wp_await(w, wp_page(w, 1), false);
        wp_fill(w, wp_page(w, 1), 0x12, 0);
        wp_write_done(&t);
        HOLDS(wp_quiet(w));

        wp_fill(w, wp_page(w, 2), 0x13, UFFDIO_COPY_MODE_WP);
        wp_write_traps(w, wp_page(w, 2), 0x23);
}

/* So who arms absent pages must not have them filled with ZEROPAGE. */
static void zeropage_meets_marker(struct wp *w)
{
        struct uffdio_zeropage z = {
                .range = { .start = (uintptr_t)w->map, .len = KIT_PAGE },
        };

        wp_register(w, WP_BOTH);
        wp_protect(w, w->map, KIT_PAGE);
        HOLDS(ioctl(w->uffd, UFFDIO_ZEROPAGE, &z) < 0 && errno == EEXIST);
        HOLDS(!(wp_entry(w->map) & WP_ENTRY_PRESENT));
        wp_unprotect(w, w->map, KIT_PAGE);
        HOLDS(ioctl(w->uffd, UFFDIO_ZEROPAGE, &z) == 0);
}

/* as reattaching a page server does with all ranges: nothing is lost by it */
static void woken_faults_anew(struct wp *w)
{
        struct wp_writer t;

        own_page_protected(w);
        wp_write_start(&t, w->map, 0x21, -1);
        wp_write_trapped(w, &t);
        wake(w, w->map);
        wp_write_trapped(w, &t);
        wp_unprotect(w, w->map, KIT_PAGE);
        wp_write_done(&t);
}

static void unprotecting_wakes(struct wp *w)
{
        struct wp_writer t, u;

        own_page_protected(w);
        wp_write_start(&t, w->map + 1, 0x21, -1);
        wp_write_trapped(w, &t);
        wp_write_start(&u, w->map + 2, 0x22, -1);
        wp_write_trapped(w, &u);
        HOLDS(wp_change(w, w->map, KIT_PAGE, UFFDIO_WRITEPROTECT_MODE_DONTWAKE) == 0);
        HOLDS(wp_write_sleeps(&t) && wp_write_sleeps(&u));
        wp_unprotect(w, w->map, KIT_PAGE);
        wp_write_done(&t);
        wp_write_done(&u);
        HOLDS(w->map[0] == 0x11 && wp_quiet(w));
}

/* Those too who wait for a missing page of the range: they ask again. So a page server may
 * see two messages for one fault while a save runs. */
static void unprotecting_wakes_the_missing(struct wp *w)
{
        struct kit k = { .uffd = w->uffd };
        struct kit_touch t;

        own_page_protected(w);
        kit_touch_start(&t, wp_page(w, 1));
        kit_await_fault(&k, wp_page(w, 1));
        wp_unprotect(w, w->map, 2 * (size_t)KIT_PAGE);
        kit_await_fault(&k, wp_page(w, 1));
        wp_fill(w, wp_page(w, 1), 0x12, 0);
        HOLDS(kit_touch_join(&t) == 0x12);
}

static void unregistering_ends_it(struct wp *w)
{
        struct wp_writer t;

        own_page_protected(w);
        wp_fill(w, wp_page(w, 1), 0x12, UFFDIO_COPY_MODE_WP);
        wp_write_start(&t, w->map + 1, 0x21, -1);
        wp_write_trapped(w, &t);
        unregister(w);
        wp_write_done(&t);
        HOLDS(w->map[0] == 0x11 && w->map[KIT_PAGE] == 0x12);
        HOLDS(!(wp_entry(wp_page(w, 1)) & WP_ENTRY_PROTECTED));
        wp_register(w, WP_BOTH);
        wp_write_passes(w, wp_page(w, 1), 0x22);
}

static void closing_ends_it(struct wp *w)
{
        struct wp_writer t;

        own_page_protected(w);
        wp_fill(w, wp_page(w, 1), 0x12, UFFDIO_COPY_MODE_WP);
        wp_write_start(&t, w->map + 1, 0x21, -1);
        wp_write_trapped(w, &t);
        close(w->uffd);
        w->uffd = -1;
        wp_write_done(&t);
        w->map[KIT_PAGE] = 0x22;
        HOLDS(w->map[0] == 0x11 && w->map[KIT_PAGE] == 0x22 && w->map[KIT_PAGE + 1] == 0x12);
}

static void swapped_pages_stay_protected(struct wp *w)
{
        own_page_protected(w);
        if (madvise(w->map, KIT_PAGE, MADV_PAGEOUT) < 0 ||
            !(wp_entry(w->map) & WP_ENTRY_SWAPPED)) {
                w->skip = "no page went to swap (is there any?)";
                return;
        }
        HOLDS((wp_entry(w->map) & WP_ENTRY_PROTECTED) && !(wp_entry(w->map) & WP_ENTRY_PRESENT));

        uint64_t categories;
        int n = wp_scan(w->map, 0, &categories);

        /* no difference to a marker */
        if (n != -ENOTTY)
                HOLDS(n == 1 && categories == PAGE_SWAPPED);
        wp_write_traps(w, w->map + 1, 0x21);
        HOLDS(w->map[0] == 0x11);
}

/* As KVM and our devices write: in kernel mode. */
static void kernel_writes_are_trapped(struct wp *w)
{
        struct wp_writer t;
        int fds[2];

        own_page_protected(w);
        HOLDS(pipe(fds) == 0 && write(fds[1], "\x21", 1) == 1);
        wp_write_start(&t, w->map + 5, 0x21, fds[0]);
        wp_write_trapped(w, &t);
        HOLDS(w->map[5] == 0x11);
        wp_unprotect(w, w->map, KIT_PAGE);
        wp_write_done(&t);
        close(fds[0]);
        close(fds[1]);
}

/* One userfaultfd is asynchronous or not, for good: this one never tells of a write. */
static void async_never_traps(struct wp *w)
{
        uint64_t categories;

        own_page_protected(w);
        HOLDS(wp_scan(w->map, 0, &categories) == 1 && !(categories & PAGE_WRITTEN));
        wp_write_passes(w, w->map, 0x21);
        HOLDS(wp_scan(w->map, 0, &categories) == 1 && (categories & PAGE_WRITTEN));
        HOLDS(wp_scan(w->map, PAGEMAPSCAN_PROTECT, &categories) == 1);
        HOLDS(wp_entry(w->map) & WP_ENTRY_PROTECTED);
}

/* And the scan that protects what it finds is for those only; it does not say so. What is
 * protected it tells of both. */
static void scan_does_not_arm(struct wp *w)
{
        uint64_t categories;

        wp_register(w, WP_BOTH);
        wp_fill(w, w->map, 0x11, 0);
        if (wp_scan(w->map, 0, &categories) == -ENOTTY) {
                w->skip = "no PAGEMAP_SCAN (Linux 6.7)";
                return;
        }
        HOLDS(categories & PAGE_WRITTEN);
        HOLDS(wp_scan(w->map, PAGEMAPSCAN_PROTECT, &categories) == 0);
        HOLDS(!(wp_entry(w->map) & WP_ENTRY_PROTECTED));
        HOLDS(wp_scan(w->map, PAGEMAPSCAN_PROTECT | PAGEMAPSCAN_CHECK_ASYNC, &categories) ==
              -EPERM);
        wp_write_passes(w, w->map, 0x21);
        wp_protect(w, w->map, KIT_PAGE);
        HOLDS(wp_scan(w->map, 0, &categories) == 1 && categories == PAGE_PRESENT);
        wp_write_traps(w, w->map, 0x22);
        HOLDS(wp_scan(w->map, 0, &categories) == 1 && (categories & PAGE_WRITTEN));
}

static const struct wp_case cases[] = {
        { "registering again, for protection too, keeps pages and waiters: anonymous",
          registered_again, WP_ANONYMOUS, 0 },
        { "registering again, for protection too, keeps pages and waiters: cache",
          registered_again, WP_CACHE, 0 },
        { "registering for MISSING alone does not end protection: anonymous",
          missing_alone_takes_nothing_away, WP_ANONYMOUS, 0 },
        { "registering for MISSING alone does not end protection: cache",
          missing_alone_takes_nothing_away, WP_CACHE, 0 },
        { "cache: own, clean and absent pages trap", pages_of_the_cache, WP_CACHE, 0 },
        { "cache: reading protected pages asks nobody", reading_passes, WP_CACHE, 0 },
        { "cache: absent pages get markers, which look swapped", markers, WP_CACHE, 0 },
        { "anonymous, WP_UNPOPULATED: the same", markers, WP_ANONYMOUS, WP_UNPOPULATED },
        { "anonymous: absent pages are skipped", empty_is_skipped, WP_ANONYMOUS, 0 },
        { "anonymous, WP_UNPOPULATED: absent pages trap", empty_is_trapped, WP_ANONYMOUS,
          WP_UNPOPULATED },
        { "filled by plain COPY after the arming: written freely, anonymous",
          filled_after_arming, WP_ANONYMOUS, 0 },
        { "filled by plain COPY after the arming: written freely, WP_UNPOPULATED",
          filled_after_arming, WP_ANONYMOUS, WP_UNPOPULATED },
        { "filled by plain COPY after the arming: written freely, cache",
          filled_after_arming, WP_CACHE, 0 },
        { "ZEROPAGE over a marker: EEXIST, and still absent", zeropage_meets_marker,
          WP_ANONYMOUS, WP_UNPOPULATED },
        { "a waiting writer that is woken faults anew", woken_faults_anew, WP_ANONYMOUS, 0 },
        { "unprotecting wakes all who wait, unless DONTWAKE", unprotecting_wakes,
          WP_ANONYMOUS, 0 },
        { "unprotecting wakes who waits for a missing page: it asks again",
          unprotecting_wakes_the_missing, WP_ANONYMOUS, 0 },
        { "unprotecting wakes who waits for a missing page: it asks again, cache",
          unprotecting_wakes_the_missing, WP_CACHE, 0 },
        { "unregistering unprotects and wakes: anonymous", unregistering_ends_it,
          WP_ANONYMOUS, 0 },
        { "unregistering unprotects and wakes: cache", unregistering_ends_it, WP_CACHE, 0 },
        { "closing the userfaultfd lets all go on", closing_ends_it, WP_ANONYMOUS, 0 },
        { "closing the userfaultfd lets all go on: cache", closing_ends_it, WP_CACHE, 0 },
        { "protection survives swapping: anonymous", swapped_pages_stay_protected,
          WP_ANONYMOUS, 0 },
        { "protection survives swapping: cache", swapped_pages_stay_protected, WP_CACHE, 0 },
        { "writes in kernel mode trap: anonymous", kernel_writes_are_trapped, WP_ANONYMOUS, 0 },
        { "writes in kernel mode trap: cache", kernel_writes_are_trapped, WP_CACHE, 0 },
        { "WP_ASYNC never traps", async_never_traps, WP_ANONYMOUS, WP_ASYNC | WP_UNPOPULATED },
        { "PAGEMAP_SCAN protects nothing without WP_ASYNC", scan_does_not_arm, WP_ANONYMOUS,
          0 },
};

int main(void)
{
        return wp_main(cases, ARRAY_SIZE(cases));
}
