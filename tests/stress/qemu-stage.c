/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: whatever the order in which pages come, and however often, what the threads of a
 *       writer have taken at the end is the last content of each page (INV-LATEST); nobody
 *       waits for ever, however little memory there is (INV-FORWARD); a page that never
 *       came is known; once one side has failed the other ends.
 * Method: one reader, threads that take pieces in order as a qs_writer does and write them
 *         into a flat image, and a model that holds each page's last stamp; then the image
 *         byte by byte. Run it under ThreadSanitizer. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "pageserver/adapters/qemu/stage.h"
#include "tests/unit/store-ram.h"

#define PAGE 4096u
#define MIB (1u << 20)
#define THREADS 3u
#define SECONDS_MAX 300                 /* then something waits for ever */
/* histories of each run; sanitizers are slow where megabytes are looked at byte by byte */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SEEDS 1u
#else
#define SEEDS 2u
#endif

#define TEST(cond) must((cond), #cond, __LINE__)

static void must(bool ok, const char *what, int line)
{
        if (ok)
                return;
        fprintf(stderr, "qemu-stage.c:%d: failed: %s\n", line, what);
        exit(1);
}

enum order { ASCENDING, BLOCKS_BACK, SHUFFLED };

/* Two RAM blocks with a hole and a piece that both have a part of, and a small one. */
static const struct qemu_extent extents[3] = {
        { 0, 0, 40 * MIB + 5 * PAGE },
        { 0, 40 * MIB + 9 * PAGE, 23 * MIB },
        { 0, 66 * MIB, PAGE },
};
#define DISK (68ull * MIB)
#define PAGES (DISK / PAGE)

static const struct run {
        const char *name;
        enum order order;
        unsigned zero, again;           /* percent of pages */
        unsigned passes;                /* over all of it, beyond the first */
        unsigned leave_out;             /* pages */
        unsigned fail_at;               /* piece that the writer fails at; 0 = none */
        bool cut;                       /* the reader fails in the middle */
} runs[] = {
        { "in order", ASCENDING, 60, 0, 0, 0, 0, false },
        { "in order, often again", ASCENDING, 10, 30, 0, 0, 0, false },
        { "all twice more", ASCENDING, 0, 5, 2, 0, 0, false },
        { "the last block first", BLOCKS_BACK, 0, 10, 0, 0, 0, false },
        { "shuffled", SHUFFLED, 5, 20, 1, 0, 0, false },
        { "all zero", ASCENDING, 100, 10, 0, 0, 0, false },
        { "a page is left out", SHUFFLED, 20, 0, 1, 1, 0, false },
        { "the writer fails", ASCENDING, 0, 0, 0, 0, 20, false },
        { "the writer fails at once", BLOCKS_BACK, 0, 0, 0, 0, 1, false },
        { "the stream is cut", SHUFFLED, 0, 0, 0, 0, 0, true },
};

struct world {
        const struct run *run;
        struct qemu_blocks blocks;
        struct stage *stage;
        /* reader only */
        uint64_t random;
        uint64_t stamp[PAGES];          /* 0 = zeros */
        uint32_t order[PAGES];          /* pages that exist */
        size_t n;
        /* crew */
        uint8_t *image;
        const struct qs_ram_range *range;
        size_t n_ranges;
        atomic_uint next;
        atomic_uint failed;
        unsigned rounds;
};

/* ---- the reader ---------------------------------------------------------- */

static void fill_page(uint8_t *page, uint64_t stamp)
{
        for (unsigned i = 0; i < PAGE / 8; i++) {
                uint64_t word = stamp * (i + 1);

                memcpy(page + i * 8, &word, 8);
        }
}

static int send_page(struct world *w, uint32_t page)
{
        uint8_t bytes[PAGE];

        if (store_random(&w->random) % 100 < w->run->zero) {
                w->stamp[page] = 0;
                return stage_zeros(w->stage, (uint64_t)page * PAGE, PAGE);
        }
        w->stamp[page] = store_random(&w->random) | 1;
        fill_page(bytes, w->stamp[page]);
        return stage_page(w->stage, (uint64_t)page * PAGE, bytes);
}

static void list_pages(struct world *w)
{
        for (unsigned i = 0; i < 3; i++) {
                unsigned k = w->run->order == BLOCKS_BACK ? 2 - i : i;

                for (uint64_t at = 0; at < extents[k].bytes; at += PAGE)
                        w->order[w->n++] = (uint32_t)((extents[k].gpa + at) / PAGE);
        }
        for (size_t i = w->n; w->run->order == SHUFFLED && i > 1; i--) {
                size_t pick = store_random(&w->random) % i;
                uint32_t keep = w->order[pick];

                w->order[pick] = w->order[i - 1];
                w->order[i - 1] = keep;
        }
}

/* 0, or what the stage said */
static int send_all(struct world *w)
{
        int rc = 0;

        for (unsigned pass = 0; rc == 0 && pass <= w->run->passes; pass++) {
                for (size_t i = w->run->leave_out; rc == 0 && i < w->n; i++) {
                        rc = send_page(w, w->order[i]);
                        if (w->run->cut && i == w->n / 2)
                                return -EPIPE;
                        if (rc == 0 && store_random(&w->random) % 100 < w->run->again)
                                rc = send_page(w, w->order[w->run->leave_out +
                                          store_random(&w->random) % (i + 1 - w->run->leave_out)]);
                }
        }
        return rc;
}

