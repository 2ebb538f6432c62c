/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: every message of the return path is what QEMU sends, is read wherever windows cut it,
 *       and is refused where it speaks of what the image does not have.
 * Method: each message made, compared with bytes written down, and read in one window, byte
 *         by byte and cut in two; every prefix; a table of wrong messages. */
#include "common/wire/qemurp.h"

#include <CUnit/CUnit.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "tests/unit/expect.h"
#include "tests/unit/qemu-kit.h"
#include "tests/unit/suite.h"

#define MIB (1ull << 20)
#define BYTES(text) (text), sizeof(text) - 1

/* bitmaps: 16 bytes, 8 bytes, 512 bytes */
static const struct qemu_ramblock blocks[] = {
        { "pc.ram", 65 * 4096, 4096 },
        { "/rom", 4096, 4096 },
        { "m0", 16 * MIB, 2 * MIB },
};

struct trace {
        struct kit_said said;
        uint8_t bitmap[4096];
        uint64_t bitmap_bytes;
        int rc;
        struct err e;
};

/* Bitmaps are put together: in how many pieces they come is up to the window. */
static void trace_item(struct trace *t, const struct qemurp_item *item)
{
        switch (item->type) {
        case QEMURP_MORE:
                break;
        case QEMURP_SHUT:
                kit_said(&t->said, "shut %x, ", item->value);
                break;
        case QEMURP_PONG:
                kit_said(&t->said, "pong %x, ", item->value);
                break;
        case QEMURP_REQUEST:
                kit_said(&t->said, "request %u %" PRIx64 " %" PRIx64 ", ", item->block,
                         item->offset, item->bytes);
                break;
        case QEMURP_BITMAP:
                ASSERT(item->bitmap_at + item->bytes <= sizeof(t->bitmap));
                CU_ASSERT_EQUAL(item->bitmap_at, t->bitmap_bytes);
                memcpy(t->bitmap + item->bitmap_at, item->data, item->bytes);
                t->bitmap_bytes += item->bytes;
                break;
        case QEMURP_BITMAP_END:
                kit_said(&t->said, "bitmap %u %" PRIu64 " %02x%02x, ", item->block, t->bitmap_bytes,
                          t->bitmap[0], t->bitmap[t->bitmap_bytes - 1]);
                t->bitmap_bytes = 0;
                break;
        case QEMURP_RESUME_ACK:
                kit_said(&t->said, "resume, ");
                break;
        case QEMURP_SWITCHOVER_ACK:
                kit_said(&t->said, "switchover, ");
                break;
        }
}

static void run(const uint8_t *data, size_t bytes, size_t first, size_t step, struct trace *t)
{
        struct qemurp p = { .blocks = blocks, .nblocks = ARRAY_SIZE(blocks), .page_bytes = 4096 };
        size_t at = 0;
        size_t end = MIN(first, bytes);

        memset(t, 0, sizeof(*t));
        for (;;) {
                AUTO_FREE uint8_t *window = malloc(MAX(end - at, 1u));
                struct qemurp_item item;
                size_t used = 0;

                ASSERT(window);
                memcpy(window, data + at, end - at);
                t->rc = qemurp_next(&p, window, end - at, &used, &item, &t->e);
                if (t->rc < 0)
                        return;
                at += used;
                trace_item(t, &item);
                if (item.type == QEMURP_MORE && end == bytes)
                        return;
                if (item.type == QEMURP_MORE)
                        end = MIN(end + step, bytes);
        }
}

/* ---- messages ------------------------------------------------------------- */

#define Z3 "\0\0\0"
#define Z6 Z3 Z3

static size_t make_shut(uint8_t *buf)
{
        return qemurp_shut(buf, 1);
}

static size_t make_pong(uint8_t *buf)
{
        return qemurp_pong(buf, 0x42);
}

static size_t make_request(uint8_t *buf)
{
        return qemurp_request(buf, "pc.ram", 0x3000, 4096);
}

static size_t make_two_requests(uint8_t *buf)
{
        size_t n = qemurp_request(buf, "m0", 4 * MIB, 2 * MIB);

        return n + qemurp_request(buf + n, NULL, 14 * MIB, 2 * MIB);
}

static size_t make_bitmap(uint8_t *buf)
{
        size_t n = qemurp_bitmap(buf, "pc.ram", qemurp_bitmap_bytes(blocks[0].bytes, 4096));

        memset(buf + n, 0xff, 8);
        memset(buf + n + 8, 0, 8);
        buf[n] = 0xfe;
        buf[n + 15] = 0x80;
        n += 16;
        return n + qemurp_bitmap_end(buf + n);
}

