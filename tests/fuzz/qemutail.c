/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: whatever a tail is, what is split off it lies within it; only the last byte makes it
 *       whole, and where the end is does not depend on what stands before.
 * Method: bit 0 of the first byte says whether there are footers. */
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/wire/qemutail.h"
#include "tests/fuzz/fuzz.h"

/* A model that knows no trick: the last place that can be an end. */
static size_t find_end(const uint8_t *p, size_t n)
{
        for (size_t at = n; at-- > 1;) {
                size_t left = n - at;

                if (left > 7 && p[at] == 0 && p[at + 1] == 6 && p[at + 6] == '{' &&
                    (((size_t)p[at + 2] << 24) | ((size_t)p[at + 3] << 16) |
                     ((size_t)p[at + 4] << 8) | p[at + 5]) == left - 6 && p[n - 1] == '}' &&
                    !memchr(p + at + 6, 0, left - 6))
                        return at;
        }
        return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        struct qemutail t, same;
        bool footers = n > 0 && data[0] & 1;
        const uint8_t *tail = data + (n > 0);
        size_t bytes = n - (n > 0);
        size_t end = find_end(tail, bytes);

        switch (qemutail_split(tail, bytes, footers, &t)) {
        case QEMUTAIL_OPEN:
                ASSERT(end == 0 || (footers && (end < 6 || tail[end - 5] != 0x7e)));
                break;
        case QEMUTAIL_BARE:
                ASSERT(t.devices_bytes == bytes - 1 && t.devices_bytes > 0 && !t.desc_bytes);
                break;
        case QEMUTAIL_WHOLE:
                ASSERT(t.devices_bytes == end && t.desc_at == end + 6);
                ASSERT(t.desc_at + t.desc_bytes == bytes);
                ASSERT(qemutail_split(tail, bytes - 1, footers, &same) != QEMUTAIL_WHOLE);
                break;
        }
        return 0;
}
