/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: integers in files and messages have the byte order and width they claim,
 *       at any alignment.
 * Method: each accessor against bytes written out by hand, at every offset of a
 *         buffer whose neighbours must not change. */
#include <CUnit/CUnit.h>
#include <stdint.h>
#include <string.h>

#include "common/bytes.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

#define GUARD 0xa5
#define OFFSETS 8

static const uint8_t counting[8] = { 0x81, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x88 };

static void get_table(void)
{
        uint8_t room[OFFSETS + sizeof(counting)];

        for (unsigned at = 0; at < OFFSETS; at++) {
                memcpy(room + at, counting, sizeof(counting));
                CU_ASSERT_EQUAL(get_be16(room + at), 0x8102);
                CU_ASSERT_EQUAL(get_be32(room + at), 0x81020304);
                CU_ASSERT_EQUAL(get_be64(room + at), 0x8102030405060788);
                CU_ASSERT_EQUAL(get_le16(room + at), 0x0281);
                CU_ASSERT_EQUAL(get_le32(room + at), 0x04030281);
                CU_ASSERT_EQUAL(get_le64(room + at), 0x8807060504030281);
        }
}

static void put_be16_at(void *p) { put_be16(p, 0x8102); }
static void put_be32_at(void *p) { put_be32(p, 0x81020304); }
static void put_be64_at(void *p) { put_be64(p, 0x8102030405060788); }
static void put_le16_at(void *p) { put_le16(p, 0x0281); }
static void put_le32_at(void *p) { put_le32(p, 0x04030281); }
static void put_le64_at(void *p) { put_le64(p, 0x8807060504030281); }

static void put_table(void)
{
        static const struct {
                const char *row;
                void (*put)(void *p);
                size_t bytes;
        } rows[] = {
                { "be16", put_be16_at, 2 }, { "be32", put_be32_at, 4 }, { "be64", put_be64_at, 8 },
                { "le16", put_le16_at, 2 }, { "le32", put_le32_at, 4 }, { "le64", put_le64_at, 8 },
        };

        for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
                for (unsigned at = 1; at <= OFFSETS; at++) {
                        uint8_t room[OFFSETS + sizeof(counting) + 1];
                        uint8_t want[sizeof(room)];

                        memset(room, GUARD, sizeof(room));
                        memset(want, GUARD, sizeof(want));
                        memcpy(want + at, counting, rows[r].bytes);
                        rows[r].put(room + at);
                        EXPECT_EQUAL(rows[r].row, memcmp(room, want, sizeof(room)), 0);
                }
        }
}

static const CU_TestInfo cases[] = {
        { "get reads the named order at any alignment", get_table },
        { "put writes the named order and no byte more", put_table },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("bytes", cases);
}
