/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: orders for background work mean what they say, in words and in JSON, or are
 *       refused with a sentence; what is refused changes nothing.
 * Method: tables of texts. */
#include <CUnit/CUnit.h>
#include <errno.h>
#include <string.h>

#include "common/check.h"
#include "common/rate.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

#define UNTOUCHED 4711u

static void rates(void)
{
        static const struct {
                const char *text;
                int rc;
                uint64_t rate;
        } rows[] = {
                { "on", 0, RATE_UNLIMITED },
                { "off", 0, RATE_OFF },
                { "64M", 0, 64u << 20 },
                { "1", 0, 1 },
                { "0", -EINVAL, UNTOUCHED },
                { "0K", -EINVAL, UNTOUCHED },
                { "On", -EINVAL, UNTOUCHED },
                { "", -EINVAL, UNTOUCHED },
                { "-1", -EINVAL, UNTOUCHED },
                { "64M/s", -EINVAL, UNTOUCHED },
                { "pause", -EINVAL, UNTOUCHED },
                { "99999999999999999999", -EINVAL, UNTOUCHED },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                uint64_t rate = UNTOUCHED;
                struct err e = { 0 };

                EXPECT_EQUAL(rows[i].text, rate_parse(rows[i].text, &rate, &e), rows[i].rc);
                EXPECT_EQUAL(rows[i].text, rate, rows[i].rate);
                EXPECT_EQUAL(rows[i].text, e.code, rows[i].rc);
        }
}

static const struct {
        const char *json;
        int rc;
        enum rate_what what;
        uint64_t rate;
} bodies[] = {
        { "{\"rate\":\"on\"}", 0, RATE_SET, RATE_UNLIMITED },
        { "{\"rate\":\"off\"}", 0, RATE_SET, RATE_OFF },
        { "{\"rate\":\"10M\"}", 0, RATE_SET, 10u << 20 },
        { "{\"rate\":\"pause\"}", 0, RATE_PAUSE, 0 },
        { "{\"rate\":\"resume\"}", 0, RATE_RESUME, 0 },
        { " {\"rate\":4096,\"more\":[1]}", 0, RATE_SET, 4096 },
        { "{\"rate\":0}", 0, RATE_SET, RATE_OFF },
        { "{\"rate\":-1}", -EBADMSG, RATE_PAUSE, UNTOUCHED },
        { "{\"rate\":1.5}", -EBADMSG, RATE_PAUSE, UNTOUCHED },
        { "{\"rate\":true}", -EBADMSG, RATE_PAUSE, UNTOUCHED },
        { "{\"rate\":null}", -EBADMSG, RATE_PAUSE, UNTOUCHED },
        { "{\"rate\":[\"on\"]}", -EBADMSG, RATE_PAUSE, UNTOUCHED },
        { "{\"rate\":\"on\\u0000\"}", -EBADMSG, RATE_PAUSE, UNTOUCHED },
        { "{\"rate\":\"fast\"}", -EINVAL, RATE_PAUSE, UNTOUCHED },
        { "{\"Rate\":\"on\"}", -EBADMSG, RATE_PAUSE, UNTOUCHED },
        { "{}", -EBADMSG, RATE_PAUSE, UNTOUCHED },
        { "\"on\"", -EBADMSG, RATE_PAUSE, UNTOUCHED },
        { "{\"rate\":\"on\"} x", -EBADMSG, RATE_PAUSE, UNTOUCHED },
        { "{\"rate\":\"on\"", -EBADMSG, RATE_PAUSE, UNTOUCHED },
        { "", -EBADMSG, RATE_PAUSE, UNTOUCHED },
};

static void orders(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
                const char *row = bodies[i].json[0] ? bodies[i].json : "(empty)";
                struct rate_order order = { .what = RATE_PAUSE, .rate = UNTOUCHED };
                struct err e = { 0 };
                int rc = rate_order_parse_json(bodies[i].json, strlen(bodies[i].json), &order,
                                               &e);

                EXPECT_EQUAL(row, rc, bodies[i].rc);
                EXPECT_EQUAL(row, order.what, bodies[i].what);
                EXPECT_EQUAL(row, order.rate, bodies[i].rate);
                EXPECT_EQUAL(row, e.code, rc);
                EXPECT_EQUAL(row, e.text[0] != '\0', rc < 0);
        }
}

static void names(void)
{
        EXPECT_TEXT("off", rate_name(RATE_OFF), "off");
        EXPECT_TEXT("on", rate_name(RATE_UNLIMITED), "on");
        EXPECT_TEXT("limited", rate_name(1), "limited");
}

static const CU_TestInfo cases[] = {
        { "rates in words", rates },
        { "orders in JSON", orders },
        { "names", names },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("rate", cases);
}
