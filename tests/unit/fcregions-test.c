/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a table of regions keeps its rules whatever it was made of; the layout rule is
 *       that of Firecracker; a section that was changed anywhere is refused or means
 *       what it says.
 * Method: tables of regions, of sizes and of single wrong fields; all prefixes. */
#include "common/wire/fcregions.h"

#include <CUnit/CUnit.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/check.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define TIB (1ull << 40)

static const struct {
        const char *name;
        uint32_t n;
        uint32_t page_bytes;
        struct fc_extent at[3];         /* gpa and size */
        const char *why;                /* NULL = right */
} tables[] = {
        { "one", 1, 0, { { .bytes = MIB } }, NULL },
        { "two side by side", 2, 4096, { { 0, 4096, 0 }, { 4096, 8192, 0 } }, NULL },
        { "to the last byte", 1, 2 * MIB, { { 64 * TIB - 4096, 4096, 0 } }, NULL },
        { "none", 0, 0, { { 0 } }, "0 memory regions" },
        { "too many", FC_REGIONS_MAX + 1, 0, { { 0 } }, "65 memory regions" },
        { "odd pages", 1, 8192, { { .bytes = MIB } }, "pages of 8192" },
        { "empty", 1, 0, { { 0 } }, "memory region 0 at 0: it is empty" },
        { "half a page", 1, 0, { { .bytes = 2048 } }, "whole pages" },
        { "at half a page", 1, 0, { { 2048, 4096, 0 } }, "whole pages" },
        { "overlap", 2, 0, { { 0, 8192, 0 }, { 4096, 4096, 0 } }, "memory region 1 at 0x1000: it "
          "begins below" },
        { "descend", 2, 0, { { 4096, 4096, 0 }, { 0, 4096, 0 } }, "begins below" },
        { "one byte too far", 1, 0, { { 64 * TIB - 4096, 8192, 0 } }, "above 64 TiB" },
        { "at the end", 1, 0, { { 64 * TIB, 4096, 0 } }, "above 64 TiB" },
        { "around zero", 1, 0, { { -4096ull, 8192, 0 } }, "above 64 TiB" },
};

static void rules(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
                struct fc_regions r = { .n = tables[i].n, .page_bytes = tables[i].page_bytes };
                struct err e = { 0 };

                memcpy(r.at, tables[i].at, sizeof(tables[i].at));
                EXPECT_EQUAL(tables[i].name, fc_regions_finish(&r, &e),
                             tables[i].why ? -EBADMSG : 0);
                EXPECT_TEXT(tables[i].name,
                            tables[i].why && strstr(e.text, tables[i].why) ? "" : e.text, "");
        }
}

static const struct {
        const char *name;
        enum fc_arch arch;
        enum fc_layout layout;
        uint64_t bytes;
        bool certain;
        uint32_t n;
        struct fc_extent at[3];
} layouts[] = {
        { "small", FC_ARCH_X86_64, FC_LAYOUT_V1_0, 128 * MIB, true, 1,
          { { 0, 128 * MIB, 0 } } },
        { "3 GiB", FC_ARCH_X86_64, FC_LAYOUT_V1_13, 3 * GIB, true, 1, { { 0, 3 * GIB, 0 } } },
        { "a page more", FC_ARCH_X86_64, FC_LAYOUT_V1_13, 3 * GIB + 4096, false, 2,
          { { 0, 3 * GIB, 0 }, { 4 * GIB, 4096, 3 * GIB } } },
        { "the same before v1.13", FC_ARCH_X86_64, FC_LAYOUT_V1_0, 3 * GIB + 4096, false, 1,
          { { 0, 3 * GIB + 4096, 0 } } },
        { "all below the old hole", FC_ARCH_X86_64, FC_LAYOUT_V1_0, 3328 * MIB, false, 1,
          { { 0, 3328 * MIB, 0 } } },
        { "around the old hole", FC_ARCH_X86_64, FC_LAYOUT_V1_0, 4 * GIB, false, 2,
          { { 0, 3328 * MIB, 0 }, { 4 * GIB, 768 * MIB, 3328 * MIB } } },
        { "255 GiB", FC_ARCH_X86_64, FC_LAYOUT_V1_13, 255 * GIB, false, 2,
          { { 0, 3 * GIB, 0 }, { 4 * GIB, 252 * GIB, 3 * GIB } } },
        { "256 GiB", FC_ARCH_X86_64, FC_LAYOUT_V1_13, 256 * GIB, false, 3,
          { { 0, 3 * GIB, 0 }, { 4 * GIB, 252 * GIB, 3 * GIB }, { 512 * GIB, GIB, 255 * GIB } } },
        { "ARM", FC_ARCH_AARCH64, FC_LAYOUT_V1_0, 4 * GIB, true, 1,
          { { 2 * GIB, 4 * GIB, 0 } } },
        { "large ARM", FC_ARCH_AARCH64, FC_LAYOUT_V1_0, 255 * GIB, false, 1,
          { { 2 * GIB, 255 * GIB, 0 } } },
        { "large ARM of v1.13", FC_ARCH_AARCH64, FC_LAYOUT_V1_13, 255 * GIB, false, 2,
          { { 2 * GIB, 254 * GIB, 0 }, { 512 * GIB, GIB, 254 * GIB } } },
};

