/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: of every version's vmstate file we say whose it is and, where the encoding can
 *       be read, where memory lies; what is damaged, cut, too long, or does not add up
 *       is refused with a sentence.
 * Method: files as the versions write them (fc-kit.h), then a table of single wrong
 *         fields, all cuts and all flipped bits; the CRC against known values. */
#include "common/wire/fcvmstate.h"

#include <CUnit/CUnit.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/check.h"
#include "tests/unit/expect.h"
#include "tests/unit/fc-kit.h"
#include "tests/unit/suite.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

/* a guest of so many MiB, what fills the rest of its file, how many regions it has */
#define RAM(mib, fill, regions) .memory_mib = (mib), .filler = (fill), .n = (regions), .at
#define SMALL RAM(128, 0x11, 1) = { { 0, 128 * MIB, false } }
#define SPLIT RAM(4096, 0x11, 2) = { { 0, 3 * GIB, false }, { 4 * GIB, GIB, false } }
#define PLUGGED RAM(1024, 0x11, 2) = { { 0, GIB, false }, { 512 * GIB, 2 * GIB, true } }

static const struct {
        const char *name;
        struct fc_kit kit;
        enum fc_encoding encoding;
        const char *version;
        const char *writer;
        bool has_regions;
} files[] = {
        { "v1.1", { 1, false, false, NULL, 0, SMALL }, FC_VERSIONIZE, "", "v1.6 or earlier",
          false },
        { "v1.7", { 7, false, false, NULL, 0, SPLIT }, FC_BINCODE, "1.0.0", "v1.7", true },
        { "v1.8", { 8, true, false, "/initrd", 0, SMALL }, FC_BINCODE, "2.0.0", "v1.8", true },
        { "v1.9", { 9, false, true, NULL, 0, SPLIT }, FC_BINCODE, "3.0.0", "v1.9 or v1.10.0",
          true },
        { "v1.10", { 10, false, false, NULL, 0, SPLIT }, FC_BINCODE, "4.0.0", "v1.10.1", true },
        { "v1.11", { 11, false, false, NULL, 0, SPLIT }, FC_BINCODE, "5.0.0", "v1.11", true },
        { "v1.12", { 12, false, false, NULL, 3, SPLIT }, FC_BINCODE, "6.0.0", "v1.12", true },
        { "v1.13", { 13, false, false, "/initrd", 1, SPLIT }, FC_BINCODE, "8.0.0",
          "v1.13 or v1.14", true },
        { "v1.13, one region", { 13, false, false, NULL, 0, SMALL }, FC_BINCODE, "8.0.0",
          "v1.13 or v1.14", true },
        { "v1.13, zeros behind it",
          { 13, false, false, NULL, 0, RAM(4096, 0, 2) =
            { { 0, 3 * GIB, false }, { 4 * GIB, GIB, false } } },
          FC_BINCODE, "8.0.0", "v1.13 or v1.14", true },
        { "v1.14", { 14, false, true, NULL, 2, SPLIT }, FC_BINCODE, "8.0.0", "v1.13 or v1.14",
          true },
        { "v1.14, 7 GiB, which as v1.13's is nearly the same",
          { 14, false, false, NULL, 0, RAM(7168, 0, 2) =
            { { 0, 3 * GIB, false }, { 4 * GIB, 4 * GIB, false } } },
          FC_BINCODE, "8.0.0", "v1.13 or v1.14", true },
        { "v1.14, memory plugged in", { 14, false, false, NULL, 0, PLUGGED }, FC_BINCODE, "8.0.0",
          "v1.13 or v1.14", true },
        { "v1.15", { 15, true, false, NULL, 0, SPLIT }, FC_BITCODE, "", "v1.15 or later", false },
};

static void expect_regions(const char *name, const struct fc_vmstate *v, const struct fc_kit *k)
{
        uint64_t offset = 0;

        EXPECT_EQUAL(name, v->regions.page_bytes, k->huge_pages ? 2 * MIB : 4096);
        EXPECT_EQUAL(name, v->regions.n, k->n);
        for (unsigned i = 0; i < k->n; i++) {
                EXPECT_EQUAL(name, v->regions.at[i].gpa, k->at[i].gpa);
                EXPECT_EQUAL(name, v->regions.at[i].bytes, k->at[i].bytes);
                EXPECT_EQUAL(name, v->regions.at[i].file_offset, offset);
                offset += k->at[i].bytes;
        }
}

