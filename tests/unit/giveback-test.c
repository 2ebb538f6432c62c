/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: of whatever RAM is made, what is given back is the host's again and shows what the
 *       parent has there (INV-GIVEBACK); nothing around it changes, nothing that is not the
 *       guest's RAM is touched, and nothing at all while it is held (INV-STAYS).
 * Method: RAM of each kind, in the lanes with a thread that serves it; own pages by pagemap, and
 *         the process's own count of its anonymous memory. A table of ranges. A guest and a
 *         saver as threads: what the saver sees while it holds must not go away. */
#include "vmm/giveback.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "pageserver/uffd.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"
#include "vmm/ownmap.h"
#include "vmm/stripes.h"

#define PAGE OWNMAP_PAGE_BYTES
#define BYTES RAM_BYTES_MIN
#define PAGES (BYTES / PAGE)
#define FIRST 1024u                     /* page; what is given back begins there: 4 MiB */
#define GIVEN 1024u                     /* pages: 4 MiB, so huge ones go as a whole too */
#define AROUND 3u                       /* pages before and behind, which stay */

enum kind { ANONYMOUS, HUGE, CLONE, COPY, SHARED };

struct place {
        enum kind kind;
        struct ram ram;
        struct giveback *giveback;
        int memfd;
        struct stripes stripes;
        int stop_fd;
        pthread_t server;
        bool served;
};

/* ---- the parent: what RAM shows where the guest has nothing of its own ------------ */

static void parent_page(uint64_t page, uint64_t *ret)
{
        for (unsigned i = 0; i < PAGE / sizeof(*ret); i++)
                ret[i] = page << 16 | i | 1;
}

static void serve(struct place *p, const struct uffd_msg *m)
{
        uint64_t hva = ALIGN_DOWN(m->arg.pagefault.address, PAGE);
        uint64_t gpa = hva - (uintptr_t)p->ram.slots[0].hva;
        uint64_t page[PAGE / sizeof(uint64_t)];

        if (m->event != UFFD_EVENT_PAGEFAULT)
                return;
        parent_page(gpa / PAGE, page);
        if (p->kind == COPY) {
                (void)stripes_put(&p->stripes, gpa, page, PAGE);
        } else {
                (void)io_pwrite_full(p->memfd, page, PAGE, gpa);
                stripes_wake_page(&p->stripes, hva);
        }
}

static void *server_thread(void *ctx)
{
        struct place *p = ctx;
        struct pollfd fds[STRIPES_UFFDS_MAX + 1];
        size_t n = p->stripes.nuffds;

        for (size_t i = 0; i < n; i++)
                fds[i] = (struct pollfd){ .fd = p->stripes.uffds[i], .events = POLLIN };
        fds[n] = (struct pollfd){ .fd = p->stop_fd, .events = POLLIN };
        while (poll(fds, n + 1, -1) > 0 && !fds[n].revents) {
                for (size_t i = 0; i < n; i++) {
                        struct uffd_msg m;

                        while (fds[i].revents && uffd_read(fds[i].fd, &m, sizeof(m)) == sizeof(m))
                                serve(p, &m);
                }
        }
        return NULL;
}

static int start_server(struct place *p, struct err *e)
{
        int rc = stripes_register(&p->stripes, &p->ram,
                                  p->kind == COPY ? STRIPES_ANONYMOUS : STRIPES_CACHE, e);

        if (rc < 0)
                return rc;
        p->stop_fd = eventfd(0, EFD_CLOEXEC);
        CU_ASSERT_EQUAL_FATAL(pthread_create(&p->server, NULL, server_thread, p), 0);
        p->served = true;
        return 0;
}

/* A memfd of RAM's size; of a clone all of it is there. */
static void make_memfd(struct place *p)
{
        p->memfd = memfd_create("giveback", MFD_CLOEXEC);
        CU_ASSERT_FATAL(p->memfd >= 0 && ftruncate(p->memfd, BYTES) == 0);
        for (uint64_t i = 0; p->kind == CLONE && i < PAGES; i++) {
                uint64_t page[PAGE / sizeof(uint64_t)];

                parent_page(i, page);
                CU_ASSERT_EQUAL_FATAL(io_pwrite_full(p->memfd, page, PAGE, i * PAGE), 0);
        }
}

