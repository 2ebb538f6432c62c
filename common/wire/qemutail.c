/* SPDX-License-Identifier: Apache-2.0 */
#include "common/wire/qemutail.h"

#include <string.h>

#include "common/bytes.h"
#include "common/check.h"
#include "common/wire/qemuwire.h"

/* EOF, VMDESC, be32 length */
#define DESC_HEAD_BYTES 6u

/* Whether device state can end before tail[at]. */
static bool ends_section(const uint8_t *tail, size_t at, bool footers)
{
        if (!footers)
                return at > 0;
        return at > QEMU_FOOTER_BYTES && tail[at - QEMU_FOOTER_BYTES] == QEMU_FOOTER;
}

static bool is_end(const uint8_t *tail, size_t bytes, size_t at, bool footers)
{
        const uint8_t *p = tail + at;
        size_t left = bytes - at;

        return left > DESC_HEAD_BYTES + 1 && p[0] == QEMU_EOF && p[1] == QEMU_VMDESC &&
               get_be32(p + 2) == left - DESC_HEAD_BYTES && p[DESC_HEAD_BYTES] == '{' &&
               tail[bytes - 1] == '}' && ends_section(tail, at, footers);
}

enum qemutail_end qemutail_split(const uint8_t *tail, size_t bytes, bool footers,
                                 struct qemutail *ret)
{
        const uint8_t *nul = bytes ? memrchr(tail, '\0', bytes) : NULL;

        if (!nul)
                return QEMUTAIL_OPEN;

        size_t last = (size_t)(nul - tail);

        for (size_t back = 0; back < DESC_HEAD_BYTES && back <= last; back++) {
                size_t at = last - back;

                if (!is_end(tail, bytes, at, footers))
                        continue;
                *ret = (struct qemutail){ at, at + DESC_HEAD_BYTES, bytes - at - DESC_HEAD_BYTES };
                return QEMUTAIL_WHOLE;
        }
        if (last != bytes - 1 || !ends_section(tail, last, footers))
                return QEMUTAIL_OPEN;
        *ret = (struct qemutail){ last, bytes, 0 };
        return QEMUTAIL_BARE;
}
