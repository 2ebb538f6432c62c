/* SPDX-License-Identifier: Apache-2.0 */
/* log.h - one line on stderr per event, not more than a reader can bear.
 *
 * Notes are what goes as it should; a private server keeps them to itself, because
 * its stderr is its monitor's.
 *
 * What a client can cause without end is cut to LOG_LINES_PER_SEC, and the lines
 * left out are counted in the next one. Notes leave room for what goes wrong.
 *
 * Threads: any. log->lock is a leaf.
 */
#ifndef PAGESERVER_LOG_H
#define PAGESERVER_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "common/lock.h"

#define LOG_LINES_PER_SEC 20
#define LOG_NOTES_PER_SEC 10

struct log {
        bool quiet;                             /* constant: no notes */
        struct lock lock;
        uint64_t second GUARDED_BY(lock);
        unsigned lines GUARDED_BY(lock);
        unsigned left_out GUARDED_BY(lock);
};

void log_init(struct log *log, bool quiet);
void log_fini(struct log *log);
void log_line(struct log *log, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void log_note(struct log *log, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