static int place_new(struct place *p, enum kind kind, struct err *e)
{
        bool lane = kind == COPY || kind == SHARED;
        int rc;

        *p = (struct place){ .kind = kind, .memfd = -1, .stop_fd = -1 };
        CU_ASSERT_EQUAL_FATAL(ram_init(&p->ram, BYTES, e), 0);
        CU_ASSERT_EQUAL_FATAL(giveback_new(&p->ram, &p->giveback, e), 0);
        if (kind == CLONE || kind == SHARED) {
                make_memfd(p);
                rc = ram_map_cache(&p->ram, p->memfd, e);
        } else {
                rc = ram_map_anonymous(&p->ram, true, kind == HUGE ? RAM_THP : RAM_SMALL, e);
        }
        if (rc == 0 && lane)
                rc = start_server(p, e);
        return rc < 0 ? rc : ram_unlock(&p->ram, e);
}

static void place_end(struct place *p)
{
        uint64_t one = 1;

        if (p->served) {
                CU_ASSERT_EQUAL(write(p->stop_fd, &one, sizeof(one)), sizeof(one));
                pthread_join(p->server, NULL);
        }
        stripes_fini(&p->stripes);
        ram_unmap(&p->ram);
        giveback_free(p->giveback);
        fd_close(&p->memfd);
        fd_close(&p->stop_fd);
}

/* ---- what RAM is -------------------------------------------------------------- */

static uint64_t *page_at(struct place *p, uint64_t page)
{
        return ram_at(&p->ram, page * PAGE, PAGE);
}

static uint64_t stamp(uint64_t page)
{
        return ~page;
}

static void write_pages(struct place *p, uint64_t first, uint64_t n)
{
        for (uint64_t i = first; i < first + n; i++) {
                for (unsigned w = 0; w < PAGE / sizeof(uint64_t); w++)
                        page_at(p, i)[w] = stamp(i);
        }
}

static bool is_written(struct place *p, uint64_t first, uint64_t n)
{
        for (uint64_t i = first; i < first + n; i++) {
                for (unsigned w = 0; w < PAGE / sizeof(uint64_t); w++) {
                        if (page_at(p, i)[w] != stamp(i))
                                return false;
                }
        }
        return true;
}

static bool is_parents(struct place *p, uint64_t first, uint64_t n)
{
        uint64_t want[PAGE / sizeof(uint64_t)] = { 0 };

        for (uint64_t i = first; i < first + n; i++) {
                if (p->kind != ANONYMOUS && p->kind != HUGE)
                        parent_page(i, want);
                if (memcmp(page_at(p, i), want, PAGE) != 0)
                        return false;
        }
        return true;
}

static uint64_t own_pages(struct place *p, uint64_t first, uint64_t n)
{
        struct ownmap *own;
        struct err e;
        uint64_t count = 0;

        CU_ASSERT_EQUAL_FATAL(ownmap_new(&p->ram, &own, &e), 0);
        CU_ASSERT_EQUAL_FATAL(ownmap_scan(own, 0, 0, BYTES, &e), 0);
        for (uint64_t i = first; i < first + n; i++)
                count += ownmap_page(own, i * PAGE);
        ownmap_free(own);
        return count;
}

/* of this process */
static uint64_t anonymous_bytes(void)
{
        FILE *f = fopen("/proc/self/status", "re");
        unsigned long long kib = 0;
        char line[256];

        CU_ASSERT_PTR_NOT_NULL_FATAL(f);
        while (fgets(line, sizeof(line), f) && sscanf(line, "RssAnon: %llu", &kib) != 1)
                ;
        fclose(f);
        return kib << 10;
}

/* ---- the cases ------------------------------------------------------------------ */

static void check_kind(const char *row, struct place *p)
{
        struct giveback_stats stats;

        write_pages(p, FIRST - AROUND, GIVEN + 2 * AROUND);
        EXPECT_EQUAL(row, own_pages(p, FIRST, GIVEN), GIVEN);

        uint64_t before = anonymous_bytes();

        EXPECT_EQUAL(row, giveback_pages(p->giveback, FIRST * PAGE, GIVEN * PAGE), GIVEN * PAGE);

        uint64_t after = anonymous_bytes();

        /* a little is the test's own */
        EXPECT_TRUE(row, before - after > GIVEN * PAGE / 8 * 7 && before > after);
        EXPECT_EQUAL(row, own_pages(p, FIRST, GIVEN), 0);
        EXPECT_TRUE(row, is_written(p, FIRST - AROUND, AROUND));
        EXPECT_TRUE(row, is_written(p, FIRST + GIVEN, AROUND));
        EXPECT_TRUE(row, is_parents(p, FIRST, GIVEN));
        write_pages(p, FIRST, GIVEN);
        EXPECT_TRUE(row, is_written(p, FIRST - AROUND, GIVEN + 2 * AROUND));
        /* now that the page server has brought it before */
        EXPECT_EQUAL(row, giveback_pages(p->giveback, (FIRST + 7) * PAGE, PAGE), PAGE);
        EXPECT_TRUE(row, is_written(p, FIRST, 7) && is_written(p, FIRST + 8, GIVEN - 8));
        EXPECT_TRUE(row, is_parents(p, FIRST + 7, 1));
        giveback_stats(p->giveback, &stats);
        EXPECT_EQUAL(row, stats.given, (GIVEN + 1) * PAGE);
        EXPECT_EQUAL(row, stats.deferred + stats.refused, 0);
}