static size_t make_resume_ack(uint8_t *buf)
{
        return qemurp_resume_ack(buf);
}

static size_t make_switchover_ack(uint8_t *buf)
{
        return qemurp_switchover_ack(buf);
}

static const struct {
        const char *name;
        size_t (*make)(uint8_t *buf);
        const char *bytes;
        size_t n;
        const char *trace;
} messages[] = {
        { "SHUT", make_shut, BYTES("\0\1\0\4" Z3 "\1"), "shut 1, " },
        { "PONG", make_pong, BYTES("\0\2\0\4" Z3 "\x42"), "pong 42, " },
        { "REQ_PAGES_ID", make_request, BYTES("\0\3\0\x13" Z6 "\x30\0" "\0\0\x10\0" "\6pc.ram"),
          "request 0 3000 1000, " },
        { "REQ_PAGES", make_two_requests, BYTES("\0\3\0\x0f" Z3 "\0\0\x40\0\0" "\0\x20\0\0" "\2m0"
          "\0\4\0\x0c" Z3 "\0\0\xe0\0\0" "\0\x20\0\0"),
          "request 2 400000 200000, request 2 e00000 200000, " },
        { "RECV_BITMAP", make_bitmap, BYTES("\0\5\0\7\6pc.ram" Z6 "\0\x10"
          "\xfe\xff\xff\xff\xff\xff\xff\xff" Z6 "\0\x80" "\x01\x23\x45\x67\x89\xab\xcd\xef"),
          "bitmap 0 16 fe80, " },
        { "RESUME_ACK", make_resume_ack, BYTES("\0\6\0\4" Z3 "\1"), "resume, " },
        { "SWITCHOVER_ACK", make_switchover_ack, BYTES("\0\7\0\0"), "switchover, " },
};

static void messages_are_qemus(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(messages); i++) {
                uint8_t buf[2 * QEMURP_BYTES_MAX];
                size_t n = messages[i].make(buf);
                struct trace t;

                EXPECT_EQUAL(messages[i].name, n, messages[i].n);
                if (n == messages[i].n)
                        EXPECT_EQUAL(messages[i].name, memcmp(buf, messages[i].bytes, n), 0);
                run(buf, n, n, 1, &t);
                EXPECT_EQUAL(messages[i].name, t.rc, 0);
                EXPECT_TEXT(messages[i].name, t.said.text, messages[i].trace);
        }
}

static void prefixes_want_more(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(messages); i++) {
                uint8_t buf[2 * QEMURP_BYTES_MAX];
                size_t n = messages[i].make(buf);
                struct trace t;

                for (size_t k = 0; k < n; k++) {
                        run(buf, k, k, 1, &t);
                        EXPECT_EQUAL(messages[i].name, t.rc, 0);
                        EXPECT_TRUE(messages[i].name, strcmp(t.said.text, messages[i].trace));
                }
        }
}

/* All messages behind each other, with a bitmap that is longer than any window must be. */
static void windows_do_not_matter(void)
{
        struct qemubuf b = { 0 };
        uint8_t buf[2 * QEMURP_BYTES_MAX];
        struct trace whole, t;

        for (size_t i = 0; i < ARRAY_SIZE(messages); i++)
                qemubuf_put(&b, buf, messages[i].make(buf));
        qemubuf_put(&b, buf, qemurp_bitmap(buf, "m0", 512));
        kit_fill(&b, 0x55, 512);
        qemubuf_put(&b, buf, qemurp_bitmap_end(buf));
        qemubuf_put(&b, buf, qemurp_request(buf, NULL, 0, 2 * MIB));

        run(b.data, b.bytes, b.bytes, 1, &whole);
        CU_ASSERT_EQUAL(whole.rc, 0);
        CU_ASSERT_PTR_NOT_NULL(strstr(whole.said.text, "bitmap 2 512 5555, request 2 0 200000, "));
        for (size_t cut = 0; cut < b.bytes; cut++) {
                run(b.data, b.bytes, cut, b.bytes, &t);
                CU_ASSERT_STRING_EQUAL(t.said.text, whole.said.text);
        }
        for (size_t step = 1; step < 64; step++) {
                run(b.data, b.bytes, 0, step, &t);
                CU_ASSERT_STRING_EQUAL(t.said.text, whole.said.text);
        }
        qemubuf_fini(&b);
}

