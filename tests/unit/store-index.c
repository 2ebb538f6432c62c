/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: the index of contents costs a change what the change adds and not what the
 *       pool has: sections are merged so that each is at least twice as long as the
 *       next one; all that they say is used.
 * Method: tags that bring few or many new pages, one after the other; the sections
 *       of the pool area are looked at after each. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "qcowstore/dedupindex.h"
#include "tests/unit/expect.h"
#include "tests/unit/store-ram.h"
#include "tests/unit/store-tags.h"
#include "tests/unit/suite.h"

#define PAGE 4096ull
#define PAGES 1300
#define STEPS 60
#define FEW 20

struct index {
        uint64_t entries[QS_SECTIONS_MAX];
        uint64_t host[QS_SECTIONS_MAX];         /* cluster of the first entry */
        unsigned n;
};

static struct index look(const struct tags *t)
{
        struct index x = { .n = 0 };
        struct pool *p;
        int rc = pool_open(t->path, &p, NULL);

        ASSERT(rc == 0);
        for (x.n = 0; x.n < p->area_toc.count; x.n++) {
                const struct section *s = &p->area_toc.section[x.n];

                x.entries[x.n] = s->bytes / INDEX_ENTRY_BYTES;
                x.host[x.n] = p->area[s->offset >> 12];
        }
        pool_close(p);
        return x;
}

/* so many new pages, and nothing else */
static void add(struct tags *t, const char *name, unsigned pages)
{
        uint8_t *ram = tags_ram(t, NULL);
        struct err e = { 0 };

        for (unsigned i = 0; i < pages; i++)
                store_ram_page(ram + i * PAGE, PAGE, 2, &t->random);
        t->options.force = tags_find(t, name) != NULL;

        int rc = tags_save(t, name, ram, &e);

        if (rc < 0)
                fprintf(stderr, "%s\n", e.text);
        CU_ASSERT_EQUAL_FATAL(rc, 0);
        CU_ASSERT_EQUAL(t->stats.clusters_raw, pages);
}

static uint64_t total(const struct index *x)
{
        uint64_t n = 0;

        for (unsigned i = 0; i < x->n; i++)
                n += x->entries[i];
        return n;
}

/* A large section stays where it is when little is added. */
static void large_stays(void)
{
        struct tags t;

        tags_init(&t, 12, PAGES * PAGE, 1);
        add(&t, "one", 600);
        CU_ASSERT_EQUAL(look(&t).n, 0);         /* none before there is a second tag */
        add(&t, "two", 600);

        struct index before = look(&t);

        CU_ASSERT_EQUAL(before.n, 1);           /* of both */
        CU_ASSERT_EQUAL(total(&before), 1200);
        add(&t, "three", 10);

        struct index after = look(&t);

        CU_ASSERT_EQUAL(after.n, 2);
        CU_ASSERT_EQUAL(after.entries[0], 1200);
        CU_ASSERT_EQUAL(after.host[0], before.host[0]);
        CU_ASSERT_EQUAL(after.entries[1], 10);
        add(&t, "four", 1200);                  /* not half of it any more */
        CU_ASSERT_EQUAL(look(&t).n, 1);
        CU_ASSERT_EQUAL(tags_wrong(&t, true), 0);
        CU_ASSERT(tags_fini(&t));
}

/* Each entry is written few times, however many changes there are. */
static void geometric(void)
{
        static const char *const names[] = { "a", "b", "c", "d", "e", "f", "g" };
        uint64_t written = 0;
        unsigned deepest = 0;
        unsigned changes = 0;

        /* pools of as many tags as there may be in the model */
        for (uint64_t seed = 1; changes < STEPS; seed++) {
                struct tags t;

                tags_init(&t, 12, PAGES * PAGE, seed);
                add(&t, "first", PAGES);
                for (unsigned i = 0; i < ARRAY_SIZE(names); i++, changes++) {
                        add(&t, names[i], (unsigned)(FEW + store_random(&t.random) % FEW));

                        struct index x = look(&t);

                        for (unsigned k = 0; k + 1 < x.n; k++)
                                EXPECT_TRUE(names[i], x.entries[k] >= 2 * x.entries[k + 1]);
                        deepest = MAX(deepest, x.n);
                        written += i ? x.entries[x.n - 1] : 0;  /* the first one makes it */
                }
                CU_ASSERT(tags_fini(&t));
        }
        CU_ASSERT(deepest >= 3);
        /* a step adds 1.5 * FEW; of seven, some are written two or three times */
        CU_ASSERT(written < changes * 3 * (3 * FEW / 2));
        CU_ASSERT(written >= changes * FEW / 2);
}

/* Content of any section is found. */
static void all_is_used(void)
{
        static const unsigned pages[] = { 600, 200, 90, 40, 10 };
        struct tags t;
        unsigned at = 0;

        tags_init(&t, 12, PAGES * PAGE, 1);

        uint8_t *all = tags_ram(&t, NULL);

        for (unsigned i = 0; i < ARRAY_SIZE(pages); i++) {
                char name[2] = { (char)('a' + i), 0 };

                add(&t, name, pages[i]);
                memcpy(all + at * PAGE, tags_find(&t, name)->ram, pages[i] * PAGE);
                at += pages[i];
        }
        CU_ASSERT(look(&t).n >= 3);

        uint64_t before = t.stats.file_bytes;

        CU_ASSERT_EQUAL(tags_save(&t, "all", all, NULL), 0);
        CU_ASSERT_EQUAL(t.stats.clusters_raw, 0);
        CU_ASSERT_EQUAL(t.stats.clusters_shared, at);
        /* L2 tables and sums of 940 pages and the like */
        CU_ASSERT(t.stats.file_bytes <= before + 40 * PAGE);
        CU_ASSERT_EQUAL(tags_wrong(&t, true), 0);
        CU_ASSERT(tags_fini(&t));
}

static const CU_TestInfo cases[] = {
        { "a large section stays", large_stays },
        { "each entry is written few times", geometric },
        { "what any section says is used", all_is_used },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-index", cases);
}
