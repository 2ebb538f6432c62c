/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: what a QEMU that loads is sent is what a QEMU that saves would send, and the commands
 *       are those that QEMU 7.2 was seen to take.
 * Method: the stream of qemu-kit.h made again with qemuload.h, byte for byte; commands
 *         against bytes written down; what qemusave.h reads of it; a table of wrong blocks;
 *         calls that must abort. */
#include "common/wire/qemuload.h"

#include <CUnit/CUnit.h>
#include <errno.h>
#include <string.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/check.h"
#include "common/wire/qemusave.h"
#include "tests/unit/expect.h"
#include "tests/unit/qemu-kit.h"
#include "tests/unit/suite.h"

#define MIB (1ull << 20)
#define BYTES(text) (text), sizeof(text) - 1

static const struct qemu_ramblock small[] = {
        { QEMU_KIT_RAM, QEMU_KIT_RAM_PAGES * 4096, 4096 },
        { QEMU_KIT_ROM, QEMU_KIT_ROM_PAGES * 4096, 4096 },
};

static const struct qemu_ramblock huge[] = {
        { "m0", 16 * MIB, 2 * MIB },
        { "pc.bios", 4096, 4096 },
};

static struct qemuload load_of(const struct qemu_ramblock *blocks)
{
        return (struct qemuload){
                .blocks = blocks, .nblocks = 2, .page_bytes = 4096, .host_page_bytes = 4096,
                .ram_id = 2, .ram_version = 4, .footers = true,
        };
}

static void expect_bytes(const char *row, const struct qemubuf *b, const void *want, size_t n)
{
        EXPECT_EQUAL(row, b->bytes, n);
        if (b->bytes == n)
                EXPECT_EQUAL(row, memcmp(b->data, want, n), 0);
}

/* ---- a whole stream ------------------------------------------------------- */

static void put_page(struct qemuload *l, struct qemubuf *b, unsigned block, unsigned page,
                     unsigned fill)
{
        qemuload_page(l, b, block, page * 4096);
        kit_fill(b, fill, 4096);
}

static void put_again(struct qemuload *l, const struct qemu_kit *k, struct qemubuf *b)
{
        qemu_kit_head(k, b);
        if (k->return_path) {
                qemuload_command(b, QEMU_OPEN_RETURN_PATH);
                qemuload_ping(b, 1);
        }
        qemuload_start(l, b, false);
        qemuload_section(l, b, QEMU_PART);
        put_page(l, b, 0, 0, 0x11);
        qemuload_zero(l, b, 0, 4096, 2 * 4096);
        put_page(l, b, 0, 7, 0x22);
        put_page(l, b, 1, 1, 0x33);
        qemuload_zero(l, b, 1, 0, 4096);
        qemuload_zero(l, b, 0, 3 * 4096, 4096);
        qemuload_section_end(l, b);
        qemuload_section(l, b, k->background ? QEMU_PART : QEMU_END);
        put_page(l, b, 0, 4, 0x44);
        qemuload_section_end(l, b);
}

static void same_as_qemus(void)
{
        static const struct {
                const char *name;
                struct qemu_kit kit;
        } rows[] = {
                { "precopy", { .uuid = true } },
                { "background", { .background = true } },
                { "return path", { .return_path = true } },
                { "no footers", { .no_footers = true } },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct qemuload l = load_of(small);
                struct qemubuf want = { 0 }, got = { 0 };
                struct err e;

                l.footers = !rows[i].kit.no_footers;
                EXPECT_EQUAL(rows[i].name, qemuload_check(&l, &e), 0);
                qemu_kit_head(&rows[i].kit, &want);
                qemu_kit_start(&rows[i].kit, &want);
                qemu_kit_pages(&rows[i].kit, &want);
                put_again(&l, &rows[i].kit, &got);
                EXPECT_EQUAL(rows[i].name, qemubuf_check(&got, &e), 0);
                expect_bytes(rows[i].name, &got, want.data, want.bytes);
                qemubuf_fini(&want);
                qemubuf_fini(&got);
        }
}

