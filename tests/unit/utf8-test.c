/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: whatever bytes come in, well-formed UTF-8 goes out, and what was well-formed
 *       goes out as it came.
 * Method: a table of the edges; every code point there is, encoded by its definition;
 *         random bytes against a decoder that is written another way. */
#include <CUnit/CUnit.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/utf8.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

static void edges(void)
{
        static const struct {
                const char *name, *text, *mended;
        } rows[] = {
                { "empty", "", "" },
                { "ascii", "/srv/a b\n.qcow2", "/srv/a b\n.qcow2" },
                { "two bytes", "gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f" },
                { "lone first byte", "a\xc3", "a?" },
                { "lone later byte", "\xbf" "b", "?b" },
                { "first byte before ascii", "\xe2z", "?z" },
                { "three bytes, cut", "\xe2\x82", "??" },
                { "too long", "\xc0\xaf\xe0\x80\xaf\xf0\x80\x80\xaf", "?????????" },
                { "surrogate", "\xed\xa0\x80", "???" },
                { "beyond the last", "\xf4\x90\x80\x80", "????" },
                { "the last", "\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf" },
                { "no first byte at all", "\xfe\xff", "??" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                char out[32];

                CU_ASSERT_PTR_EQUAL(utf8_mend(rows[i].text, out, sizeof(out)), out);
                EXPECT_TEXT(rows[i].name, out, rows[i].mended);
        }
}

static void cut_between(void)
{
        char out[4];

        EXPECT_TEXT("fits", utf8_mend("abc", out, sizeof(out)), "abc");
        EXPECT_TEXT("cut", utf8_mend("abcd", out, sizeof(out)), "abc");
        EXPECT_TEXT("not in two", utf8_mend("ab\xc3\xbc", out, sizeof(out)), "ab");
        EXPECT_TEXT("bad one", utf8_mend("abc\xff", out, sizeof(out)), "abc");
        EXPECT_TEXT("no room", utf8_mend("abc", out, 1), "");
}

static size_t encode(uint32_t c, char *p)
{
        unsigned more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
        static const uint8_t head[] = { 0, 0xc0, 0xe0, 0xf0 };

        p[0] = (char)(head[more] | c >> (6 * more));
        for (unsigned i = 1; i <= more; i++)
                p[i] = (char)(0x80 | (c >> (6 * (more - i)) & 0x3f));
        p[more + 1] = '\0';
        return more + 1;
}

/* every code point that is one passes, every surrogate does not */
static void all_characters(void)
{
        unsigned wrong = 0;

        for (uint32_t c = 1; c < 0x110000; c++) {
                char in[8], out[8];
                bool surrogate = c >= 0xd800 && c < 0xe000;

                encode(c, in);
                utf8_mend(in, out, sizeof(out));
                wrong += surrogate ? strcmp(out, "???") != 0 : strcmp(out, in) != 0;
        }
        CU_ASSERT_EQUAL(wrong, 0);
}

/* decodes to a code point and encodes again: the same bytes = well-formed */
static bool well_formed(const char *s)
{
        while (*s) {
                uint8_t b = (uint8_t)*s;
                unsigned more = b < 0x80 ? 0 : b < 0xc0 ? 9 : b < 0xe0 ? 1 : b < 0xf0 ? 2 : 3;
                uint32_t c = more == 0 ? b : b & (0x3fu >> more);
                char again[8];

                if (more == 9 || strlen(s) <= more)
                        return false;
                for (unsigned i = 1; i <= more; i++)
                        c = c << 6 | ((uint8_t)s[i] & 0x3f);
                if (c >= 0x110000 || (c >= 0xd800 && c < 0xe000) ||
                    encode(c, again) != more + 1 || memcmp(again, s, more + 1) != 0)
                        return false;
                s += more + 1;
        }
        return true;
}

static void random_bytes(void)
{
        unsigned seed = 1, wrong = 0;

        for (unsigned n = 0; n < 100000; n++) {
                char in[17], out[17];

                for (unsigned i = 0; i < 16; i++)
                        in[i] = (char)(rand_r(&seed) % 2 ? 0x80 | rand_r(&seed) % 128 :
                                       rand_r(&seed) % 128);
                in[16] = '\0';
                utf8_mend(in, out, sizeof(out));
                wrong += !well_formed(out) || strlen(out) != strlen(in) ||
                         (well_formed(in) && strcmp(in, out) != 0);
        }
        CU_ASSERT_EQUAL(wrong, 0);
}

static const CU_TestInfo cases[] = {
        { "edges", edges },
        { "what is too long is cut between characters", cut_between },
        { "every character", all_characters },
        { "random bytes", random_bytes },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("utf8", cases);
}