static void layout_rule(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(layouts); i++) {
                const char *name = layouts[i].name;
                struct fc_regions r = { 0 };

                EXPECT_EQUAL(name, fc_regions_layout(layouts[i].arch, layouts[i].layout,
                             layouts[i].bytes, &r, NULL), 0);
                EXPECT_EQUAL(name, fc_regions_certain(layouts[i].arch, layouts[i].bytes),
                             layouts[i].certain);
                EXPECT_EQUAL(name, r.n, layouts[i].n);
                EXPECT_EQUAL(name, fc_regions_bytes(&r), layouts[i].bytes);
                for (uint32_t k = 0; k < layouts[i].n; k++) {
                        EXPECT_EQUAL(name, r.at[k].gpa, layouts[i].at[k].gpa);
                        EXPECT_EQUAL(name, r.at[k].bytes, layouts[i].at[k].bytes);
                        EXPECT_EQUAL(name, r.at[k].file_offset, layouts[i].at[k].file_offset);
                }
        }
}

static void odd_sizes_have_no_layout(void)
{
        struct fc_regions r;

        CU_ASSERT_EQUAL(fc_regions_layout(FC_ARCH_X86_64, FC_LAYOUT_V1_0, 0, &r, NULL), -EBADMSG);
        CU_ASSERT_EQUAL(fc_regions_layout(FC_ARCH_X86_64, FC_LAYOUT_V1_0, 4097, &r, NULL),
                        -EBADMSG);
        CU_ASSERT_EQUAL(fc_regions_layout(FC_ARCH_X86_64, FC_LAYOUT_V1_13, 64 * TIB, &r, NULL),
                        -EFBIG);
        CU_ASSERT_EQUAL(fc_regions_layout(FC_ARCH_AARCH64, FC_LAYOUT_V1_0, UINT64_MAX, &r, NULL),
                        -EFBIG);
        CU_ASSERT_FALSE(fc_regions_certain(FC_ARCH_X86_64, 64 * TIB));
}

static struct fc_regions sample(void)
{
        struct fc_regions r;

        ASSERT(fc_regions_layout(FC_ARCH_X86_64, FC_LAYOUT_V1_13, 256 * GIB, &r, NULL) == 0);
        r.page_bytes = 2 * MIB;
        return r;
}

/* in a block of its own size, so that a sanitizer sees what lies behind */
static int decode_exact(const uint8_t *data, size_t bytes, struct fc_regions *ret)
{
        AUTO_FREE uint8_t *copy = malloc(bytes ? bytes : 1);
        struct err e = { 0 };

        ASSERT(copy);
        memcpy(copy, data, bytes);

        int rc = fc_regions_decode(copy, bytes, ret, &e);

        CU_ASSERT_EQUAL(e.code, rc);
        return rc;
}

