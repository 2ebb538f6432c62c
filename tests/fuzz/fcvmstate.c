/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: no bytes that claim to be a vmstate file, and no FC-REGIONS section, make the
 *       parsers misbehave; what is taken keeps the rules of fcregions.h and survives the
 *       section.
 * Method: the input as it is, and, since hardly any has the right CRC, with that. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/wire/fcvmstate.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/fc-kit.h"

static void judge_regions(const struct fc_regions *r)
{
        uint8_t buf[FC_REGIONS_BYTES_MAX];
        struct fc_regions back;
        uint64_t sum = 0, end = 0;

        ASSERT(r->n >= 1 && r->n <= FC_REGIONS_MAX);
        for (uint32_t i = 0; i < r->n; i++) {
                ASSERT(r->at[i].gpa >= end && r->at[i].bytes > 0);
                ASSERT(r->at[i].bytes <= FC_GPA_END - r->at[i].gpa);
                ASSERT(r->at[i].file_offset == sum);
                end = r->at[i].gpa + r->at[i].bytes;
                sum += r->at[i].bytes;
        }
        ASSERT(sum == fc_regions_bytes(r));
        ASSERT(fc_regions_decode(buf, fc_regions_encode(r, buf), &back, NULL) == 0);
        ASSERT(!memcmp(r, &back, sizeof(back)));
}

static void parse(const uint8_t *data, size_t n)
{
        struct fc_vmstate v;
        struct err e = { 0 };
        int rc = fc_vmstate_parse(data, n, &v, &e);

        ASSERT(rc == 0 || (rc == -EBADMSG && e.code == rc && e.text[0]));
        if (rc < 0)
                return;
        ASSERT(fc_vmstate_writer(&v)[0]);
        ASSERT(v.has_regions == (v.regions.n > 0));
        if (v.has_regions)
                judge_regions(&v.regions);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        AUTO_FREE uint8_t *sealed = malloc(n + 8);
        struct fc_regions r;

        if (!sealed)
                return 0;
        if (n > 0)
                memcpy(sealed, data, n);
        fc_kit_seal(sealed, n + 8);
        parse(data, n);
        parse(sealed, n + 8);
        if (fc_regions_decode(data, n, &r, NULL) == 0)
                judge_regions(&r);
        return 0;
}
