/* SPDX-License-Identifier: Apache-2.0 */
#include "common/size.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

int size_parse(const char *text, uint64_t *ret_bytes)
{
        static const char units[] = "kmgt";
        char *end;

        if (!isdigit((unsigned char)text[0]))
                return -EINVAL;
        errno = 0;

        uint64_t n = strtoull(text, &end, 10);

        if (errno)
                return -ERANGE;

        unsigned shift = 0;

        if (*end) {
                const char *u = strchr(units, tolower((unsigned char)*end));

                if (!u)
                        return -EINVAL;
                shift = 10 * (unsigned)(u - units + 1);
                end++;
                if (*end && strcasecmp(end, "ib") && strcasecmp(end, "b"))
                        return -EINVAL;
        }
        if (shift && n > UINT64_MAX >> shift)
                return -ERANGE;
        *ret_bytes = n << shift;
        return 0;
}

const char *size_text(uint64_t bytes, char *buf)
{
        static const char *const unit[] = { "bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
        unsigned u = 0;
        double v = (double)bytes;

        while (v >= 1024 && u < 6) {
                v /= 1024;
                u++;
        }
        snprintf(buf, SIZE_TEXT_MAX, v < 10 && u > 0 && v != (double)(uint64_t)v ?
                 "%.1f %s" : "%.0f %s", v, unit[u]);
        return buf;
}
