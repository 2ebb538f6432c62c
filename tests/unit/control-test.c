/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: the body of a save request is either understood whole or refused with
 *       a sentence that names what is wrong; so is the META section.
 * Method: tables of texts. */
#include <errno.h>
#include <string.h>

#include "common/check.h"
#include "common/json.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"
#include "vmm/control.h"
#include "vmm/meta.h"

static int parse(const char *text, struct save_request *r, struct err *e)
{
        return control_parse_save(text, strlen(text), r, e);
}

static void save_defaults(void)
{
        struct save_request r;
        struct err e;

        CU_ASSERT_EQUAL_FATAL(parse("{\"snapshot_path\":\"/a/b\"}", &r, &e), 0);
        CU_ASSERT_STRING_EQUAL(r.path, "/a/b");
        CU_ASSERT_EQUAL(r.mode, SAVE_LIVE);
        CU_ASSERT_EQUAL(r.staging_bytes, 0);
        CU_ASSERT_FALSE(r.progress);
        CU_ASSERT_EQUAL(r.writer.compress, QS_COMPRESS_NONE);
        CU_ASSERT_EQUAL(r.writer.cluster_bits, QS_CLUSTER_BITS_DEFAULT);
        CU_ASSERT_FALSE(r.writer.force);
        CU_ASSERT_STRING_EQUAL(r.writer.tag, "");
        CU_ASSERT_STRING_EQUAL(r.backing, "");
}

static void save_everything(void)
{
        struct save_request r;
        struct err e;

        CU_ASSERT_EQUAL_FATAL(parse("{\"snapshot_path\":\"/x\",\"tag\":\"t1\",\"mode\":\"stop\","
                                    "\"compress\":\"zstd\",\"level\":7,\"cluster_size\":4096,"
                                    "\"backing\":\"/y\",\"force\":true,\"staging\":2097152,"
                                    "\"progress\":true}", &r, &e), 0);
        CU_ASSERT_STRING_EQUAL(r.backing, "/y");
        CU_ASSERT_STRING_EQUAL(r.writer.tag, "t1");
        CU_ASSERT_EQUAL(r.mode, SAVE_STOP);
        CU_ASSERT_EQUAL(r.writer.compress, QS_COMPRESS_ZSTD);
        CU_ASSERT_EQUAL(r.writer.zstd_level, 7);
        CU_ASSERT_EQUAL(r.writer.cluster_bits, 12);
        CU_ASSERT_TRUE(r.writer.force);
        CU_ASSERT_EQUAL(r.staging_bytes, 2 << 20);
        CU_ASSERT_TRUE(r.progress);
}

static void save_modes(void)
{
        static const struct {
                const char *text;
                enum save_mode mode;
        } table[] = {
                { "{\"snapshot_path\":\"/a\",\"mode\":\"live\"}", SAVE_LIVE },
                { "{\"snapshot_path\":\"/a\",\"mode\":\"paused\"}", SAVE_PAUSED },
                { "{\"snapshot_path\":\"/a\",\"mode\":\"stop\"}", SAVE_STOP },
                { "{\"snapshot_path\":\"/a\",\"staging\":0,\"progress\":false}", SAVE_LIVE },
        };

        for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
                struct save_request r;

                EXPECT_EQUAL(table[i].text, parse(table[i].text, &r, NULL), 0);
                EXPECT_EQUAL(table[i].text, r.mode, table[i].mode);
                EXPECT_EQUAL(table[i].text, r.staging_bytes, 0);
                EXPECT_TRUE(table[i].text, !r.progress);
        }
}

