/* SPDX-License-Identifier: Apache-2.0 */
/* histogram.h - how often something took how long, counted without a lock.
 *
 * Use:       embed struct histogram; all zeros is an empty one. To look at it,
 *            histogram_read() a view and ask that.
 * Ownership: fixed size, allocates nothing.
 * Threads:   add and read from any thread at any time, without waiting. A view is
 *            its owner's.
 * Errors:    none can fail.
 */
#ifndef COMMON_HISTOGRAM_H
#define COMMON_HISTOGRAM_H

#include <stdint.h>

/* Bucket 0 holds 0..256 ns. From there every power of two is cut into four equal
 * buckets, so that what a bucket holds is known to a quarter; the last one holds
 * all above 137 s. A bucket's upper bound belongs to it. */
#define HISTOGRAM_FIRST_BITS 8u
#define HISTOGRAM_LAST_BITS 37u
#define HISTOGRAM_PARTS 4u
#define HISTOGRAM_BUCKETS \
        (2u + (HISTOGRAM_LAST_BITS - HISTOGRAM_FIRST_BITS) * HISTOGRAM_PARTS)

struct histogram {
        _Atomic uint64_t bucket[HISTOGRAM_BUCKETS];
        _Atomic uint64_t sum_ns;
        _Atomic uint64_t max_ns;
};

/* What was there at one moment, more or less: an add that is under way may be in
 * some of the fields only. INV-AGREE: count is the sum of the buckets, and max_ns
 * lies in the last bucket that is not empty. */
struct histogram_view {
        uint64_t bucket[HISTOGRAM_BUCKETS];
        uint64_t count;
        uint64_t sum_ns;
        uint64_t max_ns;                /* 0 when count is 0 */
};

void histogram_add(struct histogram *h, uint64_t ns);
void histogram_read(const struct histogram *h, struct histogram_view *ret);

/* adds what another one counted */
void histogram_view_add(struct histogram_view *sum, const struct histogram_view *more);

/* The shortest permille/1000 of all took at most this long; too high by at most a
 * quarter (or 256 ns), never above max_ns. 0 of an empty view. permille: 1..1000. */
uint64_t histogram_quantile_ns(const struct histogram_view *v, unsigned permille);

/* the largest that bucket i holds; UINT64_MAX for the last */
uint64_t histogram_bound_ns(unsigned i);
/* How many were at most 2^bits ns, exactly: 2^bits is a bucket's bound.
 * bits: HISTOGRAM_FIRST_BITS..HISTOGRAM_LAST_BITS. */
uint64_t histogram_below(const struct histogram_view *v, unsigned bits);

#endif
