/* SPDX-License-Identifier: Apache-2.0 */
/* rate.h - how fast work in the background may go, as people and programs say it.
 *
 * Threads: pure functions.
 * Errors:  -EINVAL, or -EBADMSG for JSON; *ret is written on success only.
 */
#ifndef COMMON_RATE_H
#define COMMON_RATE_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/* bytes per second */
#define RATE_OFF 0ull
#define RATE_UNLIMITED UINT64_MAX

/* SET ends a pause; RESUME goes on at the rate of before. */
enum rate_what { RATE_SET, RATE_PAUSE, RATE_RESUME };

struct rate_order {
        enum rate_what what;
        uint64_t rate;                  /* SET */
};

/* "on", "off", or bytes per second with K, M, G */
int rate_parse(const char *text, uint64_t *ret, struct err *e);
/* the same, or "pause", or "resume" */
int rate_order_parse(const char *text, struct rate_order *ret, struct err *e);
/* {"rate": TEXT}, or a number of bytes per second; what comes from a socket */
int rate_order_parse_json(const char *body, size_t bytes, struct rate_order *ret,
                          struct err *e);

/* "on", "off", "limited" */
const char *rate_name(uint64_t rate);

#endif
