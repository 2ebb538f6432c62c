/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: whatever was added to a pool, replaced in it and deleted from it, each of
 *       its tags reads back, sections too, and nothing in the file is wrong.
 * Method: random histories against a model (store-tags.h), whole after each step;
 *       every cluster size, with and without zstd, 1 to 4 threads, RAM with a hole,
 *       of zeros, smaller than a cluster; then single histories that found bugs.
 *       STORE_SEED=n adds n to the seeds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "qcowstore/layout.h"
#include "tests/unit/expect.h"
#include "tests/unit/store-ram.h"
#include "tests/unit/store-tags.h"
#include "tests/unit/suite.h"

#define PAGE ((uint64_t)LAYOUT_PAGE_BYTES)
#define NAMES 6

struct history {
        const char *name;
        unsigned bits;
        uint64_t pages;
        uint64_t hole;                  /* pages; in the middle */
        uint32_t refs_max;
        unsigned steps;
};

static const struct history histories[] = {
        { "4K, small",                12,    40,   0, 0, 60 },
        { "4K, several sum blocks",   12,  2600,   0, 0, 40 },
        { "4K, a hole",               12,   700, 300, 0, 40 },
        { "4K, few references",       12,   300,   0, 5, 40 },
        { "8K, an odd end",           13,   301,   0, 0, 40 },
        { "16K",                      14,   900,   0, 0, 30 },
        { "64K, smaller than that",   16,     3,   0, 0, 40 },
        { "64K",                      16,  1100, 200, 3, 20 },
        { "2M, smaller than that",    21,   100,   0, 0, 12 },
        { "2M",                       21,  1700,   0, 0,  8 },
};

static uint64_t seed_of(size_t i)
{
        const char *more = getenv("STORE_SEED");

        return i + 1 + (more ? strtoull(more, NULL, 10) * 1000 : 0);
}

static const char *any_tag(struct tags *t)
{
        return t->tag[store_random(&t->random) % t->n].name;
}

/* like one that is there, changed a little or much; or new; or zeros */
static uint8_t *next_ram(struct tags *t)
{
        unsigned what = (unsigned)(store_random(&t->random) % 8);
        uint64_t pages = t->options.disk_bytes / PAGE;
        uint8_t *ram = tags_ram(t, t->n && what > 1 ? any_tag(t) : NULL);

        if (what == 1)
                tags_scribble(t, ram, (unsigned)(store_random(&t->random) % pages));
        else if (what > 1)
                tags_scribble(t, ram, (unsigned)(store_random(&t->random) %
                                                 (what > 5 ? pages : 9)));
        return ram;
}

static int step(struct tags *t, struct err *e)
{
        unsigned what = (unsigned)(store_random(&t->random) % 8);
        char name[2] = { (char)('a' + store_random(&t->random) % NAMES), 0 };

        if (t->n > 1 && what < 3)
                return tags_delete(t, any_tag(t), e);
        t->options.threads = 1 + (unsigned)(store_random(&t->random) % 4);
        t->options.compress = store_random(&t->random) % 2 ? QS_COMPRESS_ZSTD : QS_COMPRESS_NONE;
        t->options.force = tags_find(t, name) != NULL;
        return tags_save(t, name, next_ram(t), e);
}

static unsigned run_one(const struct history *h, uint64_t seed)
{
        struct tags t;
        struct err e = { 0 };
        unsigned wrong = 0;

        tags_init(&t, h->bits, h->pages * PAGE, seed);
        t.refs_max = h->refs_max;
        if (h->hole) {
                uint64_t first = (h->pages - h->hole) / 2;

                t.range[0] = (struct qs_ram_range){ 0, first * PAGE };
                t.range[1] = (struct qs_ram_range){ (first + h->hole) * PAGE,
                                                    (h->pages - h->hole - first) * PAGE };
                t.ranges = 2;
        }
        for (unsigned i = 0; i < h->steps && wrong == 0; i++) {
                if (step(&t, &e) < 0) {
                        fprintf(stderr, "%s\n", e.text);
                        wrong++;
                }
                wrong += tags_wrong(&t, i % 4 == 3);
                if (wrong)
                        fprintf(stderr, "seed %llu, step %u\n", (unsigned long long)seed, i);
        }
        if (!tags_fini(&t))
                wrong++;
        return wrong;
}

static void random_histories(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(histories); i++)
                EXPECT_EQUAL(histories[i].name, run_one(&histories[i], seed_of(i)), 0);
}

