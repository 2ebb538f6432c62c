/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: the order of prefetch (around the latest fault, around earlier ones, then
 *       ascending), each missing cluster once, and the rate over time.
 * Method: a map of present clusters that the test sets as a worker would, and a clock
 *       of its own. */
#include "pageserver/prefetch.h"

#include <string.h>

#include "common/check.h"
#include "common/clock.h"
#include "tests/unit/suite.h"

#define CLUSTER_BYTES 16384ull
#define AHEAD (PREFETCH_AHEAD_BYTES / CLUSTER_BYTES)
#define BEHIND (PREFETCH_BEHIND_BYTES / CLUSTER_BYTES)

static const struct prefetch_span spans[] = { { 0, 40 }, { 100, 200 } };

static uint64_t missing(void *ctx, uint64_t from, uint64_t end)
{
        const bool *present = ctx;

        while (from < end && present[from])
                from++;
        return from;
}

/* the next cluster, then present; UINT64_MAX when there is none now */
static uint64_t take(struct prefetch *p, bool *present, uint64_t now_ns)
{
        uint64_t cluster, wait_ns;
        enum prefetch_pick r;

        while ((r = prefetch_pick(p, now_ns, missing, present, &cluster, &wait_ns)) ==
               PREFETCH_AGAIN)
                ;
        if (r != PREFETCH_TAKE)
                return UINT64_MAX;
        present[cluster] = true;
        return cluster;
}

static void sweep_ascends(void)
{
        struct prefetch p;
        bool present[300] = { [3] = true, [150] = true };
        uint64_t count = 0, last = 0, c;

        CU_ASSERT_EQUAL_FATAL(prefetch_init(&p, spans, 2, CLUSTER_BYTES, UINT64_MAX), 0);
        while ((c = take(&p, present, 1)) != UINT64_MAX) {
                CU_ASSERT(count == 0 || c > last);
                CU_ASSERT(c < 40 || (c >= 100 && c < 200));
                CU_ASSERT(c != 3 && c != 150);
                last = c;
                count++;
        }
        CU_ASSERT_EQUAL(count, 138);
        present[7] = false;
        CU_ASSERT_EQUAL(take(&p, present, 1), UINT64_MAX);
        prefetch_restart(&p);
        CU_ASSERT_EQUAL(take(&p, present, 1), 7);
        prefetch_fini(&p);
}

static void faults_come_first(void)
{
        struct prefetch p;
        bool present[300] = { [20] = true, [120] = true };

        CU_ASSERT_EQUAL_FATAL(prefetch_init(&p, spans, 2, CLUSTER_BYTES, UINT64_MAX), 0);
        CU_ASSERT_EQUAL(take(&p, present, 1), 0);
        prefetch_hint(&p, 20);
        prefetch_hint(&p, 120);
        prefetch_hint(&p, 70);                  /* in no span: no window */
        for (uint64_t i = 0; i < AHEAD; i++)
                CU_ASSERT_EQUAL(take(&p, present, 1), 121 + i);
        for (uint64_t i = 0; i < BEHIND; i++)
                CU_ASSERT_EQUAL(take(&p, present, 1), 120 - BEHIND + i);
        for (uint64_t i = 0; i < AHEAD; i++)
                CU_ASSERT_EQUAL(take(&p, present, 1), 21 + i);
        for (uint64_t i = 0; i < BEHIND; i++)
                CU_ASSERT_EQUAL(take(&p, present, 1), 20 - BEHIND + i);
        CU_ASSERT_EQUAL(take(&p, present, 1), 1);
        prefetch_fini(&p);
}

static void windows_end_with_their_span(void)
{
        struct prefetch p;
        bool present[300] = { [39] = true, [100] = true };

        CU_ASSERT_EQUAL_FATAL(prefetch_init(&p, spans, 2, CLUSTER_BYTES, UINT64_MAX), 0);
        prefetch_hint(&p, 39);
        CU_ASSERT_EQUAL(take(&p, present, 1), 37);      /* nothing ahead, two behind */
        CU_ASSERT_EQUAL(take(&p, present, 1), 38);
        prefetch_hint(&p, 100);
        CU_ASSERT_EQUAL(take(&p, present, 1), 101);     /* nothing behind */
        for (unsigned i = 0; i < 100; i++)
                prefetch_hint(&p, 100 + i);             /* more than are remembered */
        CU_ASSERT_EQUAL(take(&p, present, 1), 197);
        prefetch_fini(&p);
}

static void off_is_off(void)
{
        struct prefetch p;
        bool present[300] = { false };
        uint64_t cluster, wait_ns;

        CU_ASSERT_EQUAL_FATAL(prefetch_init(&p, spans, 2, CLUSTER_BYTES, 0), 0);
        prefetch_hint(&p, 10);
        CU_ASSERT_EQUAL(prefetch_pick(&p, 1, missing, present, &cluster, &wait_ns),
                        PREFETCH_IS_OFF);
        prefetch_rate(&p, UINT64_MAX);
        CU_ASSERT_EQUAL(take(&p, present, 1), 11);
        prefetch_fini(&p);
}

/* 10 clusters a second for 5 seconds, asked every millisecond; then a pause */
static void the_rate_is_kept(void)
{
        struct prefetch p;
        bool present[300] = { false };
        uint64_t now = NS_PER_SEC, count = 0;

        CU_ASSERT_EQUAL_FATAL(prefetch_init(&p, spans, 2, CLUSTER_BYTES, 10 * CLUSTER_BYTES), 0);
        for (int ms = 0; ms < 5000; ms++, now += NS_PER_MS) {
                if (take(&p, present, now) == UINT64_MAX)
                        continue;
                prefetch_charge(&p, CLUSTER_BYTES);
                count++;
        }
        CU_ASSERT(count >= 49 && count <= 51);
        now += 3600 * NS_PER_SEC;               /* saves up a burst, no more */
        for (count = 0; take(&p, present, now) != UINT64_MAX; count++)
                prefetch_charge(&p, CLUSTER_BYTES);
        CU_ASSERT(count >= 1 && count <= 2);
        prefetch_fini(&p);
}

/* WAIT names a time at which it does go on, even for a rate below a byte a look */
static void the_wait_is_enough(void)
{
        static const uint64_t rates[] = { 1, 1000, CLUSTER_BYTES, 1ull << 30 };

        for (size_t i = 0; i < ARRAY_SIZE(rates); i++) {
                struct prefetch p;
                bool present[300] = { false };
                uint64_t cluster, wait_ns, now = 5;

                CU_ASSERT_EQUAL_FATAL(prefetch_init(&p, spans, 2, CLUSTER_BYTES, rates[i]), 0);
                while (prefetch_pick(&p, now, missing, present, &cluster, &wait_ns) ==
                       PREFETCH_TAKE)
                        prefetch_charge(&p, CLUSTER_BYTES);
                CU_ASSERT(wait_ns > now);
                CU_ASSERT_EQUAL(prefetch_pick(&p, wait_ns, missing, present, &cluster, &wait_ns),
                                PREFETCH_TAKE);
                prefetch_fini(&p);
        }
}

static const CU_TestInfo cases[] = {
        { "the sweep ascends and passes what is there", sweep_ascends },
        { "the surroundings of faults come first", faults_come_first },
        { "windows end with their span and are bounded", windows_end_with_their_span },
        { "off is off", off_is_off },
        { "the rate is kept", the_rate_is_kept },
        { "the wait is enough", the_wait_is_enough },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("prefetch", cases);
}
