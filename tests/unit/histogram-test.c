/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a histogram loses nothing, and what it says about quantiles is right to a
 *       quarter, from nanoseconds to beyond its end, with threads at it too.
 * Method: bounds against their definition; random durations of every magnitude
 *         against an exact model, the sorted list; threads that add while another
 *         reads. */
#include <CUnit/CUnit.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/check.h"
#include "common/histogram.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

static unsigned bucket_with(uint64_t ns)
{
        struct histogram h = { 0 };
        struct histogram_view v;
        unsigned i = 0;

        histogram_add(&h, ns);
        histogram_read(&h, &v);
        CU_ASSERT_EQUAL_FATAL(v.count, 1);
        while (!v.bucket[i])
                i++;
        return i;
}

static void empty(void)
{
        struct histogram h = { 0 };
        struct histogram_view v;

        histogram_read(&h, &v);
        CU_ASSERT_EQUAL(v.count, 0);
        CU_ASSERT_EQUAL(v.sum_ns, 0);
        CU_ASSERT_EQUAL(v.max_ns, 0);
        CU_ASSERT_EQUAL(histogram_quantile_ns(&v, 1), 0);
        CU_ASSERT_EQUAL(histogram_quantile_ns(&v, 1000), 0);
        CU_ASSERT_EQUAL(histogram_below(&v, HISTOGRAM_LAST_BITS), 0);
}