static void end_of_a_stream(void)
{
        struct qemu_kit k = { .uuid = false };
        struct qemubuf want = { 0 }, got = { 0 };
        size_t json = strlen(QEMU_KIT_JSON);

        qemu_kit_tail(&k, &want);
        CU_ASSERT_FATAL(want.bytes > json + 6);
        qemubuf_put(&got, want.data, want.bytes - json - 6);
        qemuload_eof(&got);
        qemuload_desc(&got, (uint32_t)json);
        qemubuf_put(&got, QEMU_KIT_JSON, json);
        expect_bytes("tail", &got, want.data, want.bytes);
        qemubuf_fini(&want);
        qemubuf_fini(&got);
}

/* ---- commands ------------------------------------------------------------- */

static void put_return_path(struct qemuload *l, struct qemubuf *b)
{
        (void)l;
        qemuload_command(b, QEMU_OPEN_RETURN_PATH);
        qemuload_ping(b, 0x01020304);
}

static void put_advise(struct qemuload *l, struct qemubuf *b)
{
        qemuload_advise(l, b);
}

static void put_advise_huge(struct qemuload *l, struct qemubuf *b)
{
        l->blocks = huge;
        qemuload_advise(l, b);
}

static void put_discard(struct qemuload *l, struct qemubuf *b)
{
        struct qemuload_range ranges[] = { { 0, 0x1000 }, { 0x3000, 0x5000 } };

        qemuload_discard(l, b, 0, ranges, 2);
}

static void put_discard_all(struct qemuload *l, struct qemubuf *b)
{
        l->blocks = huge;
        qemuload_discard_all(l, b);
}

static void put_package(struct qemuload *l, struct qemubuf *b)
{
        (void)l;
        qemuload_package(b, 4);
        qemubuf_put(b, "blob", 4);
        qemuload_package_end(b, 3);
}

static void put_recover(struct qemuload *l, struct qemubuf *b)
{
        qemuload_ask_bitmap(l, b, 0);
        qemuload_command(b, QEMU_POSTCOPY_RESUME);
}

static void put_list_advised(struct qemuload *l, struct qemubuf *b)
{
        l->blocks = huge;
        l->ram_id = 3;
        l->ram_instance = 1;
        qemuload_start(l, b, true);
}

static void put_list_plain(struct qemuload *l, struct qemubuf *b)
{
        l->blocks = huge;
        qemuload_start(l, b, false);
}

static void put_after_recover(struct qemuload *l, struct qemubuf *b)
{
        qemuload_zero(l, b, 0, 0, 4096);
        qemuload_zero(l, b, 0, 0x1000, 4096);
        l->last_block = 0;
        qemuload_zero(l, b, 0, 0x2000, 4096);
}

#define Z3 "\0\0\0"
#define Z6 Z3 Z3
#define FOOTER(id) "\0" Z6 "\x10\x7e" Z3 id

static const struct {
        const char *name;
        void (*put)(struct qemuload *l, struct qemubuf *b);
        const char *bytes;
        size_t n;
} commands[] = {
        { "return path", put_return_path, BYTES("\10\0\1\0\0\10\0\2\0\4\1\2\3\4") },
        { "advise", put_advise, BYTES("\10\0\3\0\x10" Z6 "\x10\0" Z6 "\x10\0") },
        { "advise, huge pages", put_advise_huge, BYTES("\10\0\3\0\x10" Z3 "\0\0\x20\x10\0" Z6
          "\x10\0") },
        { "discard", put_discard, BYTES("\10\0\6\0\x29\0\6pc.ram\0" Z6 "\0\0" Z6 "\x10\0" Z6
          "\x30\0" Z6 "\x50\0") },
        { "discard all", put_discard_all, BYTES(
          "\10\0\6\0\x15\0\2m0\0" Z6 "\0\0" Z3 "\0\1\0\0\0"
          "\10\0\6\0\x1a\0\7pc.bios\0" Z6 "\0\0" Z6 "\x10\0") },
        { "package", put_package, BYTES("\10\0\7\0\4" Z3 "\x17" "\10\0\4\0\0" "blob"
          "\10\0\2\0\4" Z3 "\3" "\10\0\5\0\0") },
        { "recover", put_recover, BYTES("\10\0\12\0\7\6pc.ram" "\10\0\11\0\0") },
        { "list, advised", put_list_advised, BYTES("\1" Z3 "\3" "\3ram" Z3 "\1" Z3 "\4"
          Z3 "\0\1\0\x10\4" "\2m0" Z3 "\0\1\0\0\0" Z3 "\0\0\x20\0\0" "\7pc.bios" Z6 "\x10\0"
          FOOTER("\3")) },
        { "list, not advised", put_list_plain, BYTES("\1" Z3 "\2" "\3ram" Z3 "\0" Z3 "\4"
          Z3 "\0\1\0\x10\4" "\2m0" Z3 "\0\1\0\0\0" "\7pc.bios" Z6 "\x10\0" FOOTER("\2")) },
        { "words of a new connection", put_after_recover, BYTES(Z6 "\0\2\6pc.ram\0"
          Z6 "\x10\x22\0" Z6 "\x20\2\6pc.ram\0") },
};

