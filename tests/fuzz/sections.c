/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: no bytes that another process claims to be a VM's state make the parser
 *   misbehave; what is taken lies inside the buffer, and is written again byte by byte.
 * Method: libFuzzer, or mutations of one good buffer (mutate.h). */
#include <errno.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/wire/sections.h"
#include "tests/fuzz/mutate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
        struct section s[SECTIONS_MAX];
        size_t n = 99;
        int rc = sections_decode(data, bytes, s, &n);

        ASSERT(rc == 0 || ((rc == -EBADMSG || rc == -ENOTSUP) && n == 99));
        if (rc < 0)
                return 0;
        ASSERT(n <= SECTIONS_MAX);
        for (size_t i = 0; i < n; i++) {
                const uint8_t *at = s[i].data;

                ASSERT(at >= data && (size_t)(at - data) + s[i].bytes <= bytes);
                ASSERT(sections_find(s, n, s[i].name) == &s[i]);
        }
        ASSERT(sections_bytes(s, n) == bytes);

        AUTO_FREE uint8_t *again = malloc(bytes);

        ASSERT(again != NULL);
        sections_encode(s, n, again);
        ASSERT(memcmp(again, data, bytes) == 0);
        return 0;
}

#ifndef FUZZ_WITH_LIBFUZZER

int main(int argc, char **argv)
{
        const struct section s[] = {
                { .name = "META", .data = "{\"version\":1}", .bytes = 13 },
                { .name = "KVM", .data = "{}", .bytes = 2 },
                { .name = "BLOB", .data = "\0\1\2\3", .bytes = 4 },
                { .name = "EMPTY" },
        };
        size_t bytes = sections_bytes(s, ARRAY_SIZE(s));
        AUTO_FREE uint8_t *good = malloc(bytes);

        ASSERT(good != NULL);
        sections_encode(s, ARRAY_SIZE(s), good);
        return mutate_main(argc, argv, good, bytes);
}

#endif
