/* SPDX-License-Identifier: Apache-2.0 */
/* store-flip.h - a file with one bit changed at a time: every bit of its first
 * sector and of each byte of tables that is not zero, one bit of every seventh
 * byte of the rest (a sum sees all bytes alike); with STORE_EXHAUSTIVE set, every
 * bit. */
#ifndef TESTS_UNIT_STORE_FLIP_H
#define TESTS_UNIT_STORE_FLIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* a page of the file, for what is in use */
#define FLIP_PAGE 4096u

/* Is the change seen? read: look at it in all ways, which takes longer. */
typedef bool flip_fn(void *ctx, int fd, bool read);

/* in_use: per page; NULL = all. The number of changes that were not seen, each
 * of them printed. */
unsigned flip_all(const uint8_t *bytes, size_t n, const bool *in_use, flip_fn *noticed,
                  void *ctx);

#endif
