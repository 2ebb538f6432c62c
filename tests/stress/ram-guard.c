/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: whatever threads write into RAM meanwhile, the source of a guard gives each page as
 *       it was at the moment (INV-MOMENT); nobody waits for ever, however little memory there
 *       is to copy aside; after the end, also of a sweep that was given up, RAM is as the
 *       threads wrote it and can be guarded again.
 * Method: threads that fill pages with stamps and stand still on demand, sweepers that go
 *         about as a qs_writer does, and a model with the stamp of each page at the moment.
 *         Of small, huge and hugetlbfs pages; some threads give pages back, too
 *         (INV-STAYS). Run it under ThreadSanitizer too. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/lock.h"
#include "vmm/giveback.h"
#include "vmm/ramguard.h"

#define PAGE 4096u
#define WORDS (PAGE / 8)
#define MIB (1u << 20)
#define RAM_BYTES (96ull * MIB)
#define PAGES (RAM_BYTES / PAGE)
#define CHUNKS (RAM_BYTES / MIB)
#define WRITERS 2u
#define SWEEPERS 2u
#define SECONDS_MAX 300                 /* then something waits for ever */
/* of each run; sanitizers are slow where megabytes are looked at byte by byte */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ROUNDS_MAX 2u
#else
#define ROUNDS_MAX 5u
#endif

#define TEST(cond) must((cond), #cond, __LINE__)

static void must(bool ok, const char *what, int line)
{
        if (ok)
                return;
        fprintf(stderr, "ram-guard.c:%d: failed: %s\n", line, what);
        exit(1);
}

enum manner { RANDOM, ASCENDING, GIVING };      /* at random, and some are given back */

static const struct run {
        const char *name;
        enum ram_pages pages;
        enum manner manner;
        uint64_t staging;
        unsigned touched;               /* percent of RAM, before the first round */
        unsigned give_up;               /* after so many chunks; 0 = never */
        unsigned rounds;
} runs[] = {
        { "small pages", RAM_SMALL, RANDOM, 0, 100, 0, 5 },
        { "small pages, in order", RAM_SMALL, ASCENDING, 0, 100, 0, 5 },
        { "small pages, no room", RAM_SMALL, RANDOM, 2 * MIB, 100, 0, 3 },
        { "a part of RAM", RAM_SMALL, RANDOM, 4 * MIB, 30, 0, 5 },
        { "huge pages", RAM_THP, RANDOM, 0, 100, 0, 5 },
        { "huge pages, in order, no room", RAM_THP, ASCENDING, 2 * MIB, 100, 0, 5 },
        { "a part of huge pages", RAM_THP, RANDOM, 0, 40, 0, 5 },
        { "given up", RAM_SMALL, RANDOM, 2 * MIB, 100, 7, 5 },
        { "given up with huge pages", RAM_THP, RANDOM, 2 * MIB, 100, 7, 5 },
        { "hugetlbfs", RAM_HUGETLB, RANDOM, 4 * MIB, 100, 0, 3 },
        { "memory given back", RAM_SMALL, GIVING, 2 * MIB, 100, 0, 5 },
        { "parts of huge pages given back", RAM_THP, GIVING, 0, 100, 0, 5 },
};

struct world {
        const struct run *run;
        struct ram ram;
        struct giveback *giveback;
        /* of a page, its writer's: what fills it; 0 = never written */
        uint64_t stamp[PAGES];
        uint64_t moment[PAGES];
        _Atomic uint64_t written;       /* pages, in all */
        _Atomic bool quit;
        /* the sweep of one round */
        struct qs_ram_source source;
        _Atomic unsigned next;
        _Atomic unsigned taken;
        atomic_flag done[CHUNKS];

        struct lock lock;
        struct cond changed;
        bool pause GUARDED_BY(lock);
        unsigned parked GUARDED_BY(lock);
};

static uint64_t random_of(uint64_t *state)
{
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        return *state;
}

/* A guest's accesses are the hardware's: ThreadSanitizer knows nothing of what userfaultfd
 * makes of them. */
__attribute__((no_sanitize("thread"), noinline))
static void fill(volatile uint64_t *page, uint64_t stamp)
{
        for (unsigned i = 0; i < WORDS; i++)
                page[i] = stamp ^ i;
}

static void write_page(struct world *w, uint64_t i)
{
        w->stamp[i] += 1 + (i << 32);
        fill(ram_at(&w->ram, i * PAGE, PAGE), w->stamp[i]);
        w->written++;
}

