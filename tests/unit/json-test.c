/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: JSON from outside is taken only with the type, range and shape we expect,
 *       and a refusal names the field.
 * Method: tables of texts for the parser and of fields for each json_take_*();
 *         results must stay untouched on refusal. */
#include <CUnit/CUnit.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/check.h"
#include "common/json.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

static void texts(void)
{
        static const struct {
                const char *text;
                int rc;
        } rows[] = {
                { "{}", 0 },
                { "{\"a\":{\"b\":[1,-2,3.5,true,null,\"x\"]}}", 0 },
                { " {\"a\":1}", 0 },
                { "", -EBADMSG },
                { "{", -EBADMSG },
                { "{\"a\":1", -EBADMSG },
                { "{\"a\" 1}", -EBADMSG },
                { "{\"a\":1,}", -EBADMSG },
                { "{\"a\":01}", -EBADMSG },
                { "{} {}", -EBADMSG },
                { "{}x", -EBADMSG },
                { "[]", -EBADMSG },
                { "1", -EBADMSG },
                { "null", -EBADMSG },
                { "\"{}\"", -EBADMSG },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                AUTO_JSON *o = NULL;
                struct err e = { 0 };
                const char *row = rows[i].text[0] ? rows[i].text : "(empty)";

                EXPECT_EQUAL(row, json_parse(rows[i].text, strlen(rows[i].text), &o, &e),
                             rows[i].rc);
                EXPECT_EQUAL(row, o != NULL, rows[i].rc == 0);
                EXPECT_EQUAL(row, e.code, rows[i].rc);
                EXPECT_EQUAL(row, strncmp(e.text, "not a JSON object: ", 19) == 0, rows[i].rc < 0);
        }
}

/* n nested objects around {} */
static int parse_nested(unsigned n)
{
        AUTO_JSON *o = NULL;
        char text[JSON_DEPTH_MAX * 8] = "";

        for (unsigned i = 0; i < n; i++)
                strcat(text, "{\"a\":");
        strcat(text, "{}");
        for (unsigned i = 0; i < n; i++)
                strcat(text, "}");
        return json_parse(text, strlen(text), &o, NULL);
}

static void depth_is_limited(void)
{
        CU_ASSERT_EQUAL(parse_nested(JSON_DEPTH_MAX - 1), 0);
        CU_ASSERT_EQUAL(parse_nested(JSON_DEPTH_MAX), -EBADMSG);
}

static void length_is_limited(void)
{
        AUTO_JSON *o = NULL;
        struct err e = { 0 };

        /* refused before a byte is read */
        CU_ASSERT_EQUAL(json_parse("{}", (size_t)INT32_MAX + 1, &o, &e), -EBADMSG);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "too long"));
        /* bytes count, not a NUL */
        CU_ASSERT_EQUAL(json_parse("{}\0{}", 5, &o, &e), -EBADMSG);
        CU_ASSERT_EQUAL(json_parse("{}{}", 2, &o, &e), 0);
}

static struct json_object *parsed(void)
{
        static const char text[] =
                "{\"zero\":0,\"n\":42,\"big\":18446744073709551615,\"minus\":-1,"
                " \"min\":-9223372036854775808,\"real\":1.0,\"yes\":true,\"no\":false,"
                " \"over\":18446744073709551616,\"under\":-9223372036854775809,\"nan\":NaN,"
                " \"s\":\"text\",\"empty\":\"\",\"nul\":\"a\\u0000b\",\"nothing\":null,"
                " \"o\":{\"in\":7},\"list\":[1,2,3],\"none\":[]}";
        struct json_object *o = NULL;

        CU_ASSERT_EQUAL_FATAL(json_parse(text, sizeof(text) - 1, &o, NULL), 0);
        return o;
}

/* A refusal is -EBADMSG with a sentence that names the field. */
static void expect_refusal(const char *key, int rc, const struct err *e)
{
        EXPECT_EQUAL(key, rc, -EBADMSG);
        EXPECT_EQUAL(key, e->code, -EBADMSG);
        EXPECT_TRUE(key, strstr(e->text, key));
}

static void numbers(void)
{
        static const struct {
                const char *key;
                uint64_t max, value;
                bool good;
        } rows[] = {
                { "zero", 0, 0, true },
                { "n", UINT64_MAX, 42, true },
                { "n", 42, 42, true },
                { "n", 41, 0, false },
                { "big", UINT64_MAX, UINT64_MAX, true },
                { "big", UINT64_MAX - 1, 0, false },
                { "minus", UINT64_MAX, 0, false },
                { "min", UINT64_MAX, 0, false },
                { "real", UINT64_MAX, 0, false },
                /* json-c keeps the nearest 64-bit number: still out of any smaller range */
                { "over", UINT64_MAX - 1, 0, false },
                { "under", UINT64_MAX, 0, false },
                { "nan", UINT64_MAX, 0, false },
                { "s", UINT64_MAX, 0, false },
                { "yes", UINT64_MAX, 0, false },
                { "nothing", UINT64_MAX, 0, false },
                { "missing", UINT64_MAX, 0, false },
        };
        AUTO_JSON *o = parsed();

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct err e = { 0 };
                uint64_t v = 4711;
                int rc = json_take_u64(o, rows[i].key, rows[i].max, &v, &e);

                if (rows[i].good)
                        EXPECT_EQUAL(rows[i].key, rc, 0);
                else
                        expect_refusal(rows[i].key, rc, &e);
                EXPECT_EQUAL(rows[i].key, v, rows[i].good ? rows[i].value : 4711);
        }
}