static void commands_are_as_seen(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
                struct qemuload l = load_of(small);
                struct qemubuf b = { 0 };

                commands[i].put(&l, &b);
                expect_bytes(commands[i].name, &b, commands[i].bytes, commands[i].n);
                qemubuf_fini(&b);
        }
}

/* Ranges of a command whose length is a be16: what is too much goes into the next. */
static void many_ranges(void)
{
        static struct qemuload_range ranges[10000];
        struct qemu_ramblock block = { .name = "m", .bytes = 1ull << 40, .page_bytes = 4096 };
        struct qemuload l = load_of(&block);
        struct qemubuf b = { 0 };
        size_t seen = 0;

        for (size_t i = 0; i < ARRAY_SIZE(ranges); i++)
                ranges[i] = (struct qemuload_range){ i << 13, 4096 };
        qemuload_discard(&l, &b, 0, ranges, ARRAY_SIZE(ranges));
        for (size_t at = 0; at < b.bytes;) {
                size_t end = at + 5 + get_be16(b.data + at + 3);

                CU_ASSERT_EQUAL_FATAL(memcmp(b.data + at, "\10\0\6", 3), 0);
                CU_ASSERT_EQUAL_FATAL(memcmp(b.data + at + 5, "\0\1m\0", 4), 0);
                for (at += 9; at < end; at += 16, seen++)
                        CU_ASSERT_EQUAL_FATAL(get_be64(b.data + at), seen << 13);
                CU_ASSERT_EQUAL_FATAL(at, end);
        }
        CU_ASSERT_EQUAL(seen, ARRAY_SIZE(ranges));
        qemubuf_fini(&b);
}

/* ---- what is refused ------------------------------------------------------ */

static const struct {
        const char *name;
        struct qemu_ramblock blocks[2];
        uint32_t page_bytes, host_page_bytes;
        unsigned nblocks;
        const char *text;
} wrong[] = {
        { "no blocks", { { "a", 4096, 4096 } }, 4096, 4096, 0, "cannot have 0 RAM blocks" },
        { "too many", { { "a", 4096, 4096 } }, 4096, 4096, 257, "cannot have 257 RAM blocks" },
        { "no name", { { "", 4096, 4096 } }, 4096, 4096, 1, "RAM block 0 has no name" },
        { "a line feed", { { "\n", 4096, 4096 } }, 4096, 4096, 1, "RAM block 0 has no name" },
        { "twice", { { "a", 4096, 4096 }, { "a", 4096, 4096 } }, 4096, 4096, 2,
          "two RAM blocks 'a'" },
        { "odd pages", { { "a", 12288, 12288 } }, 4096, 4096, 1, "pages of 12288 bytes" },
        { "pages below the target's", { { "a", 65536, 4096 } }, 65536, 4096, 1,
          "pages of 4096 bytes" },
        { "pages below the host's", { { "a", 65536, 4096 } }, 4096, 65536, 1,
          "pages of 4096 bytes" },
        { "pages of 2 GiB", { { "a", 1ull << 31, 1u << 31 } }, 4096, 4096, 1,
          "pages of 2147483648 bytes" },
        { "no pages", { { "a", 4096, 0 } }, 4096, 4096, 1, "pages of 0 bytes" },
        { "empty", { { "a", 0, 4096 } }, 4096, 4096, 1, "'a' of 0 bytes" },
        { "half a huge page", { { "a", 4096, 2 * MIB } }, 4096, 4096, 1,
          "not of whole pages of 2097152 bytes" },
        { "too much", { { "a", 1ull << 45, 4096 }, { "b", (1ull << 45) + 4096, 4096 } }, 4096,
          4096, 2, "more than 70368744177664 bytes" },
        { "much too much", { { "a", 1ull << 63, 4096 }, { "b", 1ull << 63, 4096 } }, 4096, 4096,
          2, "more than 70368744177664 bytes" },
        { "target's pages", { { "a", 4096, 4096 } }, 1024, 4096, 1, "pages of 1024 bytes" },
        { "target's odd pages", { { "a", 4096, 4096 } }, 5000, 4096, 1, "pages of 5000 bytes" },
        { "host's pages", { { "a", 4096, 4096 } }, 4096, 0, 1, "pages of" },
};

