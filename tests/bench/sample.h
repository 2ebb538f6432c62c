/* SPDX-License-Identifier: Apache-2.0 */
/* sample.h - times of one thing that was done many times.
 *
 * Ownership: the caller's; sample_free() lets go of the times.
 * Threads:   one at a time per sample.
 * Errors:    a benchmark without memory ends (ASSERT).
 */
#ifndef TESTS_BENCH_SAMPLE_H
#define TESTS_BENCH_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

struct sample {
        uint64_t *ns;
        size_t n;
        size_t room;
};

void sample_add(struct sample *s, uint64_t ns);
void sample_free(struct sample *s);
/* The time that so many percent are not above; sorts. 0 of an empty sample. */
uint64_t sample_part(struct sample *s, unsigned percent);

/* 0, 1 ... n-1 in an order that depends on seed alone; the caller frees it. */
uint32_t *sample_shuffle(size_t n, uint64_t seed);

#endif
