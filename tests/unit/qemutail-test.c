/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: the end of a stream is found whatever devices put into their state, and never
 *       before it is there.
 * Method: a table of tails, right and wrong, with bytes in the devices' state that look like
 *         an end; every prefix of a tail; random device state. */
#include "common/wire/qemutail.h"

#include <CUnit/CUnit.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "tests/unit/expect.h"
#include "tests/unit/qemu-kit.h"
#include "tests/unit/store-ram.h"
#include "tests/unit/suite.h"

#define BYTES(text) (text), sizeof(text) - 1
#define DEVICE(state) "\4\0\0\0\0\5timer\0\0\0\0\0\0\0\2" state
#define FOOTER "\x7e\0\0\0\0"
#define JSON8 "\0\6\0\0\0\10{\"a\": 1}"
/* 0x7b7b = 31611 bytes would follow; 0x010006 = 65542; both never do */
#define LIES "\0\6\0\0\0\1{\0\6\0\0\0\0\0\6\0\0\x7b\x7b{\0\0\6\0\1\0\6{"

static const struct {
        const char *name;
        const char *bytes;
        size_t n;
        bool footers;
        enum qemutail_end end;
        size_t devices_bytes, desc_bytes;
} rows[] = {
        { "described", BYTES(DEVICE("") FOOTER JSON8), true, QEMUTAIL_WHOLE, 24, 8 },
        { "described, no footers", BYTES(DEVICE("x") JSON8), false, QEMUTAIL_WHOLE, 20, 8 },
        { "lies in the state", BYTES(DEVICE(LIES) FOOTER JSON8), true, QEMUTAIL_WHOLE, 52, 8 },
        { "lies, no footers", BYTES(DEVICE(LIES) JSON8), false, QEMUTAIL_WHOLE, 47, 8 },
        { "an end in the state", BYTES(DEVICE(JSON8) FOOTER JSON8), true, QEMUTAIL_WHOLE, 38, 8 },
        { "a state that counts to the end",
          BYTES(DEVICE("\0\6\0\0\0\x14{") FOOTER JSON8), true, QEMUTAIL_WHOLE, 31, 8 },
        { "a length without a NUL", BYTES(DEVICE("") FOOTER "\0\6\1\1\1\1{}"), true,
          QEMUTAIL_OPEN, 0, 0 },
        { "bare", BYTES(DEVICE("") FOOTER "\0"), true, QEMUTAIL_BARE, 24, 0 },
        { "bare, no footers", BYTES(DEVICE("x") "\0"), false, QEMUTAIL_BARE, 20, 0 },
        { "a state that ends with 0", BYTES(DEVICE("xyzabc\0")), true, QEMUTAIL_OPEN, 0, 0 },
        { "EOF, description not begun", BYTES(DEVICE("") FOOTER "\0\6"), true, QEMUTAIL_OPEN,
          0, 0 },
        { "description cut", BYTES(DEVICE("") FOOTER "\0\6\0\0\0\10{\"a\": 1"), true,
          QEMUTAIL_OPEN, 0, 0 },
        { "a length that is short", BYTES(DEVICE("") FOOTER "\0\6\0\0\0\7{\"a\": 1}"), true,
          QEMUTAIL_OPEN, 0, 0 },
        { "a byte behind it", BYTES(DEVICE("") FOOTER JSON8 "\n"), true, QEMUTAIL_OPEN, 0, 0 },
        { "a NUL behind it", BYTES(DEVICE("") FOOTER JSON8 "\0"), true, QEMUTAIL_OPEN, 0, 0 },
        { "not JSON", BYTES(DEVICE("") FOOTER "\0\6\0\0\0\10[\"a\", 1]"), true, QEMUTAIL_OPEN,
          0, 0 },
        { "JSON without end", BYTES(DEVICE("") FOOTER "\0\6\0\0\0\10{\"a\": 11"), true,
          QEMUTAIL_OPEN, 0, 0 },
        { "no footer before the end", BYTES(DEVICE("xyz") JSON8), true, QEMUTAIL_OPEN, 0, 0 },
        { "no devices", BYTES(JSON8), false, QEMUTAIL_OPEN, 0, 0 },
        { "only an end", BYTES("\0"), false, QEMUTAIL_OPEN, 0, 0 },
        { "no NUL at all", BYTES("\4\1\1"), false, QEMUTAIL_OPEN, 0, 0 },
        { "nothing", BYTES(""), false, QEMUTAIL_OPEN, 0, 0 },
};

static enum qemutail_end split_copy(const void *tail, size_t n, bool footers,
                                    struct qemutail *ret)
{
        AUTO_FREE uint8_t *copy = malloc(MAX(n, 1u));

        ASSERT(copy);
        memcpy(copy, tail, n);
        return qemutail_split(copy, n, footers, ret);
}

static void tails(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct qemutail t = { 0 };

                EXPECT_EQUAL(rows[i].name,
                             split_copy(rows[i].bytes, rows[i].n, rows[i].footers, &t),
                             rows[i].end);
                EXPECT_EQUAL(rows[i].name, t.devices_bytes, rows[i].devices_bytes);
                EXPECT_EQUAL(rows[i].name, t.desc_bytes, rows[i].desc_bytes);
                if (rows[i].end == QEMUTAIL_WHOLE)
                        EXPECT_EQUAL(rows[i].name, t.desc_at, rows[i].n - rows[i].desc_bytes);
        }
}

/* What comes in pieces is whole only with its last byte, and bare only at the EOF byte. */
static void prefixes_are_open(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                if (rows[i].end != QEMUTAIL_WHOLE || !rows[i].footers)
                        continue;
                for (size_t n = 0; n < rows[i].n; n++) {
                        struct qemutail t;
                        bool eof = n == rows[i].devices_bytes + 1;

                        EXPECT_EQUAL(rows[i].name, split_copy(rows[i].bytes, n, true, &t),
                                     eof ? QEMUTAIL_BARE : QEMUTAIL_OPEN);
                }
        }
}

/* State of bytes that are likely to look like an end, and a description of any length. */
static void random_tails(void)
{
        static const uint8_t likely[] = { 0, 0, 6, '{', 0x7e, '}', 1, 0xff };
        uint64_t seed = 1;

        for (unsigned round = 0; round < 2000; round++) {
                struct qemubuf b = { 0 };
                struct qemutail t;
                size_t state = store_random(&seed) % 400;
                size_t json = 2 + store_random(&seed) % 70000;

                qemubuf_put(&b, BYTES(DEVICE("")));
                for (size_t i = 0; i < state; i++)
                        kit_u8(&b, likely[store_random(&seed) % sizeof(likely)]);
                qemubuf_put(&b, BYTES(FOOTER "\0\6"));
                kit_u32(&b, (uint32_t)json);
                kit_u8(&b, '{');
                for (size_t i = 2; i < json; i++)
                        kit_u8(&b, likely[2 + i % 6]);
                kit_u8(&b, '}');
                CU_ASSERT_EQUAL_FATAL(qemutail_split(b.data, b.bytes, true, &t), QEMUTAIL_WHOLE);
                CU_ASSERT_EQUAL_FATAL(t.devices_bytes, 24 + state);
                CU_ASSERT_EQUAL_FATAL(t.desc_bytes, json);
                qemubuf_fini(&b);
        }
}

static const CU_TestInfo cases[] = {
        { "tails", tails },
        { "prefixes are open", prefixes_are_open },
        { "random state and descriptions", random_tails },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("qemutail", cases);
}
