/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a head is known as soon as the byte behind it is there, or when it is said to be
 *       whole; what is cut or goes on is told apart.
 * Method: the heads of qemu-kit.h with every number of bytes, whole or not. What is refused
 *         in a head is in qemusave-refuse-test.c. */
#include "common/wire/qemuhead.h"

#include <CUnit/CUnit.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "tests/unit/expect.h"
#include "tests/unit/qemu-kit.h"
#include "tests/unit/suite.h"

static const struct {
        const char *name;
        struct qemu_kit kit;
        const char *machine;
        uint32_t page_bytes;
        size_t before;                  /* of its beginnings which is a whole head, too */
        size_t before_too;
} rows[] = {
        { "machine", { .uuid = false }, "pc-i440fx-7.2", 4096, 8, 0 },
        { "no configuration", { .no_configuration = true }, "", 4096, 0, 0 },
        { "page bits", { .page_bits = 14 }, "pc-i440fx-7.2", 16384, 8, 26 },
        { "uuid", { .uuid = true }, "pc-i440fx-7.2", 4096, 8, 26 },
};

static int parse_copy(const struct qemubuf *b, size_t n, bool whole, struct qemuhead *h,
                      size_t *ret_n, struct err *e)
{
        AUTO_FREE uint8_t *copy = malloc(MAX(n, 1u));

        ASSERT(copy);
        memcpy(copy, b->data, n);
        return qemuhead_parse(copy, n, whole, h, ret_n, e);
}

static void heads_in_a_stream(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct qemubuf b = { 0 };
                struct qemuhead h;
                struct err e = { 0 };
                size_t n = 0;

                qemu_kit_head(&rows[i].kit, &b);

                size_t bytes = b.bytes;

                for (size_t k = 0; k <= bytes; k++) {
                        EXPECT_EQUAL(rows[i].name, parse_copy(&b, k, false, &h, &n, &e), -EAGAIN);
                        EXPECT_EQUAL(rows[i].name, n, 0);
                }
                qemu_kit_start(&rows[i].kit, &b);
                EXPECT_EQUAL(rows[i].name, parse_copy(&b, bytes + 1, false, &h, &n, &e), 0);
                EXPECT_EQUAL(rows[i].name, n, bytes);
                EXPECT_TEXT(rows[i].name, h.machine, rows[i].machine);
                EXPECT_EQUAL(rows[i].name, h.page_bytes, rows[i].page_bytes);
                qemubuf_fini(&b);
        }
}

static void heads_by_themselves(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct qemubuf b = { 0 };
                struct qemuhead h;
                struct err e = { 0 };
                size_t n;

                qemu_kit_head(&rows[i].kit, &b);
                EXPECT_EQUAL(rows[i].name, parse_copy(&b, b.bytes, true, &h, &n, &e), 0);
                EXPECT_EQUAL(rows[i].name, n, b.bytes);
                EXPECT_TEXT(rows[i].name, h.machine, rows[i].machine);
                EXPECT_EQUAL(rows[i].name, h.page_bytes, rows[i].page_bytes);
                for (size_t k = 0; k < b.bytes; k++) {
                        bool good = k && (k == rows[i].before || k == rows[i].before_too);

                        EXPECT_EQUAL(rows[i].name, parse_copy(&b, k, true, &h, &n, &e),
                                     good ? 0 : -EBADMSG);
                }
                qemubuf_fini(&b);
        }
}

/* What goes on behind the head is seen by its length. */
static void more_than_a_head(void)
{
        struct qemu_kit kit = { .uuid = true };
        struct qemubuf b = { 0 };
        struct qemuhead h;
        struct err e;
        size_t n = 0;

        qemu_kit_stream(&kit, &b);
        CU_ASSERT_EQUAL(qemuhead_parse(b.data, b.bytes, true, &h, &n, &e), 0);
        CU_ASSERT_EQUAL(n, 66);
        qemubuf_fini(&b);
}

static const CU_TestInfo cases[] = {
        { "heads in a stream", heads_in_a_stream },
        { "heads by themselves", heads_by_themselves },
        { "more than a head", more_than_a_head },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("qemuhead", cases);
}
