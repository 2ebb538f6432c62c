/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: pages and units are numbered without gaps, and back; what was not sent is found as
 *       a model finds it; what QEMU says it has counts for whole pages only.
 * Method: blocks of small and huge pages, of sizes that are no whole units. */
#include "pageserver/adapters/qemu/hostpages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "pageserver/adapters/qemu/recover.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

#define P 4096ull
#define HUGE_BYTES (2ull << 20)
#define CLUSTER 16384u

/* 3 huge pages, 7 pages, 1 page */
static void make(struct qemu_blocks *b, struct hostpages *h)
{
        static const struct {
                const char *name;
                uint64_t bytes, page_size, gpa;
        } rows[] = {
                { "huge", 3 * HUGE_BYTES, HUGE_BYTES, 0 },
                { "small", 7 * P, P, 16 * HUGE_BYTES },
                { "one", P, P, 17 * HUGE_BYTES },
        };
        int rc = 0;

        *b = (struct qemu_blocks){ .disk_bytes = 18 * HUGE_BYTES };
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                rc |= qemu_blocks_add(b, rows[i].name, strlen(rows[i].name), rows[i].bytes, NULL);
                b->at[i].page_size = (uint32_t)rows[i].page_size;
                b->at[i].n_extents = 1;
                b->at[i].extents[0] = (struct qemu_extent){ 0, rows[i].gpa, rows[i].bytes };
        }
        rc |= qemu_blocks_seal(b, P, NULL);
        rc |= hostpages_init(h, b, P, CLUSTER, NULL);
        ASSERT(rc == 0);
}

static void fini(struct qemu_blocks *b, struct hostpages *h)
{
        hostpages_fini(h);
        qemu_blocks_fini(b);
}

static void numbers(void)
{
        struct qemu_blocks b;
        struct hostpages h;

        make(&b, &h);
        CU_ASSERT_EQUAL(h.pages, 3 + 7 + 1);
        CU_ASSERT_EQUAL(h.units, 3 + 2 + 1);
        CU_ASSERT_EQUAL(h.largest_unit_bytes, HUGE_BYTES);
        CU_ASSERT_EQUAL(hostpages_page(&h, 0, 2 * HUGE_BYTES + 5 * P), 2);
        CU_ASSERT_EQUAL(hostpages_page(&h, 1, 6 * P), 3 + 6);
        CU_ASSERT_EQUAL(hostpages_unit(&h, 1, 4 * P), 3 + 1);
        CU_ASSERT_EQUAL(hostpages_unit(&h, 2, 0), 5);
        CU_ASSERT_EQUAL(hostpages_units_end(&h, 1), 5);
        CU_ASSERT_EQUAL(hostpages_units_end(&h, 2), 6);
        for (uint64_t page = 0; page < h.pages; page++) {
                struct hostpages_span s = hostpages_page_span(&h, page);

                CU_ASSERT_EQUAL(hostpages_page(&h, s.block, s.offset), page);
                CU_ASSERT_EQUAL(s.bytes, b.at[s.block].page_size);
        }
        fini(&b, &h);
}

static void units_are_cut_at_the_end(void)
{
        struct qemu_blocks b;
        struct hostpages h;
        struct hostpages_span s;

        make(&b, &h);
        s = hostpages_unit_span(&h, 3, 2);
        CU_ASSERT(s.block == 1 && s.offset == 0 && s.bytes == 7 * P);
        s = hostpages_unit_span(&h, 4, 1);
        CU_ASSERT(s.block == 1 && s.offset == 4 * P && s.bytes == 3 * P);
        s = hostpages_unit_span(&h, 5, 1);
        CU_ASSERT(s.block == 2 && s.offset == 0 && s.bytes == P);
        s = hostpages_unit_span(&h, 1, 2);
        CU_ASSERT(s.block == 0 && s.offset == HUGE_BYTES && s.bytes == 2 * HUGE_BYTES);
        fini(&b, &h);
}

static void what_was_not_sent(void)
{
        for (unsigned sent = 0; sent < 1u << 7; sent++) {
                struct qemu_blocks b;
                struct hostpages h;
                struct hostpages_span s = { 0 };
                unsigned found = 0;

                make(&b, &h);
                for (unsigned i = 0; i < 7; i++) {
                        if (sent >> i & 1)
                                bits_set(&h.sent, 3 + i);
                }
                while (s.offset + s.bytes < 7 * P &&
                       hostpages_unsent(&h, 1, s.offset + s.bytes, &s)) {
                        for (uint64_t p = s.offset / P; p < (s.offset + s.bytes) / P; p++)
                                found |= 1u << p;
                        CU_ASSERT(s.bytes > 0 && s.block == 1);
                }
                CU_ASSERT_EQUAL(found, ~sent & 0x7f);
                fini(&b, &h);
        }
}

static void nothing_is_no_machine(void)
{
        struct qemu_blocks none = { 0 };
        struct hostpages h;

        CU_ASSERT_EQUAL(hostpages_init(&h, &none, P, CLUSTER, NULL), -EBADMSG);
        hostpages_fini(&h);
}

/* a page of which one part is missing is missing */
static void what_qemu_has(void)
{
        uint8_t huge[3 * HUGE_BYTES / P / 8], small[8] = { 0x4a };
        struct qemu_blocks b;
        struct hostpages h;

        make(&b, &h);
        memset(huge, 0xff, sizeof(huge));
        huge[512 / 8 + 3] = 0xef;
        recover_mark(&h, 0, huge);
        recover_mark(&h, 1, small);
        CU_ASSERT(bits_test(&h.sent, 0) && !bits_test(&h.sent, 1) && bits_test(&h.sent, 2));
        for (unsigned i = 0; i < 7; i++)
                CU_ASSERT_EQUAL(bits_test(&h.sent, 3 + i), 0x4a >> i & 1);
        CU_ASSERT(!bits_test(&h.sent, 10));
        fini(&b, &h);
}

static const CU_TestInfo cases[] = {
        { "pages and units are numbered", numbers },
        { "units are cut at the end", units_are_cut_at_the_end },
        { "what was not sent, against a model", what_was_not_sent },
        { "a machine has RAM", nothing_is_no_machine },
        { "what QEMU says it has", what_qemu_has },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("qemu-hostpages", cases);
}
