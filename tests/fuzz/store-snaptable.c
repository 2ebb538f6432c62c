/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot table, entry after entry. Names end, lengths stay inside. */
#include <string.h>

#include "common/check.h"
#include "qcowstore/snaptable.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        size_t at = 0;

        while (at < n) {
                struct snapshot s;
                size_t used;

                if (snaptable_parse(data + at, n - at, 16, &s, &used, NULL) < 0)
                        break;
                ASSERT(used > 0 && used <= n - at);
                ASSERT(strnlen(s.tag, sizeof(s.tag)) < sizeof(s.tag));
                ASSERT(strnlen(s.id, sizeof(s.id)) < sizeof(s.id));
                at += used;
        }
        return 0;
}
