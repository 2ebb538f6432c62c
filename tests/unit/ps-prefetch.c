/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: the order of prefetch (around the latest fault, the working set, ahead of earlier
 *       faults, then ascending), each missing unit once, and the rate over time.
 * Method: a map of present units that the test sets as a worker would, and a clock
 *       of its own. */
#include "pageserver/prefetch.h"

#include <string.h>

#include "common/check.h"
#include "common/clock.h"
#include "tests/unit/suite.h"

#define UNIT_BYTES 16384ull
#define AHEAD (PREFETCH_AHEAD_BYTES / UNIT_BYTES)
#define BEHIND (PREFETCH_BEHIND_BYTES / UNIT_BYTES)

static const struct prefetch_span spans[] = { { 0, 40 }, { 100, 200 } };

static int start(struct prefetch *p, uint64_t rate, uint64_t around_bytes)
{
        const struct prefetch_options o = {
                .span = spans, .spans = ARRAY_SIZE(spans), .unit_bytes = UNIT_BYTES,
                .around_bytes = around_bytes, .rate = rate,
        };

        return prefetch_init(p, &o);
}

static uint64_t missing(void *ctx, uint64_t from, uint64_t end)
{
        const bool *present = ctx;

        while (from < end && present[from])
                from++;
        return from;
}

/* the next unit, then present; UINT64_MAX when there is none now */
static uint64_t take(struct prefetch *p, bool *present, uint64_t now_ns)
{
        struct prefetch_span run;
        uint64_t wait_ns;
        enum prefetch_pick r;

        while ((r = prefetch_pick(p, now_ns, 1, missing, present, &run, &wait_ns)) ==
               PREFETCH_AGAIN)
                ;
        if (r != PREFETCH_TAKE)
                return UINT64_MAX;
        CU_ASSERT_EQUAL(run.end, run.first + 1);
        present[run.first] = true;
        return run.first;
}

static void sweep_ascends(void)
{
        struct prefetch p;
        bool present[300] = { [3] = true, [150] = true };
        uint64_t count = 0, last = 0, c;

        CU_ASSERT_EQUAL_FATAL(start(&p, UINT64_MAX, 0), 0);
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

        CU_ASSERT_EQUAL_FATAL(start(&p, UINT64_MAX, 0), 0);
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

        CU_ASSERT_EQUAL_FATAL(start(&p, UINT64_MAX, 0), 0);
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
        struct prefetch_span run;
        uint64_t wait_ns;

        CU_ASSERT_EQUAL_FATAL(start(&p, 0, 0), 0);
        prefetch_hint(&p, 10);
        CU_ASSERT_EQUAL(prefetch_pick(&p, 1, 1, missing, present, &run, &wait_ns),
                        PREFETCH_IS_OFF);
        prefetch_rate(&p, UINT64_MAX);
        CU_ASSERT_EQUAL(take(&p, present, 1), 11);
        prefetch_fini(&p);
}

/* 10 clusters a second for 5 seconds, asked every millisecond; then a pause */
static void a_pause_keeps_the_rate(void)
{
        struct prefetch p;
        bool present[300] = { false };

        CU_ASSERT_EQUAL(start(&p, PREFETCH_UNLIMITED, 4 * UNIT_BYTES), 0);
        CU_ASSERT_EQUAL(take(&p, present, 0), 0);
        prefetch_pause(&p, true);
        CU_ASSERT_EQUAL(take(&p, present, 0), UINT64_MAX);
        CU_ASSERT_TRUE(prefetch_paused(&p));
        CU_ASSERT_EQUAL(prefetch_rate_now(&p), 0);
        CU_ASSERT_EQUAL(prefetch_rate_set(&p), PREFETCH_UNLIMITED);
        /* a rate does not end it, and fault-around goes on */
        prefetch_rate(&p, UNIT_BYTES);
        CU_ASSERT_EQUAL(take(&p, present, 0), UINT64_MAX);
        prefetch_hint(&p, 104);
        CU_ASSERT_EQUAL(take(&p, present, 0), 105);
        prefetch_pause(&p, false);
        CU_ASSERT_EQUAL(prefetch_rate_now(&p), UNIT_BYTES);
        CU_ASSERT_NOT_EQUAL(take(&p, present, NS_PER_SEC), UINT64_MAX);
        prefetch_fini(&p);
}