static void save_refusals(void)
{
        static const struct {
                const char *text;
                const char *why;
        } table[] = {
                { "", "not a JSON object" },
                { "[]", "not a JSON object" },
                { "{\"snapshot_path\":\"/a\"} x", "not a JSON object" },
                { "{}", "snapshot_path" },
                { "{\"snapshot_path\":7}", "snapshot_path" },
                { "{\"snapshot_path\":\"a\"}", "absolute" },
                { "{\"snapshot_path\":\"/a\\u0000b\"}", "NUL" },
                { "{\"snapshot_path\":\"/a\",\"mode\":\"later\"}", "mode 'later'" },
                { "{\"snapshot_path\":\"/a\",\"mode\":\"\"}", "mode ''" },
                { "{\"snapshot_path\":\"/a\",\"mode\":1}", "mode" },
                { "{\"snapshot_path\":\"/a\",\"staging\":2097151}", "2097151 bytes is less" },
                { "{\"snapshot_path\":\"/a\",\"staging\":-1}", "negative" },
                { "{\"snapshot_path\":\"/a\",\"staging\":\"2M\"}", "staging" },
                { "{\"snapshot_path\":\"/a\",\"staging\":18446744073709551615}", "staging" },
                { "{\"snapshot_path\":\"/a\",\"progress\":1}", "progress" },
                { "{\"snapshot_path\":\"/a\",\"compress\":\"lzo\"}", "compression" },
                { "{\"snapshot_path\":\"/a\",\"compress\":\"zstd\",\"level\":99}", "level" },
                { "{\"snapshot_path\":\"/a\",\"cluster_size\":5000}", "cluster size" },
                { "{\"snapshot_path\":\"/a\",\"cluster_size\":2048}", "cluster size" },
                { "{\"snapshot_path\":\"/a\",\"cluster_size\":-4096}", "negative" },
                { "{\"snapshot_path\":\"/a\",\"force\":\"yes\"}", "force" },
                { "{\"snapshot_path\":\"/a\",\"backing\":\"b\"}", "backing 'b' is not absolute" },
                { "{\"snapshot_path\":\"/a\",\"backing\":\"\"}", "backing '' is not absolute" },
                { "{\"snapshot_path\":\"/a\",\"tag\":"
                  "\"0123456789012345678901234567890123456789012345678901234567890123\"}", "tag" },
        };

        for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
                struct save_request r;
                struct err e = { 0 };

                CU_ASSERT_TRUE(parse(table[i].text, &r, &e) < 0);
                if (!strstr(e.text, table[i].why))
                        printf("\n'%s' gave '%s'\n", table[i].text, e.text);
                CU_ASSERT_PTR_NOT_NULL(strstr(e.text, table[i].why));
        }
}

static void meta_round_trip(void)
{
        struct meta in = { .name = "vm1", .memory_bytes = 5ull << 30, .cpus = 3,
                           .saved_wall_ns = 1786000000123456789ull };
        struct meta out;
        AUTO_JSON *o = meta_encode(&in);
        const char *text = json_object_to_json_string(o);

        CU_ASSERT_EQUAL_FATAL(meta_decode(text, strlen(text), &out, NULL), 0);
        CU_ASSERT_STRING_EQUAL(out.name, in.name);
        CU_ASSERT_EQUAL(out.memory_bytes, in.memory_bytes);
        CU_ASSERT_EQUAL(out.cpus, in.cpus);
        CU_ASSERT_EQUAL(out.saved_wall_ns, in.saved_wall_ns);
}

static void meta_refusals(void)
{
        static const struct {
                const char *text;
                int rc;
        } table[] = {
                { "{\"version\":2}", -ENOTSUP },
                { "{\"version\":1}", -EBADMSG },
                { "{\"version\":1,\"name\":\"../x\",\"memory\":1,\"cpus\":1,\"saved_wall_ns\":1}",
                  -EINVAL },
                { "{\"version\":1,\"name\":\"x\",\"memory\":1,\"cpus\":99,\"saved_wall_ns\":1}",
                  -EBADMSG },
        };

        for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
                struct meta m;

                CU_ASSERT_EQUAL(meta_decode(table[i].text, strlen(table[i].text), &m, NULL),
                                table[i].rc);
        }
}

static const CU_TestInfo cases[] = {
        { "a save request's defaults", save_defaults },
        { "a save request with everything", save_everything },
        { "the modes of a save request", save_modes },
        { "save requests that are refused", save_refusals },
        { "META round trip", meta_round_trip },
        { "META that is refused", meta_refusals },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("control", cases);
}