/* noise in the first pages */
static uint8_t *noise(struct tags *t, uint64_t pages)
{
        uint8_t *ram = tags_ram(t, NULL);

        for (uint64_t i = 0; i < pages; i++)
                store_ram_page(ram + i * PAGE, PAGE, 2, &t->random);
        return ram;
}

static void save(struct tags *t, const char *name, uint8_t *ram)
{
        struct err e = { 0 };
        int rc = tags_save(t, name, ram, &e);

        if (rc < 0)
                fprintf(stderr, "%s\n", e.text);
        CU_ASSERT_EQUAL(rc, 0);
}

static void delete(struct tags *t, const char *name)
{
        struct err e = { 0 };
        int rc = tags_delete(t, name, &e);

        if (rc < 0)
                fprintf(stderr, "%s\n", e.text);
        CU_ASSERT_EQUAL(rc, 0);
}

/* The file ends, after deletions, in the middle of a block of HOSTSUMS whose other
 * half still says what was there; the next tag takes clusters of other blocks only.
 * The holes: one of 60 for the big one's tables, one that it does not fit in. */
static void end_within_a_block(void)
{
        struct tags t;

        tags_init(&t, 12, 2048 * PAGE, 1);
        save(&t, "low", noise(&t, 100));
        save(&t, "hole", noise(&t, 60));
        save(&t, "low too", noise(&t, 60));
        save(&t, "large hole", noise(&t, 900));
        delete(&t, "hole");
        save(&t, "big", noise(&t, 2048));
        delete(&t, "large hole");
        save(&t, "base", noise(&t, 500));
        delete(&t, "big");
        delete(&t, "low");
        delete(&t, "low too");

        uint8_t *ram = tags_ram(&t, "base");

        store_ram_page(ram, PAGE, 1, &t.random);
        save(&t, "next", ram);
        CU_ASSERT_EQUAL(tags_wrong(&t, true), 0);
        CU_ASSERT(tags_fini(&t));
}

/* Two holes in different blocks of sums, and a tag whose sums begin in the one and
 * end in the other, for some n: taking a cluster for a block of HOSTSUMS changes
 * what another block says. */
static void holes_run_out(void)
{
        for (unsigned n = 38; n < 60; n++) {
                struct tags t;

                tags_init(&t, 12, 700 * PAGE, n);
                save(&t, "low", noise(&t, 300));
                save(&t, "hole", noise(&t, 60));
                save(&t, "base", noise(&t, 200));
                save(&t, "hole too", noise(&t, 60));
                save(&t, "end", noise(&t, 500));
                delete(&t, "hole");
                delete(&t, "hole too");
                save(&t, "first", noise(&t, n));

                uint8_t *ram = tags_ram(&t, "first");

                store_ram_page(ram, PAGE, 2, &t.random);
                save(&t, "next", ram);
                CU_ASSERT_EQUAL(tags_wrong(&t, false), 0);
                CU_ASSERT(tags_fini(&t));
        }
}

/* Streams cross the ends of clusters: one of the two goes, the other one stays for
 * its first stream. What was in both is not there any more (INV-INDEX). */
static void half_a_stream(void)
{
        struct tags t;

        tags_init(&t, 12, 200 * PAGE, 1);
        t.options.compress = QS_COMPRESS_ZSTD;

        uint8_t *some = tags_ram(&t, NULL);
        uint8_t *all = tags_ram(&t, NULL);

        for (unsigned i = 0; i < 200; i++)
                store_ram_page(all + i * PAGE, PAGE, 1, &t.random);
        save(&t, "all", all);
        CU_ASSERT(t.stats.clusters_packed > 150);
        for (unsigned i = 0; i < 200; i += 50)
                memcpy(some + i * PAGE, all + i * PAGE, PAGE);
        save(&t, "some", some);
        all = tags_ram(&t, "all");
        delete(&t, "all");
        save(&t, "all again", all);
        CU_ASSERT(t.stats.clusters_packed > 0);
        CU_ASSERT_EQUAL(tags_wrong(&t, true), 0);
        CU_ASSERT(tags_fini(&t));
}

static const CU_TestInfo cases[] = {
        { "random histories", random_histories },
        { "an end within a block of sums", end_within_a_block },
        { "tables in holes of two blocks of sums", holes_run_out },
        { "half of a stream goes", half_a_stream },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-history", cases);
}
