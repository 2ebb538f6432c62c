/* SPDX-License-Identifier: Apache-2.0 */
#include "common/histogram.h"

#include <stdatomic.h>

#include "common/check.h"

/* Theory of operation
 *
 * add() is on the path of every fault: two relaxed additions, and a third access
 * that writes only when a record is broken. Nothing orders them, so a reader may
 * see some without the others. read() therefore trusts the buckets alone: it sums
 * them to get the count and moves the maximum into the last of them that is not
 * empty (INV-AGREE). The sum may be off by what is being added; it only grows, so
 * the next look has it.
 *
 * With v - 1 in place of v a bucket's upper bound falls into the bucket, which is
 * what "le" means to Prometheus.
 */
#define PART_BITS 2u
#define LAST (HISTOGRAM_BUCKETS - 1)

static_assert(HISTOGRAM_PARTS == 1u << PART_BITS, "parts are chosen by bits");
static_assert(HISTOGRAM_FIRST_BITS >= PART_BITS, "parts are whole nanoseconds");

static unsigned bucket_of(uint64_t ns)
{
        if (ns <= 1ull << HISTOGRAM_FIRST_BITS)
                return 0;
        if (ns > 1ull << HISTOGRAM_LAST_BITS)
                return LAST;

        uint64_t v = ns - 1;
        unsigned top = 63u - (unsigned)__builtin_clzll(v);
        unsigned part = (unsigned)(v >> (top - PART_BITS)) & (HISTOGRAM_PARTS - 1);

        return 1 + (top - HISTOGRAM_FIRST_BITS) * HISTOGRAM_PARTS + part;
}

uint64_t histogram_bound_ns(unsigned i)
{
        ASSERT(i < HISTOGRAM_BUCKETS);
        if (i == 0)
                return 1ull << HISTOGRAM_FIRST_BITS;
        if (i == LAST)
                return UINT64_MAX;

        unsigned top = HISTOGRAM_FIRST_BITS + (i - 1) / HISTOGRAM_PARTS;
        uint64_t part = (i - 1) % HISTOGRAM_PARTS;

        return (HISTOGRAM_PARTS + part + 1) << (top - PART_BITS);
}

void histogram_add(struct histogram *h, uint64_t ns)
{
        uint64_t max = atomic_load_explicit(&h->max_ns, memory_order_relaxed);

        atomic_fetch_add_explicit(&h->bucket[bucket_of(ns)], 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&h->sum_ns, ns, memory_order_relaxed);
        while (ns > max && !atomic_compare_exchange_weak_explicit(&h->max_ns, &max, ns,
                                memory_order_relaxed, memory_order_relaxed))
                ;
}

/* INV-AGREE; last: the last bucket that is not empty */
static uint64_t settle_max(uint64_t max_ns, unsigned last)
{
        uint64_t above = last == 0 ? 0 : histogram_bound_ns(last - 1) + 1;

        return MIN(MAX(max_ns, above), histogram_bound_ns(last));
}

void histogram_read(const struct histogram *h, struct histogram_view *ret)
{
        struct histogram_view v = { 0 };
        unsigned last = 0;

        for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
                v.bucket[i] = atomic_load_explicit(&h->bucket[i], memory_order_relaxed);
                v.count += v.bucket[i];
                if (v.bucket[i])
                        last = i;
        }
        v.sum_ns = atomic_load_explicit(&h->sum_ns, memory_order_relaxed);
        if (v.count)
                v.max_ns = settle_max(atomic_load_explicit(&h->max_ns, memory_order_relaxed),
                                      last);
        *ret = v;
}

void histogram_view_add(struct histogram_view *sum, const struct histogram_view *more)
{
        for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
                sum->bucket[i] += more->bucket[i];
        sum->count += more->count;
        sum->sum_ns += more->sum_ns;
        sum->max_ns = MAX(sum->max_ns, more->max_ns);
}

uint64_t histogram_quantile_ns(const struct histogram_view *v, unsigned permille)
{
        ASSERT(permille >= 1 && permille <= 1000);
        if (v->count == 0)
                return 0;

        /* in two parts, so that no count overflows */
        uint64_t rank = v->count / 1000 * permille +
                        DIV_ROUND_UP(v->count % 1000 * permille, 1000u);
        uint64_t below = 0;
        unsigned i = 0;

        while (i < LAST && (below += v->bucket[i]) < rank)
                i++;
        return MIN(histogram_bound_ns(i), v->max_ns);
}

uint64_t histogram_below(const struct histogram_view *v, unsigned bits)
{
        ASSERT(bits >= HISTOGRAM_FIRST_BITS && bits <= HISTOGRAM_LAST_BITS);

        unsigned end = (bits - HISTOGRAM_FIRST_BITS) * HISTOGRAM_PARTS;
        uint64_t n = 0;

        for (unsigned i = 0; i <= end; i++)
                n += v->bucket[i];
        return n;
}
