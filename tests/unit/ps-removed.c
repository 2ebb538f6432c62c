/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: what is marked agrees with a page-by-page model and survives its server, also
 *       what was read but not marked yet; a map of another client is refused.
 * Method: random ranges in a layout whose order in the client differs from
 *       guest-physical order; messages put into a slot as a dying server leaves them. */
#include "pageserver/removed.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/check.h"
#include "tests/unit/suite.h"

#define P 4096ull
#define PAGES 100u
#define HUGE_BYTES (2ull << 20)
#define HEAD_BYTES 36864u               /* of the file, before its bits */
#define HVA_LOW 0x100000ull             /* pages 40-99 */
#define HVA_HIGH 0x200000ull            /* pages 0-9 */

static struct regions *layout(void)
{
        struct psmsg_attach a = {
                .nuffds = 1, .nregions = 2,
                .region = {
                        { .hva = HVA_HIGH, .bytes = 10 * P, .gpa = 0 },
                        { .hva = HVA_LOW, .bytes = 60 * P, .gpa = 40 * P },
                },
        };
        struct regions *r;
        int rc = regions_new(&a, PAGES * P, P, &r, NULL);

        ASSERT(rc == 0);
        return r;
}

static struct removed *empty(void)
{
        struct removed *r;
        int rc = removed_open(PAGES, 12, -1, &r, NULL);

        ASSERT(rc == 0);
        return r;
}

/* runs of kept pages put together are what the model says */
static bool agrees(const struct removed *r, const bool *gone)
{
        uint64_t from, end, next = 0, n = 0;

        for (uint64_t at = 0; removed_next_kept(r, at, PAGES * P, &from, &end); at = end) {
                for (uint64_t p = next; p < from / P; p++)
                        if (!gone[p] || !removed_test(r, p * P))
                                return false;
                for (uint64_t p = from / P; p < end / P; p++)
                        if (gone[p] || removed_test(r, p * P + 8))
                                return false;
                next = end / P;
        }
        for (uint64_t p = 0; p < PAGES; p++)
                n += gone[p];
        for (uint64_t p = next; p < PAGES; p++)
                if (!gone[p])
                        return false;
        return removed_bytes(r) == n * P;
}

static void random_ranges(void)
{
        struct regions *regions = layout();
        bool gone[PAGES] = { false };
        struct removed *r = empty();

        srand(7);
        for (int i = 0; i < 300; i++) {
                uint64_t hva = HVA_LOW - 2 * P + (uint64_t)(rand() % 70) * P;
                uint64_t n = (uint64_t)(rand() % 4);

                if (i % 5 == 0)
                        hva = HVA_HIGH + (uint64_t)(rand() % 12) * P - P;
                removed_lock_alone(r);
                removed_mark(r, regions, hva, hva + n * P);
                removed_unlock_alone(r);
                for (uint64_t p = 0; p < n; p++) {
                        uint64_t gpa;

                        if (regions_gpa(regions, hva + p * P, &gpa))
                                gone[gpa / P] = true;
                }
                CU_ASSERT_FATAL(agrees(r, gone));
        }
        removed_free(r);
        regions_free(regions);
}

/* huge pages: a range that holds one only in part leaves it */
static void parts_of_a_page_stay(void)
{
        struct psmsg_attach a = {
                .nuffds = 1, .nregions = 1, .region = { { .hva = 64u << 20, .bytes = 8u << 20 } },
        };
        struct regions *regions;
        struct removed *r;

        CU_ASSERT_EQUAL_FATAL(regions_new(&a, 8u << 20, 2u << 20, &regions, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(removed_open(4, 21, -1, &r, NULL), 0);
        removed_lock_alone(r);
        removed_mark(r, regions, (64u << 20) + P, (70u << 20) - P);
        removed_unlock_alone(r);
        CU_ASSERT_FALSE(removed_test(r, 0));
        CU_ASSERT_TRUE(removed_test(r, 2u << 20));
        CU_ASSERT_FALSE(removed_test(r, 4u << 20));
        CU_ASSERT_EQUAL(removed_bytes(r), 2u << 20);
        removed_free(r);
        regions_free(regions);
}

/* INV-UNREAD */
static void a_successor_marks_what_was_read(void)
{
        struct regions *regions = layout();
        bool gone[PAGES] = { [3] = true, [45] = true, [46] = true };
        struct removed *r = empty();
        struct removed *next;
        struct uffd_msg *slot = removed_slot(r, REMOVED_SLOTS - 1);

        removed_lock_alone(r);
        removed_mark(r, regions, HVA_HIGH + 3 * P, HVA_HIGH + 4 * P);
        removed_unlock_alone(r);
        slot[1].event = UFFD_EVENT_REMOVE;      /* read, and then it died */
        slot[1].arg.remove.start = HVA_LOW + 5 * P;
        slot[1].arg.remove.end = HVA_LOW + 7 * P;
        slot[0].event = UFFD_EVENT_PAGEFAULT;

        CU_ASSERT_EQUAL_FATAL(removed_open(PAGES, 12, removed_fd(r), &next, NULL), 0);
        removed_free(r);
        removed_replay(next, regions);
        CU_ASSERT(agrees(next, gone));
        removed_free(next);
        regions_free(regions);
}

/* needs no huge page: the look at what it is comes first */
static void huge_pages_are_refused(void)
{
        const uint64_t pages = (HUGE_BYTES - HEAD_BYTES) * 8;
        int fd = memfd_create("huge", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);
        struct removed *other;
        struct err e;

        if (fd < 0) {
                printf("skipped: no memfd of huge pages (%s)\n", strerror(errno));
                return;
        }
        CU_ASSERT_FATAL(ftruncate(fd, HUGE_BYTES) == 0);
        CU_ASSERT_FATAL(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
        CU_ASSERT_EQUAL(removed_open(pages, 12, fd, &other, &e), -EBADMSG);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "not a sealed memfd"));
        close(fd);
}

static void other_files_are_refused(void)
{
        struct removed *r = empty();
        struct removed *other;
        int plain = memfd_create("plain", MFD_CLOEXEC);
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);

        CU_ASSERT_EQUAL(removed_open(PAGES + 1, 12, removed_fd(r), &other, NULL), -EBADMSG);
        CU_ASSERT_EQUAL(removed_open(PAGES, 13, removed_fd(r), &other, NULL), -EBADMSG);
        CU_ASSERT_EQUAL(removed_open(PAGES, 12, plain, &other, NULL), -EBADMSG);
        CU_ASSERT_EQUAL(removed_open(PAGES, 12, null, &other, NULL), -EBADMSG);
        close(plain);
        close(null);
        removed_free(r);
}

static const CU_TestInfo cases[] = {
        { "random ranges agree with a model", random_ranges },
        { "a part of a page leaves the page", parts_of_a_page_stay },
        { "a successor marks what was read", a_successor_marks_what_was_read },
        { "other files are refused", other_files_are_refused },
        { "files of huge pages are refused", huge_pages_are_refused },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("removed", cases);
}
