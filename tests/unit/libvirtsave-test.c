/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: where the stream begins in a file of `virsh save`, and how it is compressed; files
 *       that are not complete, of other hosts or of later versions are refused.
 * Method: a head as libvirt 9.0 writes it, and a table of single wrong fields. */
#include "common/wire/libvirtsave.h"

#include <CUnit/CUnit.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/check.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

static void make(uint8_t head[LIBVIRTSAVE_HEAD_BYTES])
{
        memset(head, 0, LIBVIRTSAVE_HEAD_BYTES);
        memcpy(head, "LibvirtQemudSave", 16);
        put_le32(head + 16, 2);
        put_le32(head + 20, 0x105c0);
        put_le32(head + 24, 1);
        put_le32(head + 32, 0x5a0);
}

static void a_good_one(void)
{
        uint8_t head[LIBVIRTSAVE_HEAD_BYTES];
        struct libvirtsave s;
        struct err e;

        make(head);
        CU_ASSERT_TRUE(libvirtsave_is(head, sizeof(head)));
        CU_ASSERT_FALSE(libvirtsave_is(head, 15));
        CU_ASSERT_EQUAL(libvirtsave_parse(head, sizeof(head), &s, &e), 0);
        CU_ASSERT_EQUAL(s.stream_at, 67100);
        CU_ASSERT_EQUAL(s.format, LIBVIRTSAVE_RAW);
        CU_ASSERT_TRUE(s.was_running);
}

static void all_formats(void)
{
        static const char *const names[] = { "raw", "gzip", "bzip2", "xz", "lzop", "zstd" };

        for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
                uint8_t head[LIBVIRTSAVE_HEAD_BYTES];
                struct libvirtsave s;
                struct err e;

                make(head);
                put_le32(head + 28, i);
                EXPECT_EQUAL(names[i], libvirtsave_parse(head, sizeof(head), &s, &e), 0);
                EXPECT_EQUAL(names[i], s.format, i);
                EXPECT_TEXT(names[i], libvirtsave_format_name(s.format), names[i]);
        }
}

static void too_short(void)
{
        uint8_t head[LIBVIRTSAVE_HEAD_BYTES];

        make(head);
        for (size_t n = 0; n < sizeof(head); n++) {
                AUTO_FREE uint8_t *copy = malloc(MAX(n, 1u));
                struct libvirtsave s;
                struct err e;

                ASSERT(copy);
                memcpy(copy, head, n);
                CU_ASSERT_EQUAL(libvirtsave_parse(copy, n, &s, &e), -EAGAIN);
                CU_ASSERT_EQUAL(libvirtsave_is(copy, n), n >= 16);
        }
}

static const struct {
        const char *name;
        size_t at;
        uint32_t value;
        int code;
        const char *text;
} wrong[] = {
        { "not complete", 12, 0x74726150, EBADMSG, "did not complete it: save the domain again" },
        { "another magic", 12, 0x65766153, EBADMSG, "not a saved domain" },
        { "version 0", 16, 0, ENOTSUP, "version 0" },
        { "version 3", 16, 3, ENOTSUP, "version 3; known are 1 to 2" },
        { "big-endian", 16, 0x02000000, ENOTSUP, "other byte order" },
        { "no XML", 20, 0, EBADMSG, "takes 0 bytes" },
        { "too much XML", 20, LIBVIRTSAVE_DATA_MAX + 1, EBADMSG, "takes 67108865 bytes" },
        { "sparse", 28, 6, ENOTSUP, "format 6 is not known" },
        { "wild", 28, UINT32_MAX, ENOTSUP, "format 4294967295 is not known" },
};

static void wrong_fields(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                uint8_t head[LIBVIRTSAVE_HEAD_BYTES];
                struct libvirtsave s;
                struct err e = { 0 };

                make(head);
                put_le32(head + wrong[i].at, wrong[i].value);
                if (!strcmp(wrong[i].name, "another magic"))
                        head[0] = 'l';
                EXPECT_EQUAL(wrong[i].name, libvirtsave_parse(head, sizeof(head), &s, &e),
                             -wrong[i].code);
                if (!strstr(e.text, wrong[i].text))
                        EXPECT_TEXT(wrong[i].name, e.text, wrong[i].text);
        }
}

static const CU_TestInfo cases[] = {
        { "a file of libvirt 9.0", a_good_one },
        { "all formats", all_formats },
        { "what is too short", too_short },
        { "single wrong fields", wrong_fields },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("libvirtsave", cases);
}
