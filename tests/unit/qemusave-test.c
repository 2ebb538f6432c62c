/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: every form of a stream that QEMU sends is taken, wherever windows cut it; all that
 *       cannot be split, and all that QEMU does not send, is refused with its remedy.
 * Method: streams of qemu-kit.h against the events that they stand for, in one window, byte
 *         by byte, and cut in two at every byte; every prefix; a table of single wrong
 *         records behind a good beginning. */
#include "common/wire/qemusave.h"

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


/* What happened, as text. Zeros that lie behind each other are one event, for how many
 * come at once is up to the window. */
struct trace {
        struct kit_said said;
        struct qemusave_item zero;      /* not written yet; bytes 0 = none */
        int rc;
        struct err e;
        uint64_t devices_at;
};

static void trace_zero(struct trace *t, const struct qemusave_item *item)
{
        if (t->zero.bytes && item->event == QEMUSAVE_ZERO && item->block == t->zero.block &&
            item->offset == t->zero.offset + t->zero.bytes) {
                t->zero.bytes += item->bytes;
                return;
        }
        if (t->zero.bytes)
                kit_said(&t->said, "zero %u %" PRIx64 " %" PRIx64 ", ", t->zero.block,
                         t->zero.offset, t->zero.bytes);
        t->zero = *item;
        if (item->event != QEMUSAVE_ZERO)
                t->zero.bytes = 0;
}

static bool is_filled(const uint8_t *p, uint64_t bytes)
{
        return !memcmp(p, p + 1, bytes - 1);
}

static void trace_item(struct trace *t, const struct qemusave_item *item)
{
        trace_zero(t, item);
        switch (item->event) {
        case QEMUSAVE_HEAD:
                kit_said(&t->said, "head %" PRIu64 ", ", item->bytes);
                break;
        case QEMUSAVE_RETURN_PATH:
                kit_said(&t->said, "return path, ");
                break;
        case QEMUSAVE_PING:
                kit_said(&t->said, "ping %x, ", item->token);
                break;
        case QEMUSAVE_BLOCKS:
                kit_said(&t->said, "blocks, ");
                break;
        case QEMUSAVE_PAGE:
                CU_ASSERT(is_filled(item->data, item->bytes));
                kit_said(&t->said, "page %u %" PRIx64 " %02x, ", item->block, item->offset,
                          item->data[0]);
                break;
        case QEMUSAVE_DEVICES:
                kit_said(&t->said, "devices");
                break;
        default:
                break;
        }
}

/* Runs all of data through p; each window ends where the next multiple of step behind
 * `first` is. Each window is a copy of exactly its size, for sanitizers. */
static void run(struct qemusave *p, const uint8_t *data, size_t bytes, size_t first, size_t step,
                struct trace *t)
{
        size_t at = 0;
        size_t end = MIN(first, bytes);

        memset(t, 0, sizeof(*t));
        for (;;) {
                AUTO_FREE uint8_t *window = malloc(MAX(end - at, 1u));
                struct qemusave_item item = { .event = QEMUSAVE_MORE };
                size_t used = 0;

                ASSERT(window);
                memcpy(window, data + at, end - at);
                t->rc = qemusave_next(p, window, end - at, &used, &item, &t->e);
                at += used;
                t->devices_at = at;

                bool more = item.event == QEMUSAVE_MORE;
                bool last = t->rc < 0 || item.event == QEMUSAVE_DEVICES || (more && end == bytes);

                if (last || !more)
                        trace_item(t, &item);
                if (last)
                        return;
                if (more)
                        end = MIN(end + step, bytes);
        }
}

static void run_new(const struct qemubuf *b, size_t first, size_t step, struct trace *t)
{
        struct qemusave *p = qemusave_new();

        ASSERT(p);
        run(p, b->data, b->bytes, first, step, t);
        qemusave_free(p);
}

/* ---- streams that are taken ----------------------------------------------- */

#define RAM_TRACE "blocks, page 0 0 11, zero 0 1000 2000, page 0 7000 22, page 1 1000 33, " \
        "zero 1 0 1000, zero 0 3000 1000, page 0 4000 44, devices"

