/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a record holds each unit that was touched once, in the order of the first
 *       touches, also when threads race; its export is what WORKING-SET wants.
 * Method: a table of touches and the extents that come of them, the bounds, and
 *         threads that touch the same units; they count, the main thread judges. */
#include "pageserver/record.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/check.h"
#include "common/io.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

#define UNIT (16u << 10)
#define RUN (RECORD_RUN_BYTES / UNIT)
#define SOME 8
#define END_GPA (1000ull * UNIT - 4096)

struct extents {
        uint64_t *word;                 /* address, length, address, ... */
        size_t n;
};

static struct extents export(const struct record *r, uint64_t end_gpa)
{
        struct extents x = { 0 };
        struct stat st;
        struct err e;
        int fd = -1;

        CU_ASSERT_EQUAL_FATAL(record_export(r, UNIT, end_gpa, &fd, &e), 0);
        CU_ASSERT_EQUAL_FATAL(fstat(fd, &st), 0);
        CU_ASSERT_EQUAL(st.st_size % 16, 0);
        x.n = (size_t)st.st_size / 16;
        x.word = malloc((size_t)st.st_size + 1);
        CU_ASSERT_PTR_NOT_NULL_FATAL(x.word);
        CU_ASSERT_EQUAL(io_pread_full(fd, x.word, (size_t)st.st_size, 0), 0);
        for (size_t i = 0; i < 2 * x.n; i++)
                x.word[i] = get_le64(&x.word[i]);
        CU_ASSERT_EQUAL(fcntl(fd, F_GET_SEALS),
                        F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
        close(fd);
        return x;
}

/* ---- extents ----------------------------------------------------------------- */

struct row {
        const char *name;
        uint64_t touch[SOME];           /* units, +1; 0 ends */
        uint64_t want[SOME][2];         /* first unit, +1, and how many; 0 ends */
};

static const struct row table[] = {
        { "nothing", { 0 }, { { 0 } } },
        { "one", { 5 }, { { 5, 1 } } },
        { "twice is once", { 5, 5, 5 }, { { 5, 1 } } },
        { "upwards joins", { 5, 6, 7 }, { { 5, 3 } } },
        { "downwards does not", { 7, 6, 5 }, { { 7, 1 }, { 6, 1 }, { 5, 1 } } },
        { "order of touch, not of address", { 90, 91, 10, 11 }, { { 90, 2 }, { 10, 2 } } },
        { "a second touch does not move it", { 90, 10, 90, 91 }, { { 90, 2 }, { 10, 1 } } },
        { "two who take turns", { 10, 90, 11, 91, 12, 92 }, { { 10, 3 }, { 90, 3 } } },
        { "unit 0", { 1, 2 }, { { 1, 2 } } },
};

static void check_row(const struct row *row)
{
        struct record r;
        unsigned n = 0;

        CU_ASSERT_EQUAL_FATAL(record_init(&r, 1000), 0);
        for (unsigned i = 0; i < SOME && row->touch[i]; i++)
                record_touch(&r, row->touch[i] - 1);

        struct extents x = export(&r, END_GPA);

        for (; n < SOME && row->want[n][0]; n++) {
                EXPECT_TRUE(row->name, n < x.n);
                EXPECT_TRUE(row->name, x.word[2 * n] == (row->want[n][0] - 1) * UNIT);
                EXPECT_TRUE(row->name, x.word[2 * n + 1] == row->want[n][1] * UNIT);
        }
        EXPECT_TRUE(row->name, x.n == n);
        free(x.word);
        record_fini(&r);
}

static void touches_become_extents(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(table); i++)
                check_row(&table[i]);
}

/* A long walk with others in between does not push them far behind. */
static void a_run_that_is_not_last_stays_short(void)
{
        struct record r;

        CU_ASSERT_EQUAL_FATAL(record_init(&r, 1000), 0);
        for (unsigned i = 0; i < 4 * RUN; i++) {
                record_touch(&r, i);
                record_touch(&r, 500 + i);
        }

        struct extents x = export(&r, END_GPA);

        for (size_t i = 0; i < x.n; i++)
                CU_ASSERT(x.word[2 * i + 1] <= RECORD_RUN_BYTES + UNIT);
        CU_ASSERT(x.n >= 6);
        free(x.word);
        record_fini(&r);
}

