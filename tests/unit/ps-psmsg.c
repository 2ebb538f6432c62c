/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: every message survives the wire; nothing that is cut, longer, or out of range
 *       is taken.
 * Method: one sample of each type, all its prefixes, an extra byte, and a table of
 *       single wrong fields. */
#include "common/wire/psmsg.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"
#include "common/wire/psfault.h"
#include "tests/unit/suite.h"

static struct psmsg sample(enum psmsg_type type)
{
        struct psmsg m = { .type = type };

        switch (type) {
        case PSMSG_HELLO:
                m.hello = (struct psmsg_hello){
                        .lane = PSMSG_LANE_COPY, .has_cache = true, .has_map = true,
                        .record = true, .removes = true, .has_removed = true,
                        .page_bytes = PSMSG_PAGE_HUGE, .hold_percent = 37,
                        .nimages = PSMSG_IMAGES_MAX,
                        .prefetch_rate = 0x1122334455667788, .tag = "before", .path = "/a b",
                };
                break;
        case PSMSG_WELCOME:
                m.welcome = (struct psmsg_welcome){
                        .lane = PSMSG_LANE_SHARED, .has_map = true, .has_cache = true,
                        .has_removed = true, .cluster_bytes = 65536, .disk_bytes = 1ull << 40,
                };
                break;
        case PSMSG_ERROR:
                m.error = (struct psmsg_error){ .code = -ENOENT, .text = "no such image" };
                break;
        case PSMSG_ATTACH:
                m.attach.reattach = true;
                m.attach.nuffds = 2;
                m.attach.nregions = PSMSG_REGIONS_MAX;
                for (unsigned i = 0; i < PSMSG_REGIONS_MAX; i++)
                        m.attach.region[i] = (struct psmsg_region){
                                .hva = (uint64_t)i << 30, .bytes = 4096 + i, .gpa = i * 9ull,
                                .uffd = i % 2,
                        };
                break;
        case PSMSG_BAD_PAGE:
                m.bad_page = (struct psmsg_bad_page){ .gpa = 1ull << 33, .text = "checksum" };
                break;
        case PSMSG_STATS:
                m.stats = (struct psmsg_stats){
                        .demand_faults = 1, .total_bytes = 2, .fault_ns = { 3, 4, 5 },
                        .resident_ns = 6, .removed_bytes = 7, .demand_max_ns = 8,
                };
                break;
        case PSMSG_PREFETCH:
                m.rate = UINT64_MAX;
                break;
        case PSMSG_LEASE:
        case PSMSG_LEASED:
                m.lease = 0x8877665544332211;
                break;
        default:
                break;
        }
        return m;
}

static void same_after_the_wire(void)
{
        uint8_t a[PSMSG_BYTES_MAX], b[PSMSG_BYTES_MAX];

        for (int type = PSMSG_HELLO; type <= PSMSG_TYPE_LAST; type++) {
                struct psmsg m = sample((enum psmsg_type)type);
                struct psmsg back;
                size_t n = psmsg_encode(&m, a);

                CU_ASSERT_EQUAL(psmsg_decode(a, n, &back), 0);
                CU_ASSERT_EQUAL(back.type, m.type);
                CU_ASSERT_EQUAL(psmsg_encode(&back, b), n);
                CU_ASSERT_EQUAL(memcmp(a, b, n), 0);
                CU_ASSERT_EQUAL(psmsg_fds(&back), psmsg_fds(&m));
        }
}

static void fields_arrive(void)
{
        struct psmsg m = sample(PSMSG_HELLO);
        struct psmsg back;
        uint8_t buf[PSMSG_BYTES_MAX];

        CU_ASSERT_EQUAL(psmsg_decode(buf, psmsg_encode(&m, buf), &back), 0);
        CU_ASSERT_EQUAL(back.hello.lane, PSMSG_LANE_COPY);
        CU_ASSERT_EQUAL(back.hello.hold_percent, 37);
        CU_ASSERT_EQUAL(back.hello.prefetch_rate, 0x1122334455667788);
        CU_ASSERT_STRING_EQUAL(back.hello.tag, "before");
        CU_ASSERT_STRING_EQUAL(back.hello.path, "/a b");
        CU_ASSERT_EQUAL(back.hello.nimages, PSMSG_IMAGES_MAX);
        CU_ASSERT_EQUAL(back.hello.page_bytes, PSMSG_PAGE_HUGE);
        CU_ASSERT_TRUE(back.hello.record && back.hello.removes && back.hello.has_removed);
        CU_ASSERT_EQUAL(psmsg_fds(&back), PSMSG_IMAGES_MAX + 4);
        m = sample(PSMSG_ATTACH);
        CU_ASSERT_EQUAL(psmsg_decode(buf, psmsg_encode(&m, buf), &back), 0);
        CU_ASSERT_EQUAL(memcmp(&back.attach.region[511], &m.attach.region[511],
                               sizeof(m.attach.region[0])), 0);
        m = sample(PSMSG_LEASED);
        CU_ASSERT_EQUAL(psmsg_decode(buf, psmsg_encode(&m, buf), &back), 0);
        CU_ASSERT_EQUAL(back.lease, 0x8877665544332211);
        m.type = PSMSG_LEASE;
        CU_ASSERT_EQUAL(psmsg_fds(&m), 1);
        m = sample(PSMSG_ERROR);
        CU_ASSERT_EQUAL(psmsg_decode(buf, psmsg_encode(&m, buf), &back), 0);
        CU_ASSERT_EQUAL(back.error.code, -ENOENT);
}

