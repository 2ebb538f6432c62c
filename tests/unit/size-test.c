/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: sizes on the command line mean what they say, or are refused; nothing
 *       wraps around.
 * Method: tables of what is accepted, refused and printed, with the edges of 64
 *         bits; then every power of two through both functions. */
#include <CUnit/CUnit.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "common/check.h"
#include "common/size.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

static void accepted(void)
{
        static const struct {
                const char *text;
                uint64_t bytes;
        } rows[] = {
                { "0", 0 },
                { "4096", 4096 },
                { "007", 7 },
                { "1k", 1ull << 10 },
                { "64M", 64ull << 20 },
                { "64m", 64ull << 20 },
                { "1G", 1ull << 30 },
                { "2T", 2ull << 40 },
                { "1KiB", 1ull << 10 },
                { "3mib", 3ull << 20 },
                { "5GB", 5ull << 30 },
                { "18446744073709551615", UINT64_MAX },
                { "18014398509481983K", UINT64_MAX - 1023 },
                { "16777215T", UINT64_MAX - ((1ull << 40) - 1) },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                uint64_t bytes = 1;

                EXPECT_EQUAL(rows[i].text, size_parse(rows[i].text, &bytes), 0);
                EXPECT_EQUAL(rows[i].text, bytes, rows[i].bytes);
        }
}

static void refused(void)
{
        static const struct {
                const char *text;
                int rc;
        } rows[] = {
                { "", -EINVAL },
                { "M", -EINVAL },
                { "-1", -EINVAL },
                { "+1", -EINVAL },
                { " 1", -EINVAL },
                { "1 ", -EINVAL },
                { "1 M", -EINVAL },
                { "1.5G", -EINVAL },
                { "0x10", -EINVAL },
                { "1P", -EINVAL },
                { "1B", -EINVAL },
                { "1iB", -EINVAL },
                { "1Mi", -EINVAL },
                { "1MiBs", -EINVAL },
                { "1MM", -EINVAL },
                { "18446744073709551616", -ERANGE },
                { "99999999999999999999999", -ERANGE },
                { "18014398509481984K", -ERANGE },
                { "16777216T", -ERANGE },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                uint64_t bytes = 4711;

                EXPECT_EQUAL(rows[i].text, size_parse(rows[i].text, &bytes), rows[i].rc);
                EXPECT_EQUAL(rows[i].text, bytes, 4711);
        }
}

static void printed(void)
{
        static const struct {
                const char *text;
                uint64_t bytes;
        } rows[] = {
                { "0 bytes", 0 },
                { "1 bytes", 1 },
                { "1023 bytes", 1023 },
                { "1 KiB", 1024 },
                { "1.5 KiB", 1536 },
                { "256 MiB", 256ull << 20 },
                { "1.5 GiB", 3ull << 29 },
                { "10 GiB", (10ull << 30) + (1ull << 20) },
                { "16 EiB", UINT64_MAX },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                char buf[SIZE_TEXT_MAX];

                CU_ASSERT_PTR_EQUAL(size_text(rows[i].bytes, buf), buf);
                EXPECT_TEXT(rows[i].text, buf, rows[i].text);
        }
}

static void powers_of_two(void)
{
        static const char unit[] = "KMGT";

        for (unsigned shift = 0; shift < 64; shift++) {
                char text[32];
                uint64_t bytes = 0;
                unsigned u = shift / 10;

                if (u == 0 || u > 4)
                        snprintf(text, sizeof(text), "%" PRIu64, UINT64_C(1) << shift);
                else
                        snprintf(text, sizeof(text), "%u%c", 1u << shift % 10, unit[u - 1]);
                EXPECT_EQUAL(text, size_parse(text, &bytes), 0);
                EXPECT_EQUAL(text, bytes, UINT64_C(1) << shift);
        }
}

static const CU_TestInfo cases[] = {
        { "sizes that are accepted", accepted },
        { "texts that are refused leave the result alone", refused },
        { "sizes as they are printed", printed },
        { "every power of two is read back", powers_of_two },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("size", cases);
}