static void shows_the_parent(void)
{
        static const char *const rows[] = {
                [ANONYMOUS] = "anonymous: booted or loaded whole",
                [HUGE] = "the same, of huge pages",
                [CLONE] = "a private mapping of a clone's memfd",
                [COPY] = "copy lane",
                [SHARED] = "shared lane",
        };

        for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
                struct place p;
                struct err e;
                int rc = place_new(&p, (enum kind)i, &e);

                if (rc == -EPERM || rc == -ENOTSUP || rc == -ENOSYS)
                        printf("left out: %s: %s\n", rows[i], e.text);
                else if (EXPECT_EQUAL(rows[i], rc, 0), rc == 0)
                        check_kind(rows[i], &p);
                place_end(&p);
        }
}

/* Nothing is to be had from hugetlbfs, and nothing is lost. */
static void leaves_hugetlbfs_alone(void)
{
        struct giveback_stats stats;
        struct place p;
        struct err e;

        CU_ASSERT_EQUAL_FATAL(place_new(&p, ANONYMOUS, &e), 0);
        p.ram.hugetlb = true;
        write_pages(&p, FIRST, 512);
        CU_ASSERT_EQUAL(giveback_pages(p.giveback, FIRST * PAGE, 512 * PAGE), 0);
        CU_ASSERT(is_written(&p, FIRST, 512));
        giveback_stats(p.giveback, &stats);
        CU_ASSERT_EQUAL(stats.refused, 512 * PAGE);
        p.ram.hugetlb = false;
        place_end(&p);
}

#define MIB (1ull << 20)
#define HIGH_BYTES (64 * MIB)
#define ALL_BYTES (RAM_LOW_END_GPA + HIGH_BYTES)
#define ALL_RAM (0x9f000 + RAM_LOW_END_GPA - MIB + HIGH_BYTES)

static void takes_only_ram(void)
{
        static const struct {
                const char *row;
                uint64_t gpa, bytes, given, refused;
        } rows[] = {
                { "a page", MIB, PAGE, PAGE, 0 },
                { "nothing", MIB, 0, 0, 0 },
                { "half of two pages", MIB + 1, 2 * PAGE, PAGE, PAGE },
                { "less than a page", MIB + 1, PAGE - 2, 0, PAGE - 2 },
                { "the first page", 0, PAGE, PAGE, 0 },
                { "the page of the extended BIOS data", 0x9f000, PAGE, 0, PAGE },
                { "around what is reserved below 1 MiB", 0x9e000, 0x63000, 2 * PAGE, 0x61000 },
                { "the last of the BIOS and the first behind", 0xff000, 2 * PAGE, PAGE, PAGE },
                { "across the end of low RAM", RAM_LOW_END_GPA - PAGE, 2 * PAGE, PAGE, PAGE },
                { "in the hole", 0xd0000000, MIB, 0, MIB },
                { "across 4 GiB", RAM_HIGH_GPA - PAGE, 2 * PAGE, PAGE, PAGE },
                { "the last page and one more", RAM_HIGH_GPA + HIGH_BYTES - PAGE, 2 * PAGE, PAGE,
                  PAGE },
                { "behind RAM", 1ull << 43, PAGE, 0, PAGE },
                { "the last addresses", UINT64_MAX - PAGE + 1, 2 * PAGE, 0, 2 * PAGE },
                { "more than there are", MIB, UINT64_MAX, ALL_RAM - 0x9f000,
                  UINT64_MAX - (ALL_RAM - 0x9f000) },
                { "everything", 0, UINT64_MAX, ALL_RAM, UINT64_MAX - ALL_RAM },
        };
        struct ram ram;
        struct err e;

        CU_ASSERT_EQUAL_FATAL(ram_init(&ram, ALL_BYTES, &e), 0);
        CU_ASSERT_EQUAL_FATAL(ram_map_anonymous(&ram, false, RAM_SMALL, &e), 0);
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct giveback_stats stats;
                struct giveback *g;

                CU_ASSERT_EQUAL_FATAL(giveback_new(&ram, &g, &e), 0);
                EXPECT_EQUAL(rows[i].row, giveback_pages(g, rows[i].gpa, rows[i].bytes),
                             rows[i].given);
                giveback_stats(g, &stats);
                EXPECT_EQUAL(rows[i].row, stats.given, rows[i].given);
                EXPECT_EQUAL(rows[i].row, stats.refused, rows[i].refused);
                giveback_free(g);
        }
        ram_unmap(&ram);
}

