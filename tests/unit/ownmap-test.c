/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: the map says own of exactly the pages that were written or filled, on every kind of
 *       mapping and by both ways, and gives them in the right runs.
 * Method: real mappings as the monitor makes them, whose pages are written, read, thrown
 *         away; the runs against a page-by-page model. A way or a kind of page that this
 *         kernel does not have is said and left out. */
#include "vmm/ownmap.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"
#include "vmm/ownmap-priv.h"

#define PAGE OWNMAP_PAGE_BYTES
#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define HUGE RAM_HUGE_BYTES

static const struct ownmap_way *const ways[] = { &ownmap_by_scan, &ownmap_by_pagemap };

static struct ram new_ram(uint64_t bytes, enum ram_pages pages)
{
        struct ram ram;

        CU_ASSERT_EQUAL_FATAL(ram_init(&ram, bytes, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(ram_map_anonymous(&ram, false, pages, NULL), 0);
        /* whatever this host gives to all */
        if (pages == RAM_SMALL)
                (void)madvise(ram_at(&ram, 0, bytes), bytes, MADV_NOHUGEPAGE);
        return ram;
}

static void dirty(const struct ram *ram, uint64_t gpa)
{
        *(volatile uint8_t *)ram_at(ram, gpa, 1) = 1;
}

static uint8_t look_at(const struct ram *ram, uint64_t gpa)
{
        return *(volatile uint8_t *)ram_at(ram, gpa, 1);
}

static void throw_away(const struct ram *ram, uint64_t gpa)
{
        CU_ASSERT_EQUAL(madvise(ram_at(ram, gpa, PAGE), PAGE, MADV_DONTNEED), 0);
}

/* All of RAM, scanned by this way; NULL when the kernel does not have it. */
static struct ownmap *map_by(const struct ownmap_way *way, const struct ram *ram)
{
        struct ownmap *m = NULL;
        struct err e;
        int rc = ownmap_new_by(way, ram, &m, &e);

        if (rc == -ENOTSUP) {
                printf("skipped: %s (Linux 6.7)\n", way->name);
                return NULL;
        }
        CU_ASSERT_EQUAL_FATAL(rc, 0);
        CU_ASSERT_STRING_EQUAL(ownmap_way_name(m), way->name);
        for (unsigned i = 0; i < ram->nslots; i++)
                CU_ASSERT_EQUAL(ownmap_scan(m, i, 0, ram->slots[i].bytes, &e), 0);
        return m;
}

/* Exactly these pages, in ascending order. */
static void expect_own(const char *row, const struct ownmap *m, const struct ram *ram,
                       const uint64_t *gpas, size_t n)
{
        size_t at = 0;

        for (unsigned i = 0; i < ram->nslots; i++) {
                const struct ram_slot *s = &ram->slots[i];

                for (uint64_t gpa = s->gpa; gpa < s->gpa + s->bytes; gpa += PAGE) {
                        bool want = at < n && gpas[at] == gpa;

                        if (ownmap_page(m, gpa) != want)
                                EXPECT_EQUAL(row, gpa, -1);
                        at += want;
                }
        }
        EXPECT_EQUAL(row, at, n);
        EXPECT_EQUAL(row, ownmap_count(m).own_pages, n);
}

static void anonymous_pages(void)
{
        static const uint64_t own[] = {
                0, PAGE, 63 * PAGE, 64 * PAGE, 511 * PAGE, HUGE, 64 * MIB - PAGE,
        };
        struct ram ram = new_ram(64 * MIB, RAM_SMALL);

        for (size_t i = 0; i < ARRAY_SIZE(own); i++)
                dirty(&ram, own[i]);
        dirty(&ram, 7 * PAGE);
        throw_away(&ram, 7 * PAGE);
        for (size_t w = 0; w < ARRAY_SIZE(ways); w++) {
                struct ownmap *m = map_by(ways[w], &ram);

                if (!m)
                        continue;
                expect_own(ways[w]->name, m, &ram, own, ARRAY_SIZE(own));
                EXPECT_EQUAL(ways[w]->name, ownmap_count(m).huge_blocks, 0);
                ownmap_free(m);
        }
        ram_unmap(&ram);
}

/* A page that was only read may be what is left of a written one (ownmap-scan.c). */
static void zero_pages(void)
{
        for (size_t w = 0; w < ARRAY_SIZE(ways); w++) {
                struct ram ram = new_ram(64 * MIB, RAM_SMALL);

                EXPECT_EQUAL(ways[w]->name, look_at(&ram, 5 * PAGE), 0);

                struct ownmap *m = map_by(ways[w], &ram);

                if (m)
                        EXPECT_TRUE(ways[w]->name, ownmap_page(m, 5 * PAGE));
                ownmap_free(m);
                ram_unmap(&ram);
        }
}

/* What is clean in the cache is the image's; what was written over it, or over a hole, is
 * the guest's; thrown away, it is the image's again. */
static void cache_pages(void)
{
        static const uint64_t own[] = { 2 * PAGE, 600 * PAGE, 4 * GIB + 3 * PAGE };
        AUTO_FD fd = memfd_create("cache", MFD_CLOEXEC);
        struct ram ram;

        CU_ASSERT_EQUAL_FATAL(ram_init(&ram, 3 * GIB + 4 * MIB, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(ftruncate(fd, (off_t)ram_end_gpa(&ram)), 0);
        for (unsigned i = 0; i < 32; i++)
                CU_ASSERT_EQUAL(pwrite(fd, "x", 1, i * (off_t)PAGE), 1);
        CU_ASSERT_EQUAL_FATAL(ram_map_cache(&ram, fd, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(ram_unlock(&ram, NULL), 0);
        CU_ASSERT_EQUAL(look_at(&ram, PAGE), 'x');
        dirty(&ram, 2 * PAGE);
        dirty(&ram, 9 * PAGE);
        throw_away(&ram, 9 * PAGE);
        dirty(&ram, 600 * PAGE);
        dirty(&ram, 4 * GIB + 3 * PAGE);
        for (size_t w = 0; w < ARRAY_SIZE(ways); w++) {
                struct ownmap *m = map_by(ways[w], &ram);

                if (m)
                        expect_own(ways[w]->name, m, &ram, own, ARRAY_SIZE(own));
                ownmap_free(m);
        }
        ram_unmap(&ram);
}

/* 32 MiB of huge pages, one of which is split by a page that is thrown away. */
static void transparent_huge_pages(void)
{
        struct ram ram = new_ram(64 * MIB, RAM_THP);
        struct ownmap *m;

        memset(ram_at(&ram, 8 * MIB, 32 * MIB), 1, 32 * MIB);
        throw_away(&ram, 10 * MIB + 5 * PAGE);
        m = map_by(&ownmap_by_scan, &ram);
        if (m && ownmap_count(m).huge_blocks == 0)
                printf("skipped: transparent huge pages: this kernel makes none\n");
        else if (m) {
                CU_ASSERT_EQUAL(ownmap_count(m).own_pages, 32 * MIB / PAGE - 1);
                CU_ASSERT_EQUAL(ownmap_count(m).huge_blocks, 15);
                CU_ASSERT(ownmap_huge(m, 8 * MIB) && ownmap_huge(m, 40 * MIB - 1));
                CU_ASSERT(!ownmap_huge(m, 8 * MIB - 1) && !ownmap_huge(m, 40 * MIB));
                CU_ASSERT(!ownmap_huge(m, 10 * MIB) && !ownmap_page(m, 10 * MIB + 5 * PAGE));
                CU_ASSERT(ownmap_page(m, 10 * MIB) && ownmap_page(m, 10 * MIB + 6 * PAGE));
        }
        ownmap_free(m);
        m = map_by(&ownmap_by_pagemap, &ram);
        CU_ASSERT_EQUAL(ownmap_count(m).own_pages, 32 * MIB / PAGE - 1);
        CU_ASSERT_EQUAL(ownmap_count(m).huge_blocks, 0);
        ownmap_free(m);
        ram_unmap(&ram);
}

static void hugetlb_pages(void)
{
        struct ram ram;

        CU_ASSERT_EQUAL_FATAL(ram_init(&ram, 64 * MIB, NULL), 0);
        if (ram_map_anonymous(&ram, false, RAM_HUGETLB, NULL) < 0) {
                printf("skipped: hugetlbfs: no 32 free pages (vm.nr_hugepages)\n");
                return;
        }
        dirty(&ram, 6 * MIB + 5 * PAGE);
        for (size_t w = 0; w < ARRAY_SIZE(ways); w++) {
                struct ownmap *m = map_by(ways[w], &ram);

                if (!m)
                        continue;
                EXPECT_EQUAL(ways[w]->name, ownmap_count(m).own_pages, 512);
                EXPECT_EQUAL(ways[w]->name, ownmap_count(m).huge_blocks, 1);
                EXPECT_TRUE(ways[w]->name, ownmap_huge(m, 6 * MIB));
                EXPECT_TRUE(ways[w]->name, !ownmap_any(m, 0, 6 * MIB));
                EXPECT_TRUE(ways[w]->name, !ownmap_any(m, 8 * MIB, 56 * MIB));
                ownmap_free(m);
        }
        ram_unmap(&ram);
}

/* More runs than a way takes at a time, and a second look that forgets the first. */
static void every_other_page_and_anew(void)
{
        struct ram ram = new_ram(64 * MIB, RAM_SMALL);

        for (size_t w = 0; w < ARRAY_SIZE(ways); w++) {
                for (uint64_t gpa = 0; gpa < 64 * MIB; gpa += 2 * PAGE)
                        dirty(&ram, gpa);

                struct ownmap *m = map_by(ways[w], &ram);
                unsigned wrong = 0;

                for (uint64_t gpa = 0; m && gpa < 64 * MIB; gpa += PAGE)
                        wrong += ownmap_page(m, gpa) != (gpa / PAGE % 2 == 0);
                EXPECT_EQUAL(ways[w]->name, wrong, 0);
                CU_ASSERT_EQUAL(madvise(ram_at(&ram, 0, 64 * MIB), 64 * MIB, MADV_DONTNEED), 0);
                if (m) {
                        EXPECT_EQUAL(ways[w]->name, ownmap_scan(m, 0, 2 * MIB, 4 * MIB, NULL), 0);
                        EXPECT_TRUE(ways[w]->name, ownmap_any(m, 0, 2 * MIB));
                        EXPECT_TRUE(ways[w]->name, !ownmap_any(m, 2 * MIB, 4 * MIB));
                        EXPECT_TRUE(ways[w]->name, ownmap_any(m, 6 * MIB, 2 * PAGE));
                }
                ownmap_free(m);
        }
        ram_unmap(&ram);
}

struct half {
        struct ownmap *map;
        uint64_t offset;
        int rc;
};

static void *scan_half(void *arg)
{
        struct half *h = arg;

        for (uint64_t at = 0; at < 32 * MIB && h->rc == 0; at += 2 * MIB)
                h->rc = ownmap_scan(h->map, 0, h->offset + at, 2 * MIB, NULL);
        return NULL;
}

/* small pages only: blocks that are all own are not huge for it */
static void two_threads(void)
{
        struct ram ram = new_ram(64 * MIB, RAM_SMALL);

        memset(ram_at(&ram, 0, 64 * MIB), 1, 64 * MIB);
        for (size_t w = 0; w < ARRAY_SIZE(ways); w++) {
                struct ownmap *m = NULL;

                if (ownmap_new_by(ways[w], &ram, &m, NULL) < 0)
                        continue;

                struct half halves[] = { { .map = m }, { .map = m, .offset = 32 * MIB } };
                pthread_t other;

                CU_ASSERT_EQUAL_FATAL(pthread_create(&other, NULL, scan_half, &halves[1]), 0);
                scan_half(&halves[0]);
                pthread_join(other, NULL);
                EXPECT_EQUAL(ways[w]->name, halves[0].rc | halves[1].rc, 0);
                EXPECT_EQUAL(ways[w]->name, ownmap_count(m).own_pages, 64 * MIB / PAGE);
                EXPECT_EQUAL(ways[w]->name, ownmap_count(m).huge_blocks, 0);
                ownmap_free(m);
        }
        ram_unmap(&ram);
}

/* As ownmap_run(), page by page. */
static bool model_run(const bool *own, uint64_t from, uint64_t to, uint64_t gap,
                      uint64_t *ret_first, uint64_t *ret_end)
{
        uint64_t last = UINT64_MAX;

        for (uint64_t p = from; p < to; p++) {
                if (!own[p])
                        continue;
                if (last == UINT64_MAX)
                        *ret_first = p;
                else if (p - last - 1 > gap)
                        break;
                last = p;
        }
        *ret_end = last + 1;
        return last != UINT64_MAX;
}

#define MODEL_PAGES 2048u

static void compare_run(const struct ownmap *m, const bool *own)
{
        uint64_t from = (uint64_t)random() % (MODEL_PAGES + 1);
        uint64_t to = from + (uint64_t)random() % (MODEL_PAGES + 1 - from);
        uint64_t gap = (uint64_t)random() % 40;
        uint64_t first = 0, end = 0;
        struct ownmap_run run = { 0, 0 };
        bool want = model_run(own, from, to, gap, &first, &end);
        char row[64];

        snprintf(row, sizeof(row), "%llu to %llu, gap %llu", (unsigned long long)from,
                 (unsigned long long)to, (unsigned long long)gap);
        EXPECT_EQUAL(row, ownmap_run(m, from * PAGE, to * PAGE, gap, &run), want);
        EXPECT_EQUAL(row, ownmap_any(m, from * PAGE, (to - from) * PAGE), want);
        if (want) {
                EXPECT_EQUAL(row, run.gpa, first * PAGE);
                EXPECT_EQUAL(row, run.bytes, (end - first) * PAGE);
        }
}

/* Runs of random lengths, gaps up to 50 pages; then any range and any gap to join. */
static void runs_as_the_model(void)
{
        struct ram ram = new_ram(64 * MIB, RAM_SMALL);
        static bool own[MODEL_PAGES];
        struct ownmap *m;

        srandom(1);
        for (uint64_t p = 0; p < MODEL_PAGES; p += 1 + (uint64_t)random() % 50) {
                uint64_t end = MIN(p + (uint64_t)random() % 150, MODEL_PAGES);

                for (; p < end; p++) {
                        own[p] = true;
                        dirty(&ram, p * PAGE);
                }
        }
        m = map_by(&ownmap_by_pagemap, &ram);
        for (unsigned i = 0; i < 20000; i++)
                compare_run(m, own);
        ownmap_free(m);
        ram_unmap(&ram);
}

static struct ownmap *small_map(struct ram *ret_ram)
{
        struct ownmap *m = NULL;

        *ret_ram = new_ram(64 * MIB, RAM_SMALL);
        CU_ASSERT_EQUAL_FATAL(ownmap_new(ret_ram, &m, NULL), 0);
        return m;
}

static void ask_beyond(void)
{
        struct ram ram;
        struct ownmap *m = small_map(&ram);

        (void)ownmap_any(m, 64 * MIB - PAGE, 2 * PAGE);
}

static void scan_half_a_block(void)
{
        struct ram ram;
        struct ownmap *m = small_map(&ram);

        (void)ownmap_scan(m, 0, MIB, 2 * MIB, NULL);
}

static void scan_beyond(void)
{
        struct ram ram;
        struct ownmap *m = small_map(&ram);

        (void)ownmap_scan(m, 0, 62 * MIB, 4 * MIB, NULL);
}

static void wrong_use(void)
{
        CU_ASSERT(expect_abort(ask_beyond));
        CU_ASSERT(expect_abort(scan_half_a_block));
        CU_ASSERT(expect_abort(scan_beyond));
}

static void nothing_is_leaked(void)
{
        unsigned before = expect_open_fds();
        struct ram ram;
        struct ownmap *m = small_map(&ram);

        CU_ASSERT_EQUAL(expect_open_fds(), before + 1);
        ownmap_free(m);
        ownmap_free(NULL);
        CU_ASSERT_EQUAL(expect_open_fds(), before);
        ram_unmap(&ram);
}

static const CU_TestInfo cases[] = {
        { "anonymous memory: written pages, at every edge", anonymous_pages },
        { "zero pages are own", zero_pages },
        { "cache: clean, written, thrown away, absent; two slots", cache_pages },
        { "transparent huge pages are told until split", transparent_huge_pages },
        { "hugetlbfs is huge by both ways", hugetlb_pages },
        { "more runs than fit at once; a second look", every_other_page_and_anew },
        { "two threads, disjoint ranges", two_threads },
        { "runs and gaps as a page-by-page model", runs_as_the_model },
        { "ranges that are not RAM's are our bugs", wrong_use },
        { "free gives descriptor and memory back", nothing_is_leaked },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("ownmap", cases);
}