static void bounds(void)
{
        for (unsigned i = 0; i + 1 < HISTOGRAM_BUCKETS; i++) {
                uint64_t bound = histogram_bound_ns(i);
                char row[32];

                snprintf(row, sizeof(row), "bucket %u", i);
                EXPECT_EQUAL(row, bucket_with(bound), i);
                EXPECT_EQUAL(row, bucket_with(bound + 1), i + 1);
                /* a bucket's width is at most a quarter of what it holds */
                if (i > 0)
                        EXPECT_TRUE(row, bound - histogram_bound_ns(i - 1) <=
                                    histogram_bound_ns(i - 1) / 4);
        }
        CU_ASSERT_EQUAL(bucket_with(0), 0);
        CU_ASSERT_EQUAL(bucket_with(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
        CU_ASSERT_EQUAL(histogram_bound_ns(HISTOGRAM_BUCKETS - 1), UINT64_MAX);
        CU_ASSERT(histogram_bound_ns(0) <= 1000);
        CU_ASSERT(histogram_bound_ns(HISTOGRAM_BUCKETS - 2) >= 100000000000ull);
}

/* ---- against the sorted list ---------------------------------------------- */

#define MODEL_VALUES 20000u

static int order(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

        return x < y ? -1 : x > y;
}

static uint64_t any(unsigned *seed, unsigned bits)
{
        uint64_t v = 0;

        for (unsigned i = 0; i < 3; i++)
                v = v << 24 ^ (uint64_t)rand_r(seed);
        return v & ((1ull << bits) - 1);
}

static void agree_quantile(const struct histogram_view *v, const uint64_t *sorted, size_t n,
                           unsigned permille)
{
        uint64_t exact = sorted[DIV_ROUND_UP(n * permille, 1000u) - 1];
        uint64_t got = histogram_quantile_ns(v, permille);
        char row[64];

        snprintf(row, sizeof(row), "permille %u: exact %" PRIu64 ", got %" PRIu64, permille,
                 exact, got);
        EXPECT_TRUE(row, got >= exact);
        if (exact > histogram_bound_ns(0) && exact <= histogram_bound_ns(HISTOGRAM_BUCKETS - 2))
                EXPECT_TRUE(row, got <= exact + exact / 4);
        EXPECT_TRUE(row, got <= sorted[n - 1]);
}

static void agree_below(const struct histogram_view *v, const uint64_t *sorted, size_t n)
{
        for (unsigned bits = HISTOGRAM_FIRST_BITS; bits <= HISTOGRAM_LAST_BITS; bits++) {
                size_t exact = 0;
                char row[32];

                while (exact < n && sorted[exact] <= 1ull << bits)
                        exact++;
                snprintf(row, sizeof(row), "2^%u ns", bits);
                EXPECT_EQUAL(row, histogram_below(v, bits), exact);
        }
}

/* values of up to max_bits bits, all magnitudes alike */
static void model(unsigned seed, size_t n, unsigned max_bits)
{
        static uint64_t value[MODEL_VALUES];
        struct histogram h = { 0 };
        struct histogram_view v;
        uint64_t sum = 0;

        for (size_t i = 0; i < n; i++) {
                value[i] = any(&seed, 1 + (unsigned)rand_r(&seed) % max_bits);
                sum += value[i];
                histogram_add(&h, value[i]);
        }
        qsort(value, n, sizeof(value[0]), order);
        histogram_read(&h, &v);
        CU_ASSERT_EQUAL(v.count, n);
        CU_ASSERT_EQUAL(v.sum_ns, sum);
        CU_ASSERT_EQUAL(v.max_ns, value[n - 1]);
        for (unsigned permille = 1; permille <= 1000; permille++)
                agree_quantile(&v, value, n, permille);
        agree_below(&v, value, n);
}

static void models(void)
{
        model(1, MODEL_VALUES, 34);
        model(2, MODEL_VALUES, 45);     /* beyond the last bound too */
        model(3, 1, 30);
        model(4, 7, 30);
        model(5, 999, 12);
        model(6, 1001, 20);
}

static void sums_of_views(void)
{
        struct histogram a = { 0 }, b = { 0 }, both = { 0 };
        struct histogram_view va, vb, vboth;
        unsigned seed = 7;

        for (size_t i = 0; i < 1000; i++) {
                uint64_t ns = any(&seed, 40);

                histogram_add(i % 3 ? &a : &b, ns);
                histogram_add(&both, ns);
        }
        histogram_read(&a, &va);
        histogram_read(&b, &vb);
        histogram_read(&both, &vboth);
        histogram_view_add(&va, &vb);
        CU_ASSERT_EQUAL(va.count, vboth.count);
        CU_ASSERT_EQUAL(va.sum_ns, vboth.sum_ns);
        CU_ASSERT_EQUAL(va.max_ns, vboth.max_ns);
        for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
                EXPECT_EQUAL("bucket", va.bucket[i], vboth.bucket[i]);
}

/* ---- threads --------------------------------------------------------------- */

#define ADDERS 4u
#define ADDS 100000u

struct crowd {
        struct histogram h;
        _Atomic bool done;
        bool disagreed;                 /* the reader's */
};

struct adder {
        struct crowd *crowd;
        unsigned seed;
        uint64_t sum;
        uint64_t max;
};

static void *add_many(void *arg)
{
        struct adder *a = arg;

        for (unsigned i = 0; i < ADDS; i++) {
                uint64_t ns = any(&a->seed, 36);

                histogram_add(&a->crowd->h, ns);
                a->sum += ns;
                a->max = MAX(a->max, ns);
        }
        return NULL;
}

/* INV-AGREE, at any moment */
static bool agrees(const struct histogram_view *v)
{
        unsigned last = HISTOGRAM_BUCKETS;
        uint64_t sum = 0;

        for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
                sum += v->bucket[i];
                if (v->bucket[i])
                        last = i;
        }
        if (sum != v->count)
                return false;
        if (last == HISTOGRAM_BUCKETS)
                return v->max_ns == 0;
        return v->max_ns <= histogram_bound_ns(last) &&
               (last == 0 || v->max_ns > histogram_bound_ns(last - 1));
}

static void *read_many(void *arg)
{
        struct crowd *c = arg;
        struct histogram_view v;
        uint64_t before = 0;

        while (!atomic_load(&c->done)) {
                histogram_read(&c->h, &v);
                if (!agrees(&v) || v.count < before ||
                    histogram_quantile_ns(&v, 990) > v.max_ns)
                        c->disagreed = true;
                before = v.count;
        }
        return NULL;
}

static void threads(void)
{
        static struct crowd c;
        struct adder adder[ADDERS];
        pthread_t reader, thread[ADDERS];
        struct histogram_view v;
        uint64_t sum = 0, max = 0;

        CU_ASSERT_EQUAL_FATAL(pthread_create(&reader, NULL, read_many, &c), 0);
        for (unsigned i = 0; i < ADDERS; i++) {
                adder[i] = (struct adder){ .crowd = &c, .seed = i };
                CU_ASSERT_EQUAL_FATAL(pthread_create(&thread[i], NULL, add_many, &adder[i]), 0);
        }
        for (unsigned i = 0; i < ADDERS; i++) {
                pthread_join(thread[i], NULL);
                sum += adder[i].sum;
                max = MAX(max, adder[i].max);
        }
        atomic_store(&c.done, true);
        pthread_join(reader, NULL);
        histogram_read(&c.h, &v);
        CU_ASSERT_EQUAL(v.count, ADDERS * ADDS);
        CU_ASSERT_EQUAL(v.sum_ns, sum);
        CU_ASSERT_EQUAL(v.max_ns, max);
        CU_ASSERT_FALSE(c.disagreed);
}

static const CU_TestInfo cases[] = {
        { "an empty one", empty },
        { "each bucket ends at its bound", bounds },
        { "agrees with the sorted list", models },
        { "two views make one", sums_of_views },
        { "nothing is lost among threads", threads },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("histogram", cases);
}