static void keeps_what_is_held(void)
{
        struct giveback_stats stats;
        struct place p;
        struct err e;

        CU_ASSERT_EQUAL_FATAL(place_new(&p, ANONYMOUS, &e), 0);
        write_pages(&p, FIRST, 8);
        giveback_hold(p.giveback);
        giveback_hold(p.giveback);
        CU_ASSERT_EQUAL(giveback_pages(p.giveback, FIRST * PAGE, 8 * PAGE), 0);
        giveback_release(p.giveback);
        CU_ASSERT_EQUAL(giveback_pages(p.giveback, FIRST * PAGE, 8 * PAGE), 0);
        CU_ASSERT(is_written(&p, FIRST, 8));
        giveback_release(p.giveback);
        CU_ASSERT_EQUAL(giveback_pages(p.giveback, FIRST * PAGE, 8 * PAGE), 8 * PAGE);
        giveback_stats(p.giveback, &stats);
        CU_ASSERT_EQUAL(stats.deferred, 16 * PAGE);
        giveback_hold(NULL);
        giveback_release(NULL);
        place_end(&p);
}

/* ---- a saver meanwhile ------------------------------------------------------------ */

#define ROUNDS 2000

struct race {
        struct place *place;
        _Atomic bool quit;
        uint64_t lost;
};

static _Atomic uint64_t *word_at(struct place *p, uint64_t page)
{
        return (_Atomic uint64_t *)page_at(p, page);
}

static void *guest_thread(void *ctx)
{
        struct race *r = ctx;

        for (uint64_t n = 0; !r->quit; n++) {
                uint64_t page = FIRST + n % GIVEN;

                atomic_store(word_at(r->place, page), n + 1);
                giveback_pages(r->place->giveback, page * PAGE, PAGE);
        }
        return NULL;
}

/* A guest's write may come in between, a zero may not. */
static bool any_goes_away(struct place *p)
{
        bool had[GIVEN];
        bool lost = false;

        for (unsigned i = 0; i < GIVEN; i++)
                had[i] = atomic_load(word_at(p, FIRST + i));
        for (unsigned i = 0; i < GIVEN; i++)
                lost |= had[i] && !atomic_load(word_at(p, FIRST + i));
        return lost;
}

static void *saver_thread(void *ctx)
{
        struct race *r = ctx;

        for (unsigned i = 0; i < ROUNDS; i++) {
                giveback_hold(r->place->giveback);
                r->lost += any_goes_away(r->place);
                giveback_release(r->place->giveback);
        }
        return NULL;
}

static void keeps_it_meanwhile(void)
{
        struct place p;
        struct err e;

        CU_ASSERT_EQUAL_FATAL(place_new(&p, ANONYMOUS, &e), 0);

        struct race race = { .place = &p };
        pthread_t guest, saver;

        CU_ASSERT_EQUAL_FATAL(pthread_create(&guest, NULL, guest_thread, &race), 0);
        CU_ASSERT_EQUAL_FATAL(pthread_create(&saver, NULL, saver_thread, &race), 0);
        pthread_join(saver, NULL);
        race.quit = true;
        pthread_join(guest, NULL);
        CU_ASSERT_EQUAL(race.lost, 0);
        place_end(&p);
}

static const CU_TestInfo cases[] = {
        { "shows the parent, of whatever RAM is made", shows_the_parent },
        { "leaves hugetlbfs alone", leaves_hugetlbfs_alone },
        { "takes only RAM", takes_only_ram },
        { "keeps what is held", keeps_what_is_held },
        { "keeps it while another thread saves", keeps_it_meanwhile },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("giveback", cases);
}
