/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: no text that claims to be Firecracker's handshake makes the parser misbehave;
 *       what is taken keeps the rules of fcuffd.h and means the same when it is
 *       written and read again; what is whole was incomplete before its last byte. */
#include <errno.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/wire/fcuffd.h"
#include "tests/fuzz/fuzz.h"

static void keeps_the_rules(const struct fc_region *r, size_t n)
{
        uint64_t sum = 0;

        ASSERT(n >= 1 && n <= FC_REGIONS_MAX);
        for (size_t i = 0; i < n; i++) {
                ASSERT(r[i].page_bytes == 4096 || r[i].page_bytes == 2u << 20);
                ASSERT(r[i].page_bytes == r[0].page_bytes);
                ASSERT(r[i].bytes > 0 && r[i].bytes % r[i].page_bytes == 0);
                ASSERT(r[i].hva % r[i].page_bytes == 0);
                ASSERT(r[i].hva < FC_HVA_END && r[i].bytes <= FC_HVA_END - r[i].hva);
                ASSERT(r[i].file_offset == sum);
                sum += r[i].bytes;
                for (size_t k = 0; k < i; k++)
                        ASSERT(r[k].hva + r[k].bytes <= r[i].hva ||
                               r[i].hva + r[i].bytes <= r[k].hva);
        }
}

static void survives_the_wire(const struct fc_region *r, size_t n)
{
        struct fc_region back[FC_REGIONS_MAX];
        AUTO_FREE char *text = NULL;
        size_t len, nback = 0;

        ASSERT(fc_hello_format(r, n, FC_HELLO_BOTH, &text, &len, NULL) == 0);
        ASSERT(fc_hello_parse(text, len - 1, back, &nback, NULL) == -EAGAIN);
        ASSERT(fc_hello_parse(text, len, back, &nback, NULL) == 0);
        ASSERT(nback == n);
        for (size_t i = 0; i < n; i++)
                ASSERT(back[i].hva == r[i].hva && back[i].bytes == r[i].bytes &&
                       back[i].file_offset == r[i].file_offset &&
                       back[i].page_bytes == r[i].page_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        struct fc_region r[FC_REGIONS_MAX];
        struct err e = { 0 };
        size_t nr = 0;
        int rc = fc_hello_parse((const char *)data, n, r, &nr, &e);

        ASSERT(rc == 0 || rc == -EAGAIN || rc == -EBADMSG);
        ASSERT(rc == 0 || (e.code == rc && e.text[0] && nr == 0));
        if (rc < 0)
                return 0;
        keeps_the_rules(r, nr);
        survives_the_wire(r, nr);
        return 0;
}