static const struct {
        const char *name;
        struct qemu_kit kit;
        const char *trace;
} streams[] = {
        { "precopy", { .uuid = false }, "head 26, " RAM_TRACE },
        { "background snapshot", { .background = true }, "head 26, " RAM_TRACE },
        { "return path", { .return_path = true },
          "head 26, return path, ping 1, " RAM_TRACE },
        { "no footers", { .no_footers = true }, "head 26, " RAM_TRACE },
        { "no configuration", { .no_configuration = true }, "head 8, " RAM_TRACE },
        { "uuid", { .uuid = true }, "head 66, " RAM_TRACE },
        { "page bits", { .page_bits = 12 }, "head 66, " RAM_TRACE },
        { "page bits and uuid", { .page_bits = 12, .uuid = true }, "head 106, " RAM_TRACE },
        { "flush words", { .flush = true }, "head 26, " RAM_TRACE },
        { "switchover", { .switchover = true }, "head 26, " RAM_TRACE },
        { "nothing of all that", { .no_configuration = true, .no_footers = true,
                                   .background = true, .no_desc = true }, "head 8, " RAM_TRACE },
        { "64 KiB pages", { .page_bits = 16 },
          "head 66, blocks, page 0 0 11, zero 0 10000 20000, page 0 70000 22, page 1 10000 33, "
          "zero 1 0 10000, zero 0 30000 10000, page 0 40000 44, devices" },
};

static void streams_are_taken(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(streams); i++) {
                struct qemubuf b = { 0 };
                struct trace t;

                qemu_kit_stream(&streams[i].kit, &b);
                run_new(&b, b.bytes, 1, &t);
                EXPECT_EQUAL(streams[i].name, t.rc, 0);
                EXPECT_TEXT(streams[i].name, t.said.text, streams[i].trace);
                qemubuf_fini(&b);
        }
}

/* Deep in a page every cut is like the next. */
static bool is_dull(const struct qemubuf *b, size_t cut)
{
        return cut >= 16 && b->bytes - cut >= 16 && b->data[cut] &&
               !memcmp(b->data + cut - 16, b->data + cut - 15, 31);
}

static void windows_do_not_matter(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(streams); i++) {
                struct qemubuf b = { 0 };
                struct trace t;

                qemu_kit_stream(&streams[i].kit, &b);
                for (size_t cut = 0; cut <= b.bytes; cut++) {
                        if (is_dull(&b, cut))
                                continue;
                        run_new(&b, cut, b.bytes, &t);
                        EXPECT_TEXT(streams[i].name, t.said.text, streams[i].trace);
                }
                for (size_t step = 1 + b.bytes / 65536; step <= 16384; step = step * 3 + 1) {
                        run_new(&b, 0, step, &t);
                        EXPECT_TEXT(streams[i].name, t.said.text, streams[i].trace);
                }
                qemubuf_fini(&b);
        }
}

/* What is cut is not refused but wants more, and there is a sentence for it. */
static void prefixes_want_more(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(streams); i++) {
                struct qemubuf b = { 0 };
                struct trace t;

                qemu_kit_stream(&streams[i].kit, &b);
                run_new(&b, b.bytes, 1, &t);

                uint64_t devices_at = t.devices_at;

                for (size_t n = 0; n <= devices_at; n++) {
                        if (is_dull(&b, n))
                                continue;

                        struct qemusave *p = qemusave_new();
                        struct err e = { 0 };

                        ASSERT(p);
                        run(p, b.data, n, n, 1, &t);
                        EXPECT_EQUAL(streams[i].name, t.rc, 0);
                        EXPECT_EQUAL(streams[i].name, t.e.code, 0);
                        EXPECT_TRUE(streams[i].name, !strstr(t.said.text, "devices"));
                        EXPECT_EQUAL(streams[i].name, qemusave_cut(p, &e), -EBADMSG);
                        EXPECT_TRUE(streams[i].name, strstr(e.text, "ends"));
                        qemusave_free(p);
                }
                qemubuf_fini(&b);
        }
}

static void the_rest_is_the_tail(void)
{
        struct qemu_kit kit = { .return_path = true };
        struct qemubuf b = { 0 };
        struct qemubuf tail = { 0 };
        struct trace t;

        qemu_kit_stream(&kit, &b);
        qemu_kit_tail(&kit, &tail);
        run_new(&b, b.bytes, 1, &t);
        CU_ASSERT_EQUAL_FATAL(b.bytes - t.devices_at, tail.bytes);
        CU_ASSERT_EQUAL(memcmp(b.data + t.devices_at, tail.data, tail.bytes), 0);
        qemubuf_fini(&b);
        qemubuf_fini(&tail);
}