static void all_versions(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
                const char *name = files[i].name;
                uint8_t buf[FC_KIT_BYTES_MAX];
                struct fc_vmstate v;
                struct err e = { 0 };
                size_t n = fc_kit_vmstate(&files[i].kit, buf);
                int rc = fc_vmstate_parse(buf, n, &v, &e);

                EXPECT_TEXT(name, e.text, "");
                EXPECT_EQUAL(name, rc, 0);
                if (rc < 0)
                        continue;
                EXPECT_EQUAL(name, v.arch, files[i].kit.aarch64 ? FC_ARCH_AARCH64 :
                             FC_ARCH_X86_64);
                EXPECT_EQUAL(name, v.encoding, files[i].encoding);
                EXPECT_TEXT(name, v.version, files[i].version);
                EXPECT_TEXT(name, fc_vmstate_writer(&v), files[i].writer);
                EXPECT_EQUAL(name, v.has_regions, files[i].has_regions);
                if (files[i].has_regions)
                        expect_regions(name, &v, &files[i].kit);
                else
                        EXPECT_EQUAL(name, v.regions.n, 0);
        }
}

/* in a block of its own size, so that a sanitizer sees what lies behind */
static int parse_exact(const uint8_t *data, size_t bytes, struct err *e)
{
        AUTO_FREE uint8_t *copy = malloc(bytes ? bytes : 1);
        struct fc_vmstate v;

        ASSERT(copy);
        memcpy(copy, data, bytes);
        return fc_vmstate_parse(copy, bytes, &v, e);
}

static void unknown_versions_are_not_read(void)
{
        static const char *const texts[] = { "0.1.0", "7.0.0", "9.0.0", "99.9-dev" };

        for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
                const struct fc_kit kit = { .minor = 11, .version = texts[i] };
                uint8_t buf[FC_KIT_BYTES_MAX];
                struct fc_vmstate v;
                size_t n = fc_kit_vmstate(&kit, buf);

                EXPECT_EQUAL(texts[i], fc_vmstate_parse(buf, n, &v, NULL), 0);
                EXPECT_EQUAL(texts[i], v.encoding, FC_BINCODE);
                EXPECT_TEXT(texts[i], v.version, texts[i]);
                EXPECT_EQUAL(texts[i], v.has_regions, false);
                EXPECT_TEXT(texts[i], fc_vmstate_writer(&v), "an unknown version");
        }
}

static const struct {
        const char *name;
        size_t at;
        size_t bytes;
        uint64_t value;
        const char *why;
} wrong[] = {
        /* of a file of v1.10: magic 0, version 8, memory 21, SMT 29, template 30, kernel 34,
         * initrd 55, arguments 56, pages 95, regions 99: base, size, offset from 107 on */
        { "magic", 2, 2, 0x8665, "not a vmstate file" },
        { "memory", 21, 8, 4095, "have 4294967296 bytes, but the guest 4293918720" },
        { "no memory", 21, 8, 0, "but the guest 0" },
        { "too much memory", 21, 8, UINT64_MAX, "ends before" },
        { "SMT is no bool", 29, 1, 2, "ends before" },
        { "the kernel's name is long", 34, 8, 10000, "ends before" },
        { "... and longer", 34, 8, UINT64_MAX, "ends before" },
        { "an initrd perhaps", 55, 1, 2, "ends before" },
        { "an initrd without end", 55, 1, 1, "ends before" },
        { "odd pages", 95, 4, 2, "ends before" },
        { "no regions", 99, 8, 0, "0 memory regions" },
        { "65 regions", 99, 8, 65, "cannot be read" },
        { "2^64 - 1 regions", 99, 8, UINT64_MAX, "cannot be read" },
        { "three regions", 99, 8, 3, "cannot be read" },
        { "one of two", 99, 8, 1, "have 3221225472 bytes" },
        { "half a page", 107, 8, 2048, "whole pages" },
        { "an address of 2^63", 107, 8, 1ull << 63, "cannot be read" },
        { "overlap", 131, 8, 4096, "begins below" },
        { "a size of 2^64 - 4096", 139, 8, -4096ull, "cannot be read" },
        { "a gap in the file", 147, 8, 4 * GIB, "not behind the one before it" },
};

static void wrong_ones(void)
{
        const struct fc_kit kit = { 10, false, false, NULL, 0, SPLIT };

        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                uint8_t buf[FC_KIT_BYTES_MAX];
                struct err e = { 0 };
                size_t n = fc_kit_vmstate(&kit, buf);

                for (size_t k = 0; k < wrong[i].bytes; k++)
                        buf[wrong[i].at + k] = (uint8_t)(wrong[i].value >> (8 * k));
                fc_kit_seal(buf, n);
                EXPECT_EQUAL(wrong[i].name, parse_exact(buf, n, &e), -EBADMSG);
                EXPECT_TEXT(wrong[i].name, strstr(e.text, wrong[i].why) ? "" : e.text, "");
        }
}