/* ---- the writer ---------------------------------------------------------- */

/* the i-th 2 MiB of the disk, that is two pieces; as a qs_writer asks for it */
static bool take_chunk(struct world *w, unsigned i)
{
        uint64_t lo = (uint64_t)i * 2 * MIB, hi = lo + 2 * MIB;
        AUTO_FREE uint8_t *buf = malloc(2 * MIB);

        TEST(buf);
        for (size_t k = 0; k < w->n_ranges; k++) {
                uint64_t from = MAX(lo, w->range[k].gpa);
                uint64_t to = MIN(hi, w->range[k].gpa + w->range[k].bytes);
                struct qs_span said = { 0 };

                if (from >= to)
                        continue;
                memset(buf, 0x5a, to - from);
                if (!stage_span(w->stage, from, to - from, buf, &said, NULL))
                        return false;
                if (said.kind == QS_SPAN_ZERO)
                        memset(w->image + from, 0, to - from);
                else
                        memcpy(w->image + from, buf, to - from);
        }
        return true;
}

static void *crew(void *ctx)
{
        struct world *w = ctx;
        unsigned i;

        while (!w->failed && (i = w->next++) < DISK / (2 * MIB)) {
                if ((w->run->fail_at && i >= w->run->fail_at) || !take_chunk(w, i))
                        w->failed++;
        }
        return NULL;
}

static bool pass(struct world *w)
{
        pthread_t thread[THREADS];

        w->next = 0;
        for (unsigned i = 0; i < THREADS; i++)
                TEST(pthread_create(&thread[i], NULL, crew, w) == 0);
        for (unsigned i = 0; i < THREADS; i++)
                pthread_join(thread[i], NULL);
        return !w->failed;
}

/* exactly its ranges, cut where chunks are */
static bool one_round(struct world *w, struct qs_ram_range *late, size_t n)
{
        const struct qs_ram_range *all = w->range;
        size_t n_all = w->n_ranges;
        uint64_t end = 0;

        TEST(n > 0);
        for (size_t i = 0; i < n; i++) {
                TEST(late[i].bytes > 0 && late[i].gpa >= end);
                end = late[i].gpa + late[i].bytes;
        }
        w->range = late;
        w->n_ranges = n;

        bool ok = pass(w);

        w->range = all;
        w->n_ranges = n_all;
        w->rounds++;
        return ok;
}

static void *writer(void *ctx)
{
        struct world *w = ctx;
        bool ok = pass(w);
        int more = 1;

        while (ok && more == 1) {
                struct qs_ram_range *late = NULL;
                size_t n = 0;

                more = stage_round(w->stage, &late, &n, NULL);
                if (more == 1)
                        ok = one_round(w, late, n);
                free(late);
        }
        w->failed += !ok || more < 0;
        stage_stop(w->stage);
        return NULL;
}

/* ---- judging ------------------------------------------------------------- */

static void setup(struct world *w)
{
        struct stage_options o = {
                .blocks = &w->blocks, .page_bytes = PAGE, .memory_bytes = STAGE_MEMORY_MIN,
        };

        w->blocks.disk_bytes = DISK;
        for (unsigned i = 0; i < 3; i++) {
                char name[2] = { (char)('a' + i), 0 };

                TEST(qemu_blocks_add(&w->blocks, name, 1, extents[i].bytes, NULL) == 0);
                w->blocks.at[i].n_extents = 1;
                w->blocks.at[i].extents[0] = extents[i];
        }
        TEST(qemu_blocks_seal(&w->blocks, PAGE, NULL) == 0);
        TEST(stage_new(&o, &w->stage, NULL) == 0);
        w->range = stage_ranges(w->stage, &w->n_ranges);
        w->image = calloc(1, DISK);
        TEST(w->image);
        list_pages(w);
}

static void compare(const struct world *w)
{
        for (size_t i = 0; i < w->n; i++) {
                uint8_t want[PAGE];

                fill_page(want, w->stamp[w->order[i]]);
                TEST(!memcmp(want, w->image + (size_t)w->order[i] * PAGE, PAGE));
        }
}

static void play(const struct run *run, uint64_t seed)
{
        struct world *w = calloc(1, sizeof(*w));
        struct err e = { 0 };
        pthread_t thread;

        TEST(w);
        w->run = run;
        w->random = seed;
        setup(w);
        TEST(pthread_create(&thread, NULL, writer, w) == 0);

        int rc = send_all(w);

        if (rc == 0)
                rc = stage_end(w->stage, &e);
        if (rc < 0)
                stage_stop(w->stage);
        pthread_join(thread, NULL);
        if (run->leave_out) {
                TEST(rc == -EBADMSG && strstr(e.text, "left out 1 pages"));
        } else if (run->fail_at || run->cut) {
                TEST(w->failed && rc != 0);
        } else {
                TEST(rc == 0 && !w->failed);
                compare(w);
        }
        printf("%-26s %zu pages, %u rounds\n", run->name, w->n, w->rounds);
        stage_free(w->stage);
        qemu_blocks_fini(&w->blocks);
        free(w->image);
        free(w);
}

int main(void)
{
        alarm(SECONDS_MAX);
        setbuf(stdout, NULL);
        for (size_t i = 0; i < ARRAY_SIZE(runs); i++)
                for (uint64_t seed = 1; seed <= SEEDS; seed++)
                        play(&runs[i], seed);
        return 0;
}
