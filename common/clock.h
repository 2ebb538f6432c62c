/* SPDX-License-Identifier: Apache-2.0 */
/* clock.h - monotonic time in nanoseconds, and the timer of named phases. */
#ifndef COMMON_CLOCK_H
#define COMMON_CLOCK_H

#include <stdint.h>

#define NS_PER_US 1000ull
#define NS_PER_MS 1000000ull
#define NS_PER_SEC 1000000000ull

/* CLOCK_MONOTONIC */
uint64_t clock_now_ns(void);
/* CLOCK_REALTIME */
uint64_t clock_wall_ns(void);

#endif