static void the_rate_is_kept(void)
{
        struct prefetch p;
        bool present[300] = { false };
        uint64_t now = NS_PER_SEC, count = 0;

        CU_ASSERT_EQUAL_FATAL(start(&p, 10 * UNIT_BYTES, 0), 0);
        for (int ms = 0; ms < 5000; ms++, now += NS_PER_MS) {
                if (take(&p, present, now) == UINT64_MAX)
                        continue;
                prefetch_charge(&p, UNIT_BYTES);
                count++;
        }
        CU_ASSERT(count >= 49 && count <= 51);
        now += 3600 * NS_PER_SEC;               /* saves up a burst, no more */
        for (count = 0; take(&p, present, now) != UINT64_MAX; count++)
                prefetch_charge(&p, UNIT_BYTES);
        CU_ASSERT(count >= 1 && count <= 2);
        prefetch_fini(&p);
}

/* WAIT names a time at which it does go on, even for a rate below a byte a look */
static void the_wait_is_enough(void)
{
        static const uint64_t rates[] = { 1, 1000, UNIT_BYTES, 1ull << 30 };

        for (size_t i = 0; i < ARRAY_SIZE(rates); i++) {
                struct prefetch p;
                bool present[300] = { false };
                struct prefetch_span run;
                uint64_t wait_ns, now = 5;

                CU_ASSERT_EQUAL_FATAL(start(&p, rates[i], 0), 0);
                while (prefetch_pick(&p, now, 1, missing, present, &run, &wait_ns) ==
                       PREFETCH_TAKE)
                        prefetch_charge(&p, UNIT_BYTES);
                CU_ASSERT(wait_ns > now);
                CU_ASSERT_EQUAL(prefetch_pick(&p, wait_ns, 1, missing, present, &run, &wait_ns),
                                PREFETCH_TAKE);
                prefetch_fini(&p);
        }
}

/* the aligned block, whatever the rate, behind the fault first */
static void around_comes_also_when_off(void)
{
        struct prefetch p;
        bool present[300] = { [101] = true, [199] = true };

        CU_ASSERT_EQUAL_FATAL(start(&p, 0, 4 * UNIT_BYTES), 0);
        prefetch_hint(&p, 101);
        CU_ASSERT_EQUAL(take(&p, present, 1), 102);
        CU_ASSERT_EQUAL(take(&p, present, 1), 103);
        CU_ASSERT_EQUAL(take(&p, present, 1), 100);
        CU_ASSERT_EQUAL(take(&p, present, 1), UINT64_MAX);
        prefetch_hint(&p, 199);                 /* the block's end is the span's */
        CU_ASSERT_EQUAL(take(&p, present, 1), 196);
        prefetch_fini(&p);
}

static void the_working_set_comes_in_its_order(void)
{
        static const struct prefetch_span set[] = { { 150, 152 }, { 10, 11 }, { 151, 153 } };
        static const uint64_t want[] = { 150, 151, 10, 152, 0, 1 };
        struct prefetch p;
        bool present[300] = { [120] = true };

        CU_ASSERT_EQUAL_FATAL(start(&p, UINT64_MAX, 0), 0);
        CU_ASSERT_EQUAL_FATAL(prefetch_first(&p, set, ARRAY_SIZE(set)), 0);
        for (size_t i = 0; i < ARRAY_SIZE(want); i++)
                CU_ASSERT_EQUAL(take(&p, present, 1), want[i]);
        prefetch_fini(&p);
}

static void runs_hold_only_what_is_missing(void)
{
        struct prefetch p;
        bool present[300] = { [5] = true };
        struct prefetch_span run;
        uint64_t wait_ns;
        static const struct prefetch_span want[] = { { 0, 4 }, { 4, 5 }, { 6, 10 }, { 10, 14 } };

        CU_ASSERT_EQUAL_FATAL(start(&p, UINT64_MAX, 0), 0);
        for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
                CU_ASSERT_EQUAL(prefetch_pick(&p, 1, 4, missing, present, &run, &wait_ns),
                                PREFETCH_TAKE);
                CU_ASSERT(run.first == want[i].first && run.end == want[i].end);
        }
        prefetch_return(&p, 7, 9);              /* two of them were not taken */
        CU_ASSERT_EQUAL(prefetch_pick(&p, 1, 4, missing, present, &run, &wait_ns), PREFETCH_TAKE);
        CU_ASSERT(run.first == 7 && run.end == 9);
        prefetch_fini(&p);
}

static const CU_TestInfo cases[] = {
        { "the sweep ascends and passes what is there", sweep_ascends },
        { "the surroundings of faults come first", faults_come_first },
        { "windows end with their span and are bounded", windows_end_with_their_span },
        { "off is off", off_is_off },
        { "a pause keeps the rate", a_pause_keeps_the_rate },
        { "the rate is kept", the_rate_is_kept },
        { "the wait is enough", the_wait_is_enough },
        { "fault-around comes also when prefetch is off", around_comes_also_when_off },
        { "the working set comes in its order", the_working_set_comes_in_its_order },
        { "runs hold only what is missing", runs_hold_only_what_is_missing },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("prefetch", cases);
}