static void what_is_known_of_it(void)
{
        struct qemu_kit kit = { .page_bits = 12 };
        struct qemubuf b = { 0 };
        struct qemusave *p = qemusave_new();
        struct trace t;
        unsigned n;

        ASSERT(p);
        qemu_kit_stream(&kit, &b);
        run(p, b.data, b.bytes, b.bytes, 1, &t);
        CU_ASSERT_STRING_EQUAL(qemusave_head(p)->machine, "pc-i440fx-7.2");
        CU_ASSERT_EQUAL(qemusave_head(p)->page_bytes, 4096);

        const struct qemu_ramblock *blocks = qemusave_blocks(p, &n);

        CU_ASSERT_EQUAL_FATAL(n, 2);
        CU_ASSERT_STRING_EQUAL(blocks[0].name, QEMU_KIT_RAM);
        CU_ASSERT_EQUAL(blocks[0].bytes, QEMU_KIT_RAM_PAGES * 4096);
        CU_ASSERT_STRING_EQUAL(blocks[1].name, QEMU_KIT_ROM);
        CU_ASSERT_EQUAL(blocks[1].bytes, QEMU_KIT_ROM_PAGES * 4096);
        CU_ASSERT_EQUAL(qemusave_ram(p).id, 2);
        CU_ASSERT_EQUAL(qemusave_ram(p).instance, 0);
        CU_ASSERT_EQUAL(qemusave_ram(p).version, 4);
        CU_ASSERT_TRUE(qemusave_ram(p).footers);
        qemusave_free(p);
        qemubuf_fini(&b);
}

static void a_refused_stream_stays_refused(void)
{
        struct qemusave *p = qemusave_new();
        struct qemusave_item item;
        struct err e = { 0 };
        size_t used;

        ASSERT(p);
        CU_ASSERT_EQUAL(qemusave_next(p, (const uint8_t *)"GET / HTTP", 10, &used, &item, &e),
                        -EBADMSG);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "at byte 0: it is not a migration stream"));
        CU_ASSERT_EQUAL(qemusave_next(p, (const uint8_t *)"QEVM\0\0\0\3\1", 9, &used, &item, &e),
                        -EBADMSG);
        qemusave_free(p);
        qemusave_free(NULL);
}

/* A zero page, then one that continues the run, or does not, or must not be there. */
static void runs_of_zeros_end(void)
{
        static const struct {
                const char *name;
                uint64_t first, word;
                unsigned fill;
                int rc;
                const char *trace;
        } rows[] = {
                { "the next page", 0, 0x1000 | 0x22, 0, 0, "zero 0 0 2000, " },
                { "a later page", 0, 0x2000 | 0x22, 0, 0, "zero 0 0 1000, zero 0 2000 1000, " },
                { "the same page", 0, 0x22, 0, 0, "zero 0 0 1000, zero 0 0 1000, " },
                { "up to the end", 0x6000, 0x7000 | 0x22, 0, 0, "zero 0 6000 2000, " },
                { "over the end", 0x7000, 0x8000 | 0x22, 0, -EBADMSG, "zero 0 7000 1000, " },
                { "the next page, not zero", 0, 0x1000 | 0x22, 1, -EBADMSG, "zero 0 0 1000, " },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct qemu_kit kit = { .uuid = false };
                struct qemubuf b = { 0 };
                struct trace t;

                qemu_kit_head(&kit, &b);
                qemu_kit_start(&kit, &b);
                kit_u8(&b, 2);
                kit_u32(&b, 2);
                kit_u64(&b, rows[i].first | 2);
                kit_text(&b, QEMU_KIT_RAM);
                kit_u8(&b, 0);
                kit_u64(&b, rows[i].word);
                kit_u8(&b, rows[i].fill);
                kit_u64(&b, 0x10);
                run_new(&b, b.bytes, 1, &t);
                EXPECT_EQUAL(rows[i].name, t.rc, rows[i].rc);
                EXPECT_TEXT(rows[i].name, strstr(t.said.text, "zero"), rows[i].trace);
                qemubuf_fini(&b);
        }
}

static const CU_TestInfo cases[] = {
        { "every form of a stream is taken", streams_are_taken },
        { "where windows cut does not matter", windows_do_not_matter },
        { "what is cut wants more", prefixes_want_more },
        { "from DEVICES on the rest is the tail", the_rest_is_the_tail },
        { "head, blocks and sections are known", what_is_known_of_it },
        { "a refused stream stays refused", a_refused_stream_stays_refused },
        { "runs of zeros end where they should", runs_of_zeros_end },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("qemusave", cases);
}
