/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: of a working set only what the client has is left, in its order, as units.
 * Method: a table of extents and the units that come of them, over regions with a
 *         stripe's border and a hole. */
#include "pageserver/workingset.h"

#include <stdlib.h>

#include "common/check.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

#define P 4096ull
#define SOME 4

/* [0, 8) and [8, 16) pages on two userfaultfds, a hole, [32, 40) */
static struct regions *regions(void)
{
        struct psmsg_attach a = {
                .nuffds = 2, .nregions = 3,
                .region = {
                        { .hva = 1ull << 32, .bytes = 8 * P, .gpa = 0, .uffd = 0 },
                        { .hva = (1ull << 32) + 8 * P, .bytes = 8 * P, .gpa = 8 * P, .uffd = 1 },
                        { .hva = 2ull << 32, .bytes = 8 * P, .gpa = 32 * P, .uffd = 0 },
                },
        };
        struct regions *r = NULL;

        CU_ASSERT_EQUAL_FATAL(regions_new(&a, 64 * P, 4096, &r, NULL), 0);
        return r;
}

static const struct row {
        const char *name;
        unsigned unit_bits;
        struct qs_ram_range set[SOME];          /* pages */
        struct prefetch_span want[SOME];
} table[] = {
        { "nothing", 12, { { 0, 0 } }, { { 0, 0 } } },
        { "one page", 12, { { 5, 1 } }, { { 5, 6 } } },
        { "over a stripe's border", 12, { { 6, 4 } }, { { 6, 10 } } },
        { "over the hole", 12, { { 10, 30 } }, { { 10, 16 }, { 32, 40 } } },
        { "in the hole", 12, { { 20, 4 } }, { { 0, 0 } } },
        { "behind all", 12, { { 50, 4 }, { 1, 1 } }, { { 1, 2 } } },
        { "in its order", 12, { { 33, 1 }, { 3, 1 }, { 4, 1 } }, { { 33, 34 }, { 3, 5 } } },
        { "units are larger", 14, { { 5, 1 }, { 6, 1 }, { 33, 2 } }, { { 1, 2 }, { 8, 9 } } },
        { "downwards", 12, { { 6, 1 }, { 5, 1 } }, { { 6, 7 }, { 5, 6 } } },
};

static void check_row(const struct row *row, const struct regions *r)
{
        struct qs_ram_range set[SOME];
        struct prefetch_span *span = NULL;
        size_t n = 0, spans = 0, want = 0;

        for (; n < SOME && row->set[n].bytes; n++)
                set[n] = (struct qs_ram_range){ row->set[n].gpa * P, row->set[n].bytes * P };
        while (want < SOME && row->want[want].end)
                want++;
        CU_ASSERT_EQUAL(workingset_spans(set, n, r, row->unit_bits, &span, &spans), 0);
        EXPECT_EQUAL(row->name, spans, want);
        for (size_t i = 0; i < spans && i < want; i++) {
                EXPECT_EQUAL(row->name, span[i].first, row->want[i].first);
                EXPECT_EQUAL(row->name, span[i].end, row->want[i].end);
        }
        free(span);
}

static void extents_become_units(void)
{
        struct regions *r = regions();

        for (size_t i = 0; i < ARRAY_SIZE(table); i++)
                check_row(&table[i], r);
        regions_free(r);
}

static void a_long_list_grows(void)
{
        static struct qs_ram_range set[1000];
        struct prefetch_span *span = NULL;
        struct regions *r = regions();
        size_t n;

        for (size_t i = 0; i < ARRAY_SIZE(set); i++)
                set[i] = (struct qs_ram_range){ (i * 2 % 16) * P, P };
        CU_ASSERT_EQUAL_FATAL(workingset_spans(set, ARRAY_SIZE(set), r, 12, &span, &n), 0);
        CU_ASSERT_EQUAL(n, ARRAY_SIZE(set));
        for (size_t i = 0; i < n; i++)
                CU_ASSERT_EQUAL(span[i].first, i * 2 % 16);
        free(span);
        regions_free(r);
}

static const CU_TestInfo cases[] = {
        { "extents become units", extents_become_units },
        { "a long list grows", a_long_list_grows },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("workingset", cases);
}