static const struct {
        const char *name;
        const char *bytes;
        size_t n;
        const char *text;
} wrong[] = {
        { "type 0", BYTES("\0\0\0\0"), "type 0 is not known" },
        { "type 8", BYTES("\0\10\0\0"), "type 8 is not known" },
        { "type 257", BYTES("\1\1\0\0"), "type 257 is not known" },
        { "a short SHUT", BYTES("\0\1\0\3"), "type 1 has 3 bytes" },
        { "a long PONG", BYTES("\0\2\0\5"), "type 2 has 5 bytes" },
        { "a long SWITCHOVER_ACK", BYTES("\0\7\0\1"), "type 7 has 1 bytes" },
        { "a short request", BYTES("\0\3\0\x0c"), "type 3 has 12 bytes" },
        { "a long request", BYTES("\0\3\1\x0d"), "type 3 has 269 bytes" },
        { "a short name", BYTES("\0\5\0\7\5pc.ram"), "wrong length" },
        { "a long name", BYTES("\0\5\0\7\7pc.ram"), "wrong length" },
        { "an unknown block", BYTES("\0\3\0\x11" Z6 "\0\0" "\0\0\x10\0" "\4none"),
          "does not have" },
        { "a bitmap of an unknown block", BYTES("\0\5\0\5\4none"), "does not have" },
        { "the block before the first", BYTES("\0\4\0\x0c" Z6 "\0\0" "\0\0\x10\0"),
          "names no RAM block" },
        { "nothing", BYTES("\0\3\0\x13" Z6 "\0\0" "\0\0\0\0" "\6pc.ram"), "asks for 0 bytes" },
        { "behind the block", BYTES("\0\3\0\x11" Z6 "\x10\0" "\0\0\x10\0" "\4/rom"),
          "4096 bytes at 0x1000 of RAM block '/rom', which has 4096" },
        { "over the end", BYTES("\0\3\0\x11" Z6 "\0\0" "\0\0\x20\0" "\4/rom"),
          "8192 bytes at 0x0 of RAM block '/rom', which has 4096" },
        { "far away", BYTES("\0\3\0\x13" "\xff\xff\xff\xff\xff\xff\xf0\0" "\0\0\x10\0"
          "\6pc.ram"), "0xfffffffffffff000" },
        { "between pages", BYTES("\0\3\0\x13" Z6 "\10\0" "\0\0\x10\0" "\6pc.ram"),
          "give its page size" },
        { "a part of a huge page", BYTES("\0\3\0\x0f" Z6 "\0\0" "\0\0\x10\0" "\2m0"),
          "pages are said to be of 2097152: give its page size" },
        { "a long bitmap", BYTES("\0\5\0\7\6pc.ram" Z6 "\0\x18"), "has 24 bytes, not 16" },
        { "no bitmap", BYTES("\0\5\0\7\6pc.ram" Z6 "\0\0"), "has 0 bytes, not 16" },
        { "a bitmap without end", BYTES("\0\5\0\5\4/rom" Z6 "\0\10" Z6 "\0\1" Z6 "\0\0"),
          "has no end" },
        { "RESUME_ACK 0", BYTES("\0\6\0\4" Z3 "\0"), "refuses to go on: 0" },
};

static void wrong_messages(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                struct trace t;

                for (size_t step = 1; step <= wrong[i].n; step += wrong[i].n - 1) {
                        run((const uint8_t *)wrong[i].bytes, wrong[i].n, 0, step, &t);
                        EXPECT_EQUAL(wrong[i].name, t.rc, -EBADMSG);
                        if (!strstr(t.e.text, wrong[i].text))
                                EXPECT_TEXT(wrong[i].name, t.e.text, wrong[i].text);
                }
                run((const uint8_t *)wrong[i].bytes, wrong[i].n - 1, wrong[i].n, 1, &t);
                EXPECT_EQUAL(wrong[i].name, t.rc, 0);
        }
}

static void bitmaps_are_whole_words(void)
{
        CU_ASSERT_EQUAL(qemurp_bitmap_bytes(4096, 4096), 8);
        CU_ASSERT_EQUAL(qemurp_bitmap_bytes(64 * 4096, 4096), 8);
        CU_ASSERT_EQUAL(qemurp_bitmap_bytes(65 * 4096, 4096), 16);
        CU_ASSERT_EQUAL(qemurp_bitmap_bytes(64 * MIB, 4096), 2048);
        CU_ASSERT_EQUAL(qemurp_bitmap_bytes(64 * MIB, 65536), 128);
}

static const CU_TestInfo cases[] = {
        { "messages are QEMU's, byte for byte", messages_are_qemus },
        { "what is cut wants more", prefixes_want_more },
        { "where windows cut does not matter", windows_do_not_matter },
        { "wrong messages are refused", wrong_messages },
        { "bitmaps are whole words", bitmaps_are_whole_words },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("qemurp", cases);
}