/* in a block of just that size, so that a sanitizer sees a read behind it */
static int decode_exact(const uint8_t *buf, size_t n)
{
        uint8_t *copy = malloc(n ? n : 1);
        struct psmsg m;

        ASSERT(copy);
        memcpy(copy, buf, n);
        if (n >= 8)
                put_le32(copy + 4, (uint32_t)n);

        int rc = psmsg_decode(copy, n, &m);

        free(copy);
        return rc;
}

static void cut_or_longer_is_refused(void)
{
        uint8_t buf[PSMSG_BYTES_MAX + 1];

        for (int type = PSMSG_HELLO; type <= PSMSG_TYPE_LAST; type++) {
                struct psmsg m = sample((enum psmsg_type)type);
                size_t n = psmsg_encode(&m, buf);

                for (size_t cut = 0; cut < n; cut++)
                        CU_ASSERT_EQUAL_FATAL(decode_exact(buf, cut), -EBADMSG);
                buf[n] = 0;
                CU_ASSERT_EQUAL(decode_exact(buf, n + 1), -EBADMSG);
        }
}

static void wrong_fields_are_refused(void)
{
        /* offsets in the layout: head 8; HELLO magic 8 version 12 lane 16 flags 17
         * hold 18 images 19 page 20 rate 24 tag 32; ATTACH again 8 nuffds 9 nregions 10,
         * regions of 28 */
        static const struct {
                enum psmsg_type type;
                size_t at;
                uint8_t value;
                int rc;
        } wrong[] = {
                { PSMSG_HELLO, 0, 0, -EBADMSG },        { PSMSG_HELLO, 0, 99, -EBADMSG },
                { PSMSG_HELLO, 2, 1, -EBADMSG },        { PSMSG_HELLO, 4, 7, -EBADMSG },
                { PSMSG_HELLO, 8, 0, -EBADMSG },        { PSMSG_HELLO, 12, 1, -EPROTONOSUPPORT },
                { PSMSG_HELLO, 16, 3, -EBADMSG },       { PSMSG_HELLO, 17, 32, -EBADMSG },
                { PSMSG_HELLO, 18, 101, -EBADMSG },     { PSMSG_HELLO, 32, 64, -EBADMSG },
                { PSMSG_HELLO, 19, 0, -EBADMSG },
                { PSMSG_HELLO, 19, PSMSG_IMAGES_MAX + 1, -EBADMSG },
                { PSMSG_HELLO, 34, 0, -EBADMSG },       /* NUL inside the tag */
                { PSMSG_HELLO, 12, 3, -EPROTONOSUPPORT },
                { PSMSG_HELLO, 17, 16, -EBADMSG },      /* a removed map without removes */
                { PSMSG_HELLO, 20, 1, -EBADMSG },
                { PSMSG_WELCOME, 8, 0, -EBADMSG },      { PSMSG_ERROR, 11, 1, -EBADMSG },
                { PSMSG_ATTACH, 9, 0, -EBADMSG },       { PSMSG_ATTACH, 9, 65, -EBADMSG },
                { PSMSG_ATTACH, 11, 3, -EBADMSG },      { PSMSG_ATTACH, 12 + 24, 2, -EBADMSG },
        };
        uint8_t buf[PSMSG_BYTES_MAX];
        struct psmsg m, back;

        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                m = sample(wrong[i].type);

                size_t n = psmsg_encode(&m, buf);

                buf[wrong[i].at] = wrong[i].value;
                CU_ASSERT_EQUAL(psmsg_decode(buf, n, &back), wrong[i].rc);
        }
}

static void faults_of_a_lease(void)
{
        uint64_t hva[PSFAULT_MAX], back[PSFAULT_MAX];
        uint8_t buf[PSFAULT_BYTES_MAX + 8] = { 0 };

        for (size_t i = 0; i < PSFAULT_MAX; i++)
                hva[i] = 0x7f1234567000 + i;
        for (size_t n = 1; n <= PSFAULT_MAX; n++) {
                CU_ASSERT_EQUAL(psfault_encode(hva, n, buf), n * 8);
                CU_ASSERT_EQUAL(psfault_decode(buf, n * 8, back), n);
                CU_ASSERT_EQUAL(memcmp(hva, back, n * 8), 0);
        }
        for (size_t bytes = 0; bytes <= sizeof(buf); bytes++) {
                bool whole = bytes > 0 && bytes % 8 == 0 && bytes <= PSFAULT_BYTES_MAX;

                CU_ASSERT_EQUAL(psfault_decode(buf, bytes, back),
                                whole ? (int)(bytes / 8) : -EBADMSG);
        }
}

static const CU_TestInfo cases[] = {
        { "a message is the same after the wire", same_after_the_wire },
        { "fields arrive as they were sent", fields_arrive },
        { "what is cut or longer is refused", cut_or_longer_is_refused },
        { "single wrong fields are refused", wrong_fields_are_refused },
        { "the faults of a lease", faults_of_a_lease },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("psmsg", cases);
}
