/* SPDX-License-Identifier: Apache-2.0 */
/* sum.h - the checksum of this store: XXH3-64 keyed with the file's seed.
 *
 * 0 stands for "all zero, not stored"; a computed 0 becomes 1. The seed is
 * random per file and unknown to guests: equal unseeded sums can be forged.
 */
#ifndef QCOWSTORE_SUM_H
#define QCOWSTORE_SUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

uint64_t sum_bytes(const void *data, size_t bytes, uint64_t seed);

/* at memory speed */
bool sum_all_zero(const void *data, size_t bytes);

#endif
