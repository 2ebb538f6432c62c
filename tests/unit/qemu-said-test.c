/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: of a status file only what we could have written is taken, and nothing that does
 *       something to a terminal; what we write is taken.
 * Method: a table of contents; then all states there and back. */
#include <CUnit/CUnit.h>
#include <errno.h>
#include <string.h>

#include "common/check.h"
#include "common/json.h"
#include "pageserver/adapters/qemu/said.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

#define HEAD "{\"version\":1,\"pid\":7,\"bytes\":5,"

static void parsed(void)
{
        static const struct {
                const char *text;
                int rc;
        } rows[] = {
                { HEAD "\"state\":\"reading\"}", 0 },
                { HEAD "\"state\":\"writing\",\"tag\":\"monday\"}\n", 0 },
                { HEAD "\"state\":\"failed\",\"error\":\"x\"}", 0 },
                { HEAD "\"state\":\"failed\"}", -EBADMSG },
                { HEAD "\"state\":\"failed\",\"error\":\"\"}", -EBADMSG },
                { HEAD "\"state\":\"failed\",\"error\":\"a\\u001b[2Jb\"}", -EBADMSG },
                { HEAD "\"state\":\"failed\",\"error\":7}", -EBADMSG },
                { HEAD "\"state\":\"dancing\"}", -EBADMSG },
                { HEAD "\"state\":1}", -EBADMSG },
                { HEAD "\"state\":\"reading\",\"tag\":\"0123456789012345678901234567890123456789"
                  "012345678901234567890123\"}", -EBADMSG },
                { "{\"version\":2,\"pid\":7,\"bytes\":5,\"state\":\"reading\"}", -EBADMSG },
                { "{\"version\":1,\"pid\":-7,\"bytes\":5,\"state\":\"reading\"}", -EBADMSG },
                { "{\"version\":1,\"pid\":7,\"state\":\"reading\"}", -EBADMSG },
                { "", -EBADMSG },
                { "\n", -EBADMSG },
                { "[]", -EBADMSG },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct said s;
                struct err e;

                EXPECT_EQUAL(rows[i].text,
                             said_parse(rows[i].text, strlen(rows[i].text), &s, &e), rows[i].rc);
        }
}

static void there_and_back(void)
{
        static const struct said rows[] = {
                { .state = STATUS_READING, .pid = 1 },
                { .state = STATUS_WRITING, .pid = INT32_MAX, .bytes = INT64_MAX, .tag = "t" },
                { .state = STATUS_FAILED, .pid = 3, .error = "it's \"full\", \xc3\xa4\xff" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                AUTO_JSON *o = said_encode(&rows[i], "a/\xff/b");
                const char *name = said_name(rows[i].state);
                const char *text = json_object_to_json_string(o);
                struct said s;
                struct err e;

                EXPECT_EQUAL(name, said_parse(text, strlen(text), &s, &e), 0);
                EXPECT_EQUAL(name, s.state, rows[i].state);
                EXPECT_EQUAL(name, s.pid, rows[i].pid);
                EXPECT_EQUAL(name, s.bytes, rows[i].bytes);
                EXPECT_TEXT(name, s.tag, rows[i].tag);
                EXPECT_EQUAL(name, strlen(s.error), strlen(rows[i].error));
        }
}

static const CU_TestInfo cases[] = {
        { "contents, good and bad", parsed },
        { "what we write", there_and_back },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("qemu-said", cases);
}