static void booleans(void)
{
        static const char *const wrong[] = { "n", "s", "nothing", "missing" };
        AUTO_JSON *o = parsed();
        bool v = false;

        CU_ASSERT_EQUAL(json_take_bool(o, "yes", &v, NULL), 0);
        CU_ASSERT_TRUE(v);
        CU_ASSERT_EQUAL(json_take_bool(o, "no", &v, NULL), 0);
        CU_ASSERT_FALSE(v);
        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                struct err e = { 0 };

                v = true;
                expect_refusal(wrong[i], json_take_bool(o, wrong[i], &v, &e), &e);
                EXPECT_TRUE(wrong[i], v);
        }
}

static void strings(void)
{
        static const char *const wrong[] = { "nul", "n", "nothing", "list", "missing" };
        AUTO_JSON *o = parsed();
        const char *s = NULL;

        CU_ASSERT_EQUAL(json_take_str(o, "s", &s, NULL), 0);
        EXPECT_TEXT("s", s, "text");
        CU_ASSERT_EQUAL(json_take_str(o, "empty", &s, NULL), 0);
        EXPECT_TEXT("empty", s, "");
        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                struct err e = { 0 };

                s = "untouched";
                expect_refusal(wrong[i], json_take_str(o, wrong[i], &s, &e), &e);
                EXPECT_TEXT(wrong[i], s, "untouched");
        }
}

static void objects(void)
{
        static const char *const wrong[] = { "list", "n", "nothing", "missing" };
        AUTO_JSON *o = parsed();
        struct json_object *v = NULL;
        uint64_t in = 0;

        CU_ASSERT_EQUAL(json_take_obj(o, "o", &v, NULL), 0);
        CU_ASSERT_EQUAL(json_take_u64(v, "in", 7, &in, NULL), 0);
        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                struct err e = { 0 };

                v = o;
                expect_refusal(wrong[i], json_take_obj(o, wrong[i], &v, &e), &e);
                EXPECT_TRUE(wrong[i], v == o);
        }
}

static void arrays(void)
{
        static const struct {
                const char *key;
                size_t max;
                bool good;
        } rows[] = {
                { "list", 3, true }, { "none", 0, true }, { "list", 2, false },
                { "o", 9, false }, { "nothing", 9, false }, { "missing", 9, false },
        };
        AUTO_JSON *o = parsed();

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct err e = { 0 };
                struct json_object *v = o;
                int rc = json_take_array(o, rows[i].key, rows[i].max, &v, &e);

                if (rows[i].good)
                        EXPECT_EQUAL(rows[i].key, rc, 0);
                else
                        expect_refusal(rows[i].key, rc, &e);
                EXPECT_EQUAL(rows[i].key, v != o, rows[i].good);
        }
}

static void put_is_read_back(void)
{
        AUTO_JSON *o = json_object_new_object();

        CU_ASSERT_PTR_NOT_NULL_FATAL(o);
        json_put_u64(o, "max", UINT64_MAX);
        json_put_str(o, "s", "\"quoted\" \\ \n");
        json_put_bool(o, "b", true);

        const char *text = json_object_to_json_string(o);
        AUTO_JSON *back = NULL;
        uint64_t n = 0;
        const char *s = NULL;
        bool b = false;

        CU_ASSERT_EQUAL_FATAL(json_parse(text, strlen(text), &back, NULL), 0);
        CU_ASSERT_EQUAL(json_take_u64(back, "max", UINT64_MAX, &n, NULL), 0);
        CU_ASSERT_EQUAL(n, UINT64_MAX);
        CU_ASSERT_EQUAL(json_take_str(back, "s", &s, NULL), 0);
        EXPECT_TEXT("s", s, "\"quoted\" \\ \n");
        CU_ASSERT_EQUAL(json_take_bool(back, "b", &b, NULL), 0);
        CU_ASSERT_TRUE(b);
}

static void decimals(void)
{
        static const struct {
                const char *text;
                double v;
                int digits;
        } rows[] = {
                { "{\"v\":0.30,\"n\":null}", 0.3, 2 },
                { "{\"v\":100,\"n\":null}", 99.9, 0 },
                { "{\"v\":-1.500,\"n\":null}", -1.5, 3 },
                { "{\"v\":18446744073709552.000,\"n\":null}", (double)UINT64_MAX / 1000, 3 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                AUTO_JSON *o = json_object_new_object();
                AUTO_JSON *back = NULL;
                struct err e = { 0 };

                json_put_decimal(o, "v", rows[i].v, rows[i].digits);
                json_put_null(o, "n");

                const char *text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);

                EXPECT_TEXT(rows[i].text, text, rows[i].text);
                EXPECT_EQUAL(rows[i].text, json_parse(text, strlen(text), &back, &e), 0);
        }
}

static const CU_TestInfo cases[] = {
        { "texts that are and are not one object", texts },
        { "nesting is limited", depth_is_limited },
        { "length is limited and counted in bytes", length_is_limited },
        { "numbers keep type, sign and range", numbers },
        { "booleans", booleans },
        { "strings, without NULs inside", strings },
        { "objects", objects },
        { "arrays keep their limit", arrays },
        { "what is put is read back", put_is_read_back },
        { "decimals have the digits that were asked for", decimals },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("json", cases);
}