/* Of version 8.0.0, where the second of two regions as v1.13 writes them may also be the
 * kind and the four slots of v1.14's first one; the second one follows then. */
static void two_meanings(void)
{
        const struct fc_kit kit = { 13, false, false, NULL, 0, RAM(7168, 0x11, 2) =
                                    { { 0, 3 * GIB, false }, { 16 * GIB, 4 * GIB, false } } };
        uint8_t buf[FC_KIT_BYTES_MAX] = { 0 };
        size_t n = fc_kit_vmstate(&kit, buf);
        uint8_t *behind = buf + n - 508;
        struct fc_vmstate v;
        struct err e = { 0 };

        put_le64(behind, 8 * GIB);
        put_le64(behind + 8, 4 * GIB);
        put_le32(behind + 16, 0);
        put_le64(behind + 20, 0);
        fc_kit_seal(buf, n);
        CU_ASSERT_EQUAL(fc_vmstate_parse(buf, n, &v, &e), -EBADMSG);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "in two ways"));

        /* only v1.13's adds up */
        put_le64(behind + 8, 3 * GIB);
        fc_kit_seal(buf, n);
        CU_ASSERT_EQUAL(fc_vmstate_parse(buf, n, &v, NULL), 0);
        CU_ASSERT_EQUAL(v.regions.at[1].gpa, 16 * GIB);

        /* only v1.14's does */
        put_le64(buf + 21, 6144);
        fc_kit_seal(buf, n);
        CU_ASSERT_EQUAL(fc_vmstate_parse(buf, n, &v, NULL), 0);
        CU_ASSERT_EQUAL(v.regions.at[1].gpa, 8 * GIB);
}

static void cut_or_damaged(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
                uint8_t buf[FC_KIT_BYTES_MAX];
                size_t n = fc_kit_vmstate(&files[i].kit, buf);

                for (size_t cut = 0; cut < n; cut++)
                        CU_ASSERT_EQUAL_FATAL(parse_exact(buf, cut, NULL), -EBADMSG);
                for (size_t bit = 0; bit < 8 * n; bit++) {
                        buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
                        CU_ASSERT_EQUAL_FATAL(parse_exact(buf, n, NULL), -EBADMSG);
                        buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
                }
        }
}

/* cut and sealed again: the list of regions must be there */
static void short_ones(void)
{
        const struct fc_kit kit = { 13, false, false, NULL, 2, SPLIT };
        uint8_t whole[FC_KIT_BYTES_MAX], buf[FC_KIT_BYTES_MAX];
        size_t n = fc_kit_vmstate(&kit, whole) - 8;
        size_t needed = n - 500;

        for (size_t cut = 0; cut <= n; cut++) {
                memcpy(buf, whole, cut);
                fc_kit_seal(buf, cut + 8);
                CU_ASSERT_EQUAL(parse_exact(buf, cut + 8, NULL),
                                cut < 8 || (cut >= 21 && cut < needed) ? -EBADMSG : 0);
        }
}

static void length_is_limited(void)
{
        size_t n = FC_VMSTATE_BYTES_MAX;
        AUTO_FREE uint8_t *buf = calloc(1, n + 1);
        struct fc_vmstate v;
        struct err e = { 0 };

        ASSERT(buf);
        put_le64(buf, 0x07101984aaaa0001);
        fc_kit_seal(buf, n);
        CU_ASSERT_EQUAL(fc_vmstate_parse(buf, n, &v, NULL), 0);
        fc_kit_seal(buf, n + 1);
        CU_ASSERT_EQUAL(fc_vmstate_parse(buf, n + 1, &v, &e), -EBADMSG);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "longer than 10 MiB"));
}

static void crc_values(void)
{
        uint8_t buf[16 + 8];

        CU_ASSERT_EQUAL(fc_crc64("123456789", 9), 0xe9c6d914c4b8d9ca);
        memset(buf, 0x7b, 16);
        CU_ASSERT_EQUAL(fc_crc64(buf, 16), 0x29d5357216326566);
        CU_ASSERT_EQUAL(fc_crc64(buf, 0), 0);
        fc_kit_seal(buf, sizeof(buf));
        CU_ASSERT_EQUAL(fc_crc64(buf, sizeof(buf)), 0);
}

static const CU_TestInfo cases[] = {
        { "every version's file is known", all_versions },
        { "unknown versions are not read", unknown_versions_are_not_read },
        { "what does not add up is refused", wrong_ones },
        { "a list with two meanings is read as it adds up, or not", two_meanings },
        { "what is cut or damaged is refused", cut_or_damaged },
        { "a file that ends early is refused", short_ones },
        { "more than 10 MiB are refused", length_is_limited },
        { "the CRC is Firecracker's", crc_values },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("fcvmstate", cases);
}
