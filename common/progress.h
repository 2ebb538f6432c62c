/* SPDX-License-Identifier: Apache-2.0 */
/* progress.h - one line on a terminal that says how far long work is.
 *
 *      verify  42 % [#################                        ]  1.2 GiB/s
 *
 * Redrawn at most ten times a second, first after a tenth of one, so that short
 * work shows nothing; cleared at the end. Where there is no terminal nothing is
 * drawn. Other lines for the same descriptor go through progress_say(), or
 * they would end up behind the bar.
 *
 * Ownership: in place, the caller's; `what` must live as long. The descriptor
 *            is not closed.
 * Threads:   any, after progress_init().
 * Errors:    none; a terminal that cannot be written to shows nothing.
 */
#ifndef COMMON_PROGRESS_H
#define COMMON_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/lock.h"

struct progress {
        /* constant after progress_init() */
        const char *what;
        int fd;
        bool terminal;
        uint64_t start_ns;
        struct lock lock;
        uint64_t drawn_ns GUARDED_BY(lock);     /* the last time */
        bool visible GUARDED_BY(lock);
};

/* wanted false: nothing is drawn, terminal or not */
void progress_init(struct progress *p, const char *what, int fd, bool wanted);
/* clears the line */
void progress_fini(struct progress *p);
void progress_show(struct progress *p, uint64_t done_bytes, uint64_t total_bytes);
/* "<fmt>\n", terminal or not */
void progress_say(struct progress *p, const char *fmt, ...)
        __attribute__((format(printf, 2, 3)));

#endif