static void wrong_blocks(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                struct qemuload l = load_of(wrong[i].blocks);
                struct err e = { 0 };

                l.nblocks = wrong[i].nblocks;
                l.page_bytes = wrong[i].page_bytes;
                l.host_page_bytes = wrong[i].host_page_bytes;
                EXPECT_EQUAL(wrong[i].name, qemuload_check(&l, &e), -EBADMSG);
                if (!strstr(e.text, wrong[i].text))
                        EXPECT_TEXT(wrong[i].name, e.text, wrong[i].text);
        }
}

static void page_behind_a_block(void)
{
        struct qemuload l = load_of(small);
        struct qemubuf b = { 0 };

        qemuload_page(&l, &b, 1, QEMU_KIT_ROM_PAGES * 4096);
}

static void page_between_pages(void)
{
        struct qemuload l = load_of(small);
        struct qemubuf b = { 0 };

        qemuload_page(&l, &b, 1, 2048);
}

static void page_of_no_block(void)
{
        struct qemuload l = load_of(small);
        struct qemubuf b = { 0 };

        qemuload_page(&l, &b, 2, 0);
}

static void zeros_behind_a_block(void)
{
        struct qemuload l = load_of(small);
        struct qemubuf b = { 0 };

        qemuload_zero(&l, &b, 1, 4096, 2 * 4096);
}

static void discard_behind_a_block(void)
{
        struct qemuload l = load_of(small);
        struct qemubuf b = { 0 };
        struct qemuload_range range = { 4096, 2 * 4096 };

        qemuload_discard(&l, &b, 1, &range, 1);
}

static void our_own_mistakes(void)
{
        CU_ASSERT_TRUE(expect_abort(page_behind_a_block));
        CU_ASSERT_TRUE(expect_abort(page_between_pages));
        CU_ASSERT_TRUE(expect_abort(page_of_no_block));
        CU_ASSERT_TRUE(expect_abort(zeros_behind_a_block));
        CU_ASSERT_TRUE(expect_abort(discard_behind_a_block));
}

static void a_failed_buffer_takes_nothing(void)
{
        struct qemuload l = load_of(small);
        struct qemubuf b = { .failed = true };
        struct err e = { 0 };

        qemuload_start(&l, &b, false);
        qemuload_page(&l, &b, 0, 0);
        CU_ASSERT_EQUAL(b.bytes, 0);
        CU_ASSERT_EQUAL(qemubuf_check(&b, &e), -ENOMEM);
        CU_ASSERT_TRUE(e.text[0]);
        qemubuf_fini(&b);
}

static const CU_TestInfo cases[] = {
        { "the same bytes as QEMU sends", same_as_qemus },
        { "the end of a stream", end_of_a_stream },
        { "commands are as QEMU was seen to take them", commands_are_as_seen },
        { "more ranges than a command holds", many_ranges },
        { "wrong blocks are refused", wrong_blocks },
        { "our own mistakes abort", our_own_mistakes },
        { "a failed buffer takes nothing", a_failed_buffer_takes_nothing },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("qemuload", cases);
}