static void section_round_trip(void)
{
        struct fc_regions r = sample(), back, full = { .n = FC_REGIONS_MAX };
        uint8_t buf[FC_REGIONS_BYTES_MAX + 1] = { 0 };
        size_t n = fc_regions_encode(&r, buf);

        CU_ASSERT_EQUAL(n, 16 + 3 * 24);
        CU_ASSERT_EQUAL_FATAL(decode_exact(buf, n, &back), 0);
        CU_ASSERT_EQUAL(memcmp(&r, &back, sizeof(r)), 0);
        for (size_t cut = 0; cut < n; cut++)
                CU_ASSERT_EQUAL(decode_exact(buf, cut, &back), -EBADMSG);
        CU_ASSERT_EQUAL(decode_exact(buf, n + 1, &back), -EBADMSG);

        for (uint32_t i = 0; i < full.n; i++)
                full.at[i] = (struct fc_extent){ .gpa = i * 8192, .bytes = 4096 };
        CU_ASSERT_EQUAL(fc_regions_finish(&full, NULL), 0);
        n = fc_regions_encode(&full, buf);
        CU_ASSERT_EQUAL(n, FC_REGIONS_BYTES_MAX);
        CU_ASSERT_EQUAL_FATAL(decode_exact(buf, n, &back), 0);
        CU_ASSERT_EQUAL(memcmp(&full, &back, sizeof(full)), 0);
}

static void wrong_sections(void)
{
        /* head: version 0, count 4, pages 8, zero 12; region 1: gpa 40, size 48, offset 56 */
        static const struct {
                const char *name;
                size_t at;
                uint32_t value;
                int rc;
        } rows[] = {
                { "no version", 0, 0, -EBADMSG }, { "a version to come", 0, 2, -ENOTSUP },
                { "fewer", 4, 2, -EBADMSG }, { "more", 4, 4, -EBADMSG },
                { "many more", 4, UINT32_MAX, -EBADMSG }, { "none", 4, 0, -EBADMSG },
                { "pages", 8, 4097, -EBADMSG }, { "not zero", 12, 1, -EBADMSG },
                { "address", 40, 1, -EBADMSG }, { "size", 48, 0x1000, -EBADMSG },
                { "offset", 56, 0x1000, -EBADMSG },
        };
        struct fc_regions r = sample();

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                uint8_t buf[FC_REGIONS_BYTES_MAX];
                struct fc_regions back = { .n = 77 };
                size_t n = fc_regions_encode(&r, buf);

                put_le32(buf + rows[i].at, rows[i].value);
                EXPECT_EQUAL(rows[i].name, decode_exact(buf, n, &back), rows[i].rc);
                EXPECT_EQUAL(rows[i].name, back.n, 77);
        }
        /* one more than a table holds, and as long as it says */
        uint8_t long_one[FC_REGIONS_BYTES_MAX + 24] = { 1, 0, 0, 0, FC_REGIONS_MAX + 1 };

        CU_ASSERT_EQUAL(decode_exact(long_one, sizeof(long_one), &r), -EBADMSG);
}

static void match(void)
{
        struct fc_regions r = sample();
        struct fc_region hello[3];

        for (size_t i = 0; i < 3; i++)
                hello[i] = (struct fc_region){ .hva = (i + 1) * TIB, .bytes = r.at[i].bytes,
                                               .file_offset = r.at[i].file_offset,
                                               .page_bytes = 4096 };
        CU_ASSERT_EQUAL(fc_regions_match(&r, hello, 3, NULL), 0);
        CU_ASSERT_EQUAL(fc_regions_match(&r, hello, 2, NULL), -EINVAL);
        hello[1].bytes -= 4096;
        CU_ASSERT_EQUAL(fc_regions_match(&r, hello, 3, NULL), -EINVAL);
        hello[1].bytes += 4096;
        hello[2].file_offset -= 4096;
        CU_ASSERT_EQUAL(fc_regions_match(&r, hello, 3, NULL), -EINVAL);
}

static const CU_TestInfo cases[] = {
        { "a table keeps its rules", rules },
        { "memory lies where Firecracker puts it", layout_rule },
        { "odd sizes have no layout", odd_sizes_have_no_layout },
        { "a section is read as it was written", section_round_trip },
        { "wrong sections are refused", wrong_sections },
        { "a guest is matched with its snapshot", match },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("fcregions", cases);
}