static void give_back(struct world *w, uint64_t i)
{
        if (giveback_pages(w->giveback, i * PAGE, PAGE) == PAGE)
                w->stamp[i] = 0;
}

static void stand_still_locked(struct world *w) REQUIRES(w->lock)
{
        w->parked++;
        cond_broadcast(&w->changed);
        while (w->pause)
                cond_wait(&w->changed, &w->lock);
        w->parked--;
}

static void stand_still(struct world *w)
{
        lock_acquire(&w->lock);
        if (w->pause)
                stand_still_locked(w);
        lock_release(&w->lock);
}

struct writer {
        struct world *world;
        unsigned index;
};

/* Pages whose number modulo WRITERS is the writer's. */
static void *writer_thread(void *ctx)
{
        struct writer *me = ctx;
        struct world *w = me->world;
        uint64_t random = 88172645463325252ull + me->index;

        for (uint64_t n = 0; !w->quit; n++) {
                uint64_t i = w->run->manner == ASCENDING ? n : random_of(&random);

                i = i % (PAGES / WRITERS) * WRITERS + me->index;
                if (w->run->manner == GIVING && n % 4 == 1)
                        give_back(w, i);
                else
                        write_page(w, i);
                if (n % 8 == 0)
                        stand_still(w);
        }
        return NULL;
}

static void halt(struct world *w)
{
        lock_acquire(&w->lock);
        w->pause = true;
        while (w->parked < WRITERS)
                cond_wait(&w->changed, &w->lock);
        lock_release(&w->lock);
}

static void go(struct world *w)
{
        lock_acquire(&w->lock);
        w->pause = false;
        cond_broadcast(&w->changed);
        lock_release(&w->lock);
}

static bool is_page(const uint8_t *bytes, uint64_t stamp)
{
        for (unsigned i = 0; i < WORDS; i++) {
                uint64_t word;

                memcpy(&word, bytes + i * 8, 8);
                if (word != (stamp ? stamp ^ i : 0))
                        return false;
        }
        return true;
}

static void sweep_chunk(struct world *w, uint64_t chunk, uint8_t *buf)
{
        struct err e;
        struct qs_span said = { 0 };
        const uint8_t *got;

        memset(buf, 0xa5, MIB);
        got = w->source.span(w->source.ctx, chunk * MIB, MIB, buf, &said, &e);
        TEST(got || said.kind != QS_SPAN_DATA);
        for (uint64_t i = 0; i < MIB / PAGE; i++) {
                uint64_t stamp = w->moment[chunk * (MIB / PAGE) + i];
                bool zero = said.kind != QS_SPAN_DATA || (said.parent[i / 64] >> i % 64 & 1);

                if (zero ? stamp == 0 : is_page(got + i * PAGE, stamp))
                        continue;
                fprintf(stderr, "%s: page %llu has %#llx and not %#llx\n", w->run->name,
                        (unsigned long long)(chunk * (MIB / PAGE) + i),
                        zero ? 0 : *(const unsigned long long *)(got + i * PAGE),
                        (unsigned long long)stamp);
                TEST(!"a page as it was at the moment");
        }
}

/* What waits first, then whatever has not been taken, in order. */
static bool choose(struct world *w, uint64_t *ret)
{
        uint64_t gpa;

        if (w->source.next(w->source.ctx, &gpa) && gpa < RAM_BYTES &&
            !atomic_flag_test_and_set(&w->done[gpa / MIB])) {
                *ret = gpa / MIB;
                return true;
        }
        while ((*ret = atomic_fetch_add(&w->next, 1)) < CHUNKS) {
                if (!atomic_flag_test_and_set(&w->done[*ret]))
                        return true;
        }
        return false;
}

static void *sweeper_thread(void *ctx)
{
        struct world *w = ctx;
        AUTO_FREE uint8_t *buf = malloc(MIB);
        uint64_t chunk;

        TEST(buf);
        while (!(w->run->give_up && w->taken >= w->run->give_up) && choose(w, &chunk)) {
                sweep_chunk(w, chunk, buf);
                w->taken++;
        }
        return NULL;
}

static void sweep(struct world *w)
{
        pthread_t thread[SWEEPERS];

        w->next = w->taken = 0;
        for (unsigned i = 0; i < CHUNKS; i++)
                atomic_flag_clear(&w->done[i]);
        for (unsigned i = 0; i < SWEEPERS; i++)
                TEST(pthread_create(&thread[i], NULL, sweeper_thread, w) == 0);
        for (unsigned i = 0; i < SWEEPERS; i++)
                pthread_join(thread[i], NULL);
        TEST(w->run->give_up || w->taken == CHUNKS);
}

