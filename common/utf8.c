/* SPDX-License-Identifier: Apache-2.0 */
#include "common/utf8.h"

#include <stdint.h>
#include <string.h>

#include "common/check.h"

/* Which second bytes are allowed behind a first byte: the table of well-formed
 * sequences of the Unicode standard (3-7). All later ones are 80..BF. */
static const struct form {
        uint8_t first_low, first_high;
        uint8_t second_low, second_high;
        uint8_t bytes;
} forms[] = {
        { 0xc2, 0xdf, 0x80, 0xbf, 2 },
        { 0xe0, 0xe0, 0xa0, 0xbf, 3 },          /* not longer than needed */
        { 0xe1, 0xec, 0x80, 0xbf, 3 },
        { 0xed, 0xed, 0x80, 0x9f, 3 },          /* no surrogates */
        { 0xee, 0xef, 0x80, 0xbf, 3 },
        { 0xf0, 0xf0, 0x90, 0xbf, 4 },
        { 0xf1, 0xf3, 0x80, 0xbf, 4 },
        { 0xf4, 0xf4, 0x80, 0x8f, 4 },          /* not beyond 10FFFF */
};

/* bytes of the character at p, 0 = none begins there; p ends in a NUL */
static size_t character(const uint8_t *p)
{
        size_t n = 1;

        if (*p < 0x80)
                return 1;
        for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
                const struct form *f = &forms[i];

                if (p[0] < f->first_low || p[0] > f->first_high)
                        continue;
                if (p[1] < f->second_low || p[1] > f->second_high)
                        return 0;
                for (n = 2; n < f->bytes; n++) {
                        if ((p[n] & 0xc0) != 0x80)
                                return 0;
                }
                return n;
        }
        return 0;
}

char *utf8_mend(const char *text, char *ret, size_t room)
{
        const uint8_t *from = (const uint8_t *)text;
        size_t at = 0;

        ASSERT(room > 0);
        while (*from) {
                size_t n = character(from);

                if (at + MAX(n, 1u) >= room)
                        break;
                if (n == 0)
                        ret[at] = '?';
                else
                        memcpy(ret + at, from, n);
                at += MAX(n, 1u);
                from += MAX(n, 1u);
        }
        ret[at] = '\0';
        return ret;
}
