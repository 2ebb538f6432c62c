/* SPDX-License-Identifier: Apache-2.0 */
/* Header and our extension. What passes is in range, and comes back the same
 * from our own encoder. */
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "qcowstore/imghdr.h"
#include "tests/fuzz/fuzz.h"

static void look(const uint8_t *data, size_t n)
{
        struct imghdr h;
        struct imghdr again;
        uint8_t one[LAYOUT_SECTOR_BYTES];
        uint8_t two[LAYOUT_SECTOR_BYTES];
        struct err e = { 0 };

        if (imghdr_parse(data, n, &h, &e) < 0) {
                ASSERT(e.text[0]);
                return;
        }
        ASSERT(h.cluster_bits >= (h.format_version ? 12 : 9) && h.cluster_bits <= 21);
        ASSERT(imghdr_l1_entries(&h, h.disk_bytes) <= h.l1_entries);
        ASSERT(h.backing_offset + h.backing_bytes <= 1ull << h.cluster_bits);
        if (!h.format_version)
                return;
        imghdr_encode(&h, one);

        int rc = imghdr_parse(one, sizeof(one), &again, NULL);

        ASSERT(rc == 0);
        imghdr_encode(&again, two);
        ASSERT(memcmp(one, two, sizeof(one)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        look(data, n);
        if (n >= LAYOUT_SECTOR_BYTES) {         /* past the sum */
                uint8_t *copy = malloc(n);

                ASSERT(copy);
                memcpy(copy, data, n);
                imghdr_seal(copy);
                look(copy, n);
                free(copy);
        }
        return 0;
}