static void wait_written(struct world *w, uint64_t pages)
{
        uint64_t from = w->written;

        while (w->written - from < pages)
                usleep(1000);
}

/* false: it cannot be done here */
static bool one_round(struct world *w, struct ramguard_stats *ret)
{
        struct ramguard_options o = { .ram = &w->ram, .cpus = WRITERS,
                                      .staging_bytes = w->run->staging };
        struct ramguard *g;
        struct err e;
        int rc;

        giveback_hold(w->giveback);
        rc = ramguard_new(&o, &g, &e);
        if (rc == -ENOTSUP || rc == -EPERM || rc == -ENOSYS) {
                printf("skipped: %s\n", e.text);
                return false;
        }
        TEST(rc == 0);
        halt(w);
        memcpy(w->moment, w->stamp, sizeof(w->moment));
        TEST(ramguard_freeze(g, &e) == 0);
        go(w);
        w->source = ramguard_source(g);
        sweep(w);
        ramguard_stats(g, ret);
        ramguard_free(g);
        giveback_release(w->giveback);

        wait_written(w, 1000);
        return true;
}

static bool start(struct world *w, struct err *e)
{
        TEST(ram_init(&w->ram, RAM_BYTES, e) == 0);
        TEST(giveback_new(&w->ram, &w->giveback, e) == 0);
        if (ram_map_anonymous(&w->ram, false, w->run->pages, e) < 0)
                return false;
        for (uint64_t i = 0; i < PAGES * w->run->touched / 100; i++)
                write_page(w, i);
        return true;
}

static int play(struct world *w)
{
        struct writer writers[WRITERS];
        pthread_t thread[WRITERS];
        struct ramguard_stats s = { 0 };
        bool able = true;
        struct err e;

        if (!start(w, &e)) {
                printf("%s: skipped: %s\n", w->run->name, e.text);
                return 0;
        }
        for (unsigned i = 0; i < WRITERS; i++) {
                writers[i] = (struct writer){ w, i };
                TEST(pthread_create(&thread[i], NULL, writer_thread, &writers[i]) == 0);
        }
        for (unsigned i = 0; able && i < MIN(w->run->rounds, ROUNDS_MAX); i++)
                able = one_round(w, &s);
        w->quit = true;
        for (unsigned i = 0; i < WRITERS; i++)
                pthread_join(thread[i], NULL);
        for (uint64_t i = 0; able && i < PAGES; i++)
                TEST(is_page(ram_at(&w->ram, i * PAGE, PAGE), w->stamp[i]));
        printf("%s: last round %llu MiB own, %llu faults, %llu MiB aside, %llu waited\n",
               w->run->name, (unsigned long long)s.own_bytes / MIB,
               (unsigned long long)s.faults, (unsigned long long)s.aside_bytes / MIB,
               (unsigned long long)s.waited);
        ram_unmap(&w->ram);
        return able ? 0 : 77;
}

/* Whatever cannot be had when it is made, a guard says so and nothing is left. */
static void few_descriptors(void)
{
        struct ram ram;
        struct ramguard_options o = { .ram = &ram, .cpus = WRITERS };
        struct rlimit before, few;
        struct err e;
        int rc = -1;

        TEST(ram_init(&ram, RAM_BYTES, &e) == 0);
        TEST(ram_map_anonymous(&ram, false, RAM_SMALL, &e) == 0);
        TEST(getrlimit(RLIMIT_NOFILE, &before) == 0);
        few = before;
        for (few.rlim_cur = 3; rc < 0 && few.rlim_cur < 32; few.rlim_cur++) {
                struct ramguard *g;

                TEST(setrlimit(RLIMIT_NOFILE, &few) == 0);
                rc = ramguard_new(&o, &g, &e);
                TEST(setrlimit(RLIMIT_NOFILE, &before) == 0);
                if (rc == 0)
                        ramguard_free(g);
                else if (rc != -EMFILE)
                        break;          /* it cannot be done here at all */
        }
        TEST(few.rlim_cur > 4);
        ram_unmap(&ram);
}

int main(void)
{
        int rc = 0;

        alarm(SECONDS_MAX);
        few_descriptors();
        for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(runs); i++) {
                AUTO_FREE struct world *w = calloc(1, sizeof(*w));

                TEST(w);
                w->run = &runs[i];
                lock_init(&w->lock);
                cond_init(&w->changed);
                rc = play(w);
                giveback_free(w->giveback);
        }
        return rc;
}
