/* SPDX-License-Identifier: Apache-2.0 */
#include "common/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/check.h"

__attribute__((format(printf, 3, 0)))
static int fill(struct err *e, int errnum, const char *fmt, va_list ap)
{
        ASSERT(errnum > 0);
        if (e) {
                e->code = -errnum;
                vsnprintf(e->text, sizeof(e->text), fmt, ap);
        }
        return -errnum;
}

int err_set(struct err *e, int errnum, const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        int rc = fill(e, errnum, fmt, ap);
        va_end(ap);
        if (e) {
                char why[128];
                size_t at = strlen(e->text);

                snprintf(e->text + at, sizeof(e->text) - at, ": %s",
                         strerror_r(errnum, why, sizeof(why)));
        }
        return rc;
}

int err_msg(struct err *e, int errnum, const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        int rc = fill(e, errnum, fmt, ap);
        va_end(ap);
        return rc;
}

int err_in(struct err *e, int rc, const char *fmt, ...)
{
        if (!e)
                return rc;

        char inner[ERR_TEXT_MAX];
        va_list ap;

        memcpy(inner, e->text, sizeof(inner));
        va_start(ap, fmt);
        vsnprintf(e->text, sizeof(e->text), fmt, ap);
        va_end(ap);

        size_t at = strlen(e->text);

        snprintf(e->text + at, sizeof(e->text) - at, ": %s", inner);
        e->code = rc;
        return rc;
}

void err_print(const char *program, const struct err *e)
{
        fprintf(stderr, "%s: %s\n", program, e->text);
}
