/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: sections survive the way into a buffer and back; anything else than what is
 *       written there is refused, and nothing is returned then.
 * Method: round trips, a table of damages to one good buffer, every cut of it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/check.h"
#include "common/wire/sections.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

static const struct section good[] = {
        { .name = "META", .data = "{}", .bytes = 2 },
        { .name = "EMPTY", .data = NULL, .bytes = 0 },
        { .name = "FIFTEEN_LETTERS", .data = "\0\1\2", .bytes = 3 },
};

/* the exact size on the heap, so that sanitizers see a byte too much */
static uint8_t *make(const struct section *s, size_t n, size_t *ret_bytes)
{
        *ret_bytes = sections_bytes(s, n);

        uint8_t *buf = malloc(*ret_bytes);

        if (!buf)
                abort();
        sections_encode(s, n, buf);
        return buf;
}

static void round_trip(void)
{
        size_t bytes, n = 99;
        AUTO_FREE uint8_t *buf = make(good, ARRAY_SIZE(good), &bytes);
        struct section back[SECTIONS_MAX];

        CU_ASSERT_EQUAL(bytes, 16 + 3 * 24 + 5);
        CU_ASSERT_EQUAL_FATAL(sections_decode(buf, bytes, back, &n), 0);
        CU_ASSERT_EQUAL_FATAL(n, ARRAY_SIZE(good));
        for (size_t i = 0; i < n; i++) {
                EXPECT_TEXT(good[i].name, back[i].name, good[i].name);
                EXPECT_EQUAL(good[i].name, back[i].bytes, good[i].bytes);
                EXPECT_TRUE(good[i].name, !good[i].bytes ||
                            !memcmp(back[i].data, good[i].data, good[i].bytes));
        }
        CU_ASSERT_PTR_EQUAL(sections_find(back, n, "META"), &back[0]);
        CU_ASSERT_PTR_NULL(sections_find(back, n, "MET"));
        CU_ASSERT_PTR_NULL(sections_find(back, 0, "META"));
}

static void none(void)
{
        size_t bytes, n = 99;
        AUTO_FREE uint8_t *buf = make(NULL, 0, &bytes);
        struct section back[SECTIONS_MAX];

        CU_ASSERT_EQUAL(bytes, 16);
        CU_ASSERT_EQUAL(sections_decode(buf, bytes, back, &n), 0);
        CU_ASSERT_EQUAL(n, 0);
}

/* What is put where in the good buffer, whose rows begin at 16, 40 and 64. */
static const struct {
        const char *what;
        size_t at;
        size_t bytes;
        const char *data;
        int rc;
} damages[] = {
        { "another magic", 0, 1, "s", -EBADMSG },
        { "a newer version", 8, 1, "\2", -ENOTSUP },
        { "version 0", 8, 1, "\0", -ENOTSUP },
        { "more sections than rows", 12, 1, "\4", -EBADMSG },
        { "fewer", 12, 1, "\2", -EBADMSG },
        { "too many sections", 12, 1, "\11", -EBADMSG },
        { "so many that their rows overflow", 12, 4, "\xff\xff\xff\xff", -EBADMSG },
        { "a name without an end", 64, 16, "ABCDEFGHIJKLMNOP", -EBADMSG },
        { "no name", 16, 4, "\0\0\0\0", -EBADMSG },
        { "a name in small letters", 16, 1, "m", -EBADMSG },
        { "something behind a name", 30, 1, "X", -EBADMSG },
        { "a name twice", 40, 6, "META\0", -EBADMSG },
        { "a section longer than the rest", 32, 1, "\6", -EBADMSG },
        { "one that wraps around", 32, 8, "\xff\xff\xff\xff\xff\xff\xff\xff", -EBADMSG },
        { "bytes of nobody behind them", 80, 1, "\2", -EBADMSG },
};

static void damaged(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(damages); i++) {
                size_t bytes, n = 99;
                AUTO_FREE uint8_t *buf = make(good, ARRAY_SIZE(good), &bytes);
                struct section back[SECTIONS_MAX] = { { .name = "untouched" } };

                memcpy(buf + damages[i].at, damages[i].data, damages[i].bytes);
                EXPECT_EQUAL(damages[i].what, sections_decode(buf, bytes, back, &n),
                             damages[i].rc);
                EXPECT_EQUAL(damages[i].what, n, 99);
                EXPECT_TEXT(damages[i].what, back[0].name, "untouched");
        }
}

static void cut(void)
{
        size_t bytes;
        AUTO_FREE uint8_t *buf = make(good, ARRAY_SIZE(good), &bytes);

        for (size_t cut = 0; cut < bytes; cut++) {
                AUTO_FREE uint8_t *exact = malloc(cut ? cut : 1);
                struct section back[SECTIONS_MAX];
                size_t n;

                CU_ASSERT_FATAL(exact != NULL);
                memcpy(exact, buf, cut);
                CU_ASSERT_EQUAL(sections_decode(exact, cut, back, &n), -EBADMSG);
        }
}

static void too_much(void)
{
        struct section s[SECTIONS_MAX + 1] = { { .name = "A" } };

        CU_ASSERT_EQUAL(sections_bytes(s, SECTIONS_MAX + 1), 0);
        s[0].bytes = SECTIONS_BYTES_MAX - 16 - 24;
        CU_ASSERT_EQUAL(sections_bytes(s, 1), SECTIONS_BYTES_MAX);
        s[0].bytes++;
        CU_ASSERT_EQUAL(sections_bytes(s, 1), 0);
        s[0].bytes = SIZE_MAX;
        CU_ASSERT_EQUAL(sections_bytes(s, 1), 0);
}

static void encode_same_name(void)
{
        const struct section twice[] = { { .name = "A" }, { .name = "A" } };
        uint8_t buf[64];

        sections_encode(twice, 2, buf);
}

static void encode_bad_name(void)
{
        const struct section s = { .name = "a b" };
        uint8_t buf[64];

        sections_encode(&s, 1, buf);
}

static void our_own_bugs(void)
{
        CU_ASSERT_TRUE(expect_abort(encode_same_name));
        CU_ASSERT_TRUE(expect_abort(encode_bad_name));
}

static const CU_TestInfo cases[] = {
        { "round trip", round_trip },
        { "no sections at all", none },
        { "damaged", damaged },
        { "cut short", cut },
        { "more than fits", too_much },
        { "names that cannot be written", our_own_bugs },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("sections", cases);
}
