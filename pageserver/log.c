/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"

#define LINE_BYTES_MAX 1024

void log_init(struct log *log, bool quiet)
{
        memset(log, 0, sizeof(*log));
        log->quiet = quiet;
        lock_init(&log->lock);
}

void log_fini(struct log *log)
{
        lock_fini(&log->lock);
}

static bool admit_locked(struct log *log, unsigned most, unsigned *ret_left_out)
        REQUIRES(log->lock)
{
        uint64_t second = clock_now_ns() / NS_PER_SEC;

        if (second != log->second) {
                log->second = second;
                log->lines = 0;
        }
        if (log->lines >= most) {
                log->left_out++;
                return false;
        }
        log->lines++;
        *ret_left_out = log->left_out;
        log->left_out = 0;
        return true;
}

static void print(struct log *log, unsigned most, const char *fmt, va_list ap)
        __attribute__((format(printf, 3, 0)));

/* most: lines of this second, of all kinds, beyond which this one is left out */
static void print(struct log *log, unsigned most, const char *fmt, va_list ap)
{
        char line[LINE_BYTES_MAX];
        unsigned left_out = 0;

        vsnprintf(line, sizeof(line), fmt, ap);
        lock_acquire(&log->lock);
        bool admitted = admit_locked(log, most, &left_out);
        lock_release(&log->lock);
        if (left_out)
                fprintf(stderr, "pageserver: (%u lines left out)\n", left_out);
        if (admitted)
                fprintf(stderr, "pageserver: %s\n", line);
}

void log_line(struct log *log, const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        print(log, LOG_LINES_PER_SEC, fmt, ap);
        va_end(ap);
}

void log_note(struct log *log, const char *fmt, ...)
{
        va_list ap;

        if (log->quiet)
                return;
        va_start(ap, fmt);
        print(log, LOG_NOTES_PER_SEC, fmt, ap);
        va_end(ap);
}
