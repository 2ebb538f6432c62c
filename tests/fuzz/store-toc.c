/* SPDX-License-Identifier: Apache-2.0 */
/* The table of sections: u8 cluster size, u64 size of the VM state, table.
 * What passes lies within the VM state and does not overlap. */
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"
#include "qcowstore/sectoc.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        uint8_t buf[SECTOC_BYTES] = { 0 };
        struct sectoc toc;

        if (n < 9)
                return 0;
        memcpy(buf, data + 9, n - 9 < sizeof(buf) ? n - 9 : sizeof(buf));

        unsigned bits = 12 + data[0] % 10;
        uint64_t state = get_le64(data + 1) >> 2;
        uint64_t end = 1ull << bits;

        if (sectoc_parse(buf, bits, state, &toc, NULL) < 0)
                return 0;
        for (unsigned i = 0; i < toc.count; i++) {
                const struct section *s = &toc.section[i];

                ASSERT(sectoc_name_ok(s->name));
                ASSERT(s->offset >= end);
                end = s->offset + sectoc_extent(s, bits);
                ASSERT(end >= s->offset && end <= state + (1ull << bits));
        }
        return 0;
}
