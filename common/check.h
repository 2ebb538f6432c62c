/* SPDX-License-Identifier: Apache-2.0 */
/* check.h - assertions that stay on in release builds.
 *
 * ASSERT is for our own bugs only; what comes from outside (files, peers,
 * kernel) is an err. The condition has no side effects.
 */
#ifndef COMMON_CHECK_H
#define COMMON_CHECK_H

#include <assert.h>
#include <stddef.h>

#define ASSERT(cond) \
        ((cond) ? (void)0 : check_failed(#cond, __FILE__, __LINE__))

/* Prints what was expected and where, then aborts. */
void check_failed(const char *cond, const char *file, int line)
        __attribute__((noreturn, cold));

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/* a: a power of two */
#define ALIGN_DOWN(x, a) ((x) & ~((uint64_t)(a) - 1))
#define ALIGN_UP(x, a) ALIGN_DOWN((x) + ((uint64_t)(a) - 1), (a))
#define IS_ALIGNED(x, a) (((x) & ((uint64_t)(a) - 1)) == 0)
#define DIV_ROUND_UP(x, n) (((x) + (n) - 1) / (n))

#endif