static void the_last_unit_ends_where_memory_does(void)
{
        struct record r;

        CU_ASSERT_EQUAL_FATAL(record_init(&r, 1000), 0);
        record_touch(&r, 999);

        struct extents x = export(&r, END_GPA);

        CU_ASSERT_EQUAL_FATAL(x.n, 1);
        CU_ASSERT_EQUAL(x.word[0] + x.word[1], END_GPA);
        free(x.word);
        x = export(&r, 999ull * UNIT);
        CU_ASSERT_EQUAL(x.n, 0);
        free(x.word);
        record_fini(&r);
}

static void the_list_is_bounded(void)
{
        struct record r;

        CU_ASSERT_EQUAL_FATAL(record_init(&r, 4ull * RECORD_TOUCHES_MAX), 0);
        for (uint64_t i = 0; i < RECORD_TOUCHES_MAX + 10ull; i++)
                record_touch(&r, 2 * i);
        CU_ASSERT_EQUAL(record_touches(&r), RECORD_TOUCHES_MAX);

        struct extents x = export(&r, UINT64_MAX);

        CU_ASSERT_EQUAL_FATAL(x.n, RECORD_TOUCHES_MAX);
        CU_ASSERT_EQUAL(x.word[2 * (x.n - 1)], 2ull * (RECORD_TOUCHES_MAX - 1) * UNIT);
        free(x.word);
        record_fini(&r);
        record_fini(&r);                        /* of one that was never begun */
}

/* ---- threads ------------------------------------------------------------------ */

#define RACERS 4
#define RACE_UNITS 20000u

struct racer {
        pthread_t thread;
        struct record *record;
        pthread_barrier_t *start;
        unsigned seed;
};

/* all touch most units, each in an order of his own, but in ascending pieces */
static void *race(void *arg)
{
        struct racer *r = arg;

        pthread_barrier_wait(r->start);
        for (unsigned i = 0; i < RACE_UNITS / 4; i++) {
                unsigned first = (unsigned)rand_r(&r->seed) % (RACE_UNITS - 16);

                for (unsigned k = 0; k < 16; k++)
                        record_touch(r->record, first + k);
        }
        return NULL;
}

static void count_units(const struct extents *x, uint8_t *seen)
{
        for (size_t i = 0; i < x->n; i++) {
                uint64_t first = x->word[2 * i] / UNIT;

                for (uint64_t u = first; u < first + x->word[2 * i + 1] / UNIT; u++)
                        CU_ASSERT_EQUAL(++seen[u], 1);          /* INV-FIRST */
        }
}

static void racing_threads_touch_each_unit_once(void)
{
        static uint8_t seen[RACE_UNITS];
        pthread_barrier_t start;
        struct racer racer[RACERS];
        struct record r;
        uint64_t n = 0;

        CU_ASSERT_EQUAL_FATAL(record_init(&r, RACE_UNITS), 0);
        pthread_barrier_init(&start, NULL, RACERS + 1);
        for (unsigned i = 0; i < RACERS; i++) {
                racer[i] = (struct racer){ .record = &r, .start = &start, .seed = i };
                CU_ASSERT_EQUAL_FATAL(pthread_create(&racer[i].thread, NULL, race, &racer[i]), 0);
        }
        pthread_barrier_wait(&start);

        struct extents early = export(&r, UINT64_MAX);          /* while they do */

        for (unsigned i = 0; i < RACERS; i++)
                pthread_join(racer[i].thread, NULL);
        pthread_barrier_destroy(&start);
        count_units(&early, seen);
        memset(seen, 0, sizeof(seen));

        struct extents x = export(&r, UINT64_MAX);

        count_units(&x, seen);
        for (unsigned u = 0; u < RACE_UNITS; u++) {
                CU_ASSERT_EQUAL(seen[u], bits_test(&r.touched, u));
                n += seen[u];
        }
        CU_ASSERT_EQUAL(n, record_touches(&r));
        CU_ASSERT(n > RACE_UNITS / 2);
        free(early.word);
        free(x.word);
        record_fini(&r);
}

static const CU_TestInfo cases[] = {
        { "touches become extents", touches_become_extents },
        { "a run that is not the last stays short", a_run_that_is_not_last_stays_short },
        { "the last unit ends where memory does", the_last_unit_ends_where_memory_does },
        { "the list is bounded", the_list_is_bounded },
        { "racing threads touch each unit once", racing_threads_touch_each_unit_once },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("record", cases);
}
