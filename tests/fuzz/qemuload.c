/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: blocks of an image never make the builder write what a QEMU would read as something
 *       else: what passes the check, and any commands, discards and pages of it, is read
 *       back as it was meant.
 * Method: the input is blocks, right or wrong, and what to do with them; a reader that takes
 *       the stream apart as a QEMU that loads does, and knows nothing of the builder. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/check.h"
#include "common/wire/qemuload.h"
#include "tests/fuzz/fuzz.h"

#define BLOCKS_MAX 8u
#define RANGES_MAX 64u

/* What was said, in the order of the stream, as numbers; both sides make one. */
struct log {
        uint64_t sum;
};

static void say(struct log *log, uint64_t a, uint64_t b, uint64_t c)
{
        uint64_t v[] = { a, b, c };

        for (size_t i = 0; i < ARRAY_SIZE(v); i++) {
                log->sum = (log->sum ^ v[i]) * 0x9e3779b97f4a7c15;
                log->sum ^= log->sum >> 29;
        }
}

enum { SAY_COMMAND = 1, SAY_RANGE, SAY_SECTION, SAY_PAGE, SAY_ZERO, SAY_BLOCK, SAY_PACKAGE };

/* ---- what the input says -------------------------------------------------- */

struct in {
        const uint8_t *at;
        size_t left;
};

static unsigned take(struct in *in)
{
        if (!in->left)
                return 0;
        in->left--;
        return *in->at++;
}

static const uint32_t page_sizes[] = { 4096, 65536, 2u << 20, 1u << 30, 0, 12288, 16384, 1 };

static void take_block(struct in *in, struct qemu_ramblock *block)
{
        size_t n = take(in);

        for (size_t i = 0; i < n && i < QEMU_NAME_MAX; i++)
                block->name[i] = (char)('a' + take(in) % 26);
        if (n && take(in) % 16 == 0)
                block->name[0] = (char)take(in);
        block->page_bytes = page_sizes[take(in) % 64 % ARRAY_SIZE(page_sizes)];
        block->bytes = (uint64_t)take(in) * block->page_bytes;
        if (take(in) % 32 == 0)
                block->bytes <<= take(in) % 64;
}

static void take_machine(struct in *in, struct qemuload *l, struct qemu_ramblock *blocks)
{
        *l = (struct qemuload){
                .blocks = blocks, .page_bytes = page_sizes[take(in) % 16 % 2],
                .host_page_bytes = 4096, .ram_id = take(in), .ram_instance = take(in),
                .ram_version = QEMU_RAM_VERSION,
                .footers = take(in) % 2,
        };
        l->nblocks = take(in) % (BLOCKS_MAX + 1);
        for (unsigned i = 0; i < l->nblocks; i++)
                take_block(in, &blocks[i]);
}

static uint64_t take_offset(struct in *in, const struct qemuload *l, unsigned block)
{
        return (take(in) << 8 | take(in)) * (uint64_t)l->page_bytes % l->blocks[block].bytes;
}

static void do_discard(struct in *in, struct qemuload *l, struct qemubuf *b, struct log *log)
{
        struct qemuload_range ranges[RANGES_MAX];
        unsigned block = take(in) % l->nblocks;
        unsigned n = 1 + take(in) % RANGES_MAX;

        for (unsigned i = 0; i < n; i++) {
                uint64_t at = take_offset(in, l, block);

                ranges[i] = (struct qemuload_range){ at, l->page_bytes };
                say(log, SAY_RANGE, block, at);
        }
        qemuload_discard(l, b, block, ranges, n);
}

static void do_section(struct in *in, struct qemuload *l, struct qemubuf *b, struct log *log)
{
        enum qemu_record type = take(in) % 2 ? QEMU_PART : QEMU_END;
        AUTO_FREE uint8_t *page = calloc(1, l->page_bytes);

        ASSERT(page);
        say(log, SAY_SECTION, type, l->ram_id);
        qemuload_section(l, b, type);
        for (unsigned n = take(in) % 8; n > 0; n--) {
                unsigned block = take(in) % l->nblocks;
                uint64_t at = take_offset(in, l, block);
                unsigned fill = take(in);

                say(log, fill % 2 ? SAY_PAGE : SAY_ZERO, block, at + (fill % 2 ? fill : 0));
                if (fill % 2) {
                        memset(page, (int)fill, l->page_bytes);
                        qemuload_page(l, b, block, at);
                        qemubuf_put(b, page, l->page_bytes);
                } else {
                        qemuload_zero(l, b, block, at, l->page_bytes);
                }
        }
        qemuload_section_end(l, b);
}

static void do_package(struct in *in, struct qemubuf *b, struct log *log)
{
        uint8_t blob[16] = { 0x7e };
        unsigned n = take(in) % 17;

        say(log, SAY_PACKAGE, n, 3);
        qemuload_package(b, n);
        qemubuf_put(b, blob, n);
        qemuload_package_end(b, 3);
}

static void do_start(struct qemuload *l, struct qemubuf *b, bool advised, struct log *log)
{
        for (unsigned i = 0; i < l->nblocks; i++) {
                bool said = advised && l->blocks[i].page_bytes != MAX(l->page_bytes, 4096u);

                say(log, SAY_BLOCK, l->blocks[i].bytes, said ? l->blocks[i].page_bytes : 0);
        }
        qemuload_start(l, b, advised);
}

static void do_all(struct in *in, struct qemuload *l, struct qemubuf *b, bool advised,
                   struct log *log)
{
        do_start(l, b, advised, log);
        while (in->left > 0) {
                switch (take(in) % 4) {
                case 0:
                        do_discard(in, l, b, log);
                        break;
                case 1:
                        do_package(in, b, log);
                        break;
                case 2:
                        say(log, SAY_COMMAND, QEMU_POSTCOPY_RESUME, 0);
                        qemuload_command(b, QEMU_POSTCOPY_RESUME);
                        break;
                default:
                        do_section(in, l, b, log);
                        break;
                }
        }
        qemuload_eof(b);
}

/* ---- a QEMU that loads ----------------------------------------------------
 * get_*(): nothing that is not there is ever read. */

static const uint8_t *get(struct in *in, size_t n)
{
        const uint8_t *p = in->at;

        ASSERT(n <= in->left);
        in->at += n;
        in->left -= n;
        return p;
}

static void must_be(struct in *in, const void *bytes, size_t n)
{
        const uint8_t *p = get(in, n);

        ASSERT(!memcmp(p, bytes, n));
}

static unsigned get_u8(struct in *in)
{
        return *get(in, 1);
}

static unsigned get_u16(struct in *in)
{
        return get_be16(get(in, 2));
}

static uint32_t get_u32(struct in *in)
{
        return get_be32(get(in, 4));
}

static uint64_t get_u64(struct in *in)
{
        return get_be64(get(in, 8));
}

static unsigned get_block(struct in *in, const struct qemuload *l)
{
        unsigned n = get_u8(in);
        const uint8_t *name = get(in, n);
        unsigned i = 0;

        while (i < l->nblocks && (strlen(l->blocks[i].name) != n ||
                                  memcmp(l->blocks[i].name, name, n)))
                i++;
        ASSERT(i < l->nblocks);
        return i;
}

static void load_words(struct in *in, const struct qemuload *l, unsigned *last, struct log *log)
{
        uint64_t word;

        while ((word = get_u64(in)) != QEMU_RAM_EOS) {
                uint64_t flags = word & (l->page_bytes - 1);
                bool zero = flags & QEMU_RAM_ZERO;

                ASSERT((flags & ~0x20ull) == QEMU_RAM_ZERO || (flags & ~0x20ull) == QEMU_RAM_PAGE);
                if (!(flags & QEMU_RAM_CONTINUE))
                        *last = get_block(in, l);
                ASSERT(*last < l->nblocks && word - flags < l->blocks[*last].bytes);

                const uint8_t *p = get(in, zero ? 1 : l->page_bytes);

                ASSERT(zero ? *p == 0 : p[0] == p[l->page_bytes - 1]);
                say(log, zero ? SAY_ZERO : SAY_PAGE, *last, word - flags + *p);
        }
        if (!l->footers)
                return;

        unsigned type = get_u8(in);
        uint32_t id = get_u32(in);

        ASSERT(type == QEMU_FOOTER && id == l->ram_id);
}

static void load_start(struct in *in, const struct qemuload *l, bool advised, struct log *log)
{
        unsigned last = l->nblocks;
        uint32_t id = get_u32(in);

        must_be(in, "\3ram", 4);

        uint32_t instance = get_u32(in);
        uint32_t version = get_u32(in);
        uint64_t left = get_u64(in);

        ASSERT(id == l->ram_id && instance == l->ram_instance && version == 4);
        ASSERT((left & (l->page_bytes - 1)) == QEMU_RAM_MEM_SIZE);
        for (left -= QEMU_RAM_MEM_SIZE; left > 0;) {
                const struct qemu_ramblock *block = &l->blocks[get_block(in, l)];
                uint64_t bytes = get_u64(in);
                bool said = advised && block->page_bytes != MAX(l->page_bytes, 4096u);

                ASSERT(bytes <= left);
                left -= bytes;
                say(log, SAY_BLOCK, bytes, said ? get_u64(in) : 0);
        }
        load_words(in, l, &last, log);
}

static void load_discard(struct in *in, const struct qemuload *l, size_t n, struct log *log)
{
        const uint8_t *end = in->at + n;

        must_be(in, "", 1);

        unsigned block = get_block(in, l);

        must_be(in, "", 1);
        ASSERT(in->at < end);
        while (in->at < end) {
                uint64_t at = get_u64(in);
                uint64_t bytes = get_u64(in);

                ASSERT(bytes == l->page_bytes);
                say(log, SAY_RANGE, block, at);
        }
        ASSERT(in->at == end);
}

static void load_package(struct in *in, struct log *log)
{
        uint32_t n = get_u32(in);

        ASSERT(n >= 19);
        must_be(in, "\10\0\4\0\0", 5);
        get(in, n - 19);
        must_be(in, "\10\0\2\0\4\0\0\0\3\10\0\5\0\0", 14);
        say(log, SAY_PACKAGE, n - 19, 3);
}

static void load_command(struct in *in, const struct qemuload *l, struct log *log)
{
        unsigned command = get_u16(in);
        unsigned n = get_u16(in);

        if (command == QEMU_POSTCOPY_DISCARD) {
                load_discard(in, l, n, log);
        } else if (command == QEMU_PACKAGED) {
                ASSERT(n == 4);
                load_package(in, log);
        } else {
                ASSERT(n == 0);
                say(log, SAY_COMMAND, command, 0);
        }
}

static void load_all(struct in in, const struct qemuload *l, bool advised, struct log *log)
{
        unsigned last = l->nblocks;

        for (;;) {
                unsigned type = get_u8(&in);

                if (type == QEMU_EOF)
                        break;
                ASSERT(type == QEMU_START || type == QEMU_PART || type == QEMU_END ||
                       type == QEMU_COMMAND);
                if (type == QEMU_START) {
                        load_start(&in, l, advised, log);
                } else if (type == QEMU_COMMAND) {
                        load_command(&in, l, log);
                } else {
                        say(log, SAY_SECTION, type, get_u32(&in));
                        load_words(&in, l, &last, log);
                }
        }
        ASSERT(in.left == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        struct in in = { data, n };
        struct qemu_ramblock blocks[BLOCKS_MAX] = { 0 };
        struct qemubuf b = { 0 };
        struct log said = { 1 }, read = { 1 };
        struct qemuload l;
        struct err e = { 0 };
        bool advised = take(&in) % 2;

        take_machine(&in, &l, blocks);
        if (qemuload_check(&l, &e) < 0) {
                ASSERT(e.code == -EBADMSG && e.text[0]);
                return 0;
        }
        do_all(&in, &l, &b, advised, &said);
        ASSERT(qemubuf_check(&b, &e) == 0);
        load_all((struct in){ b.data, b.bytes }, &l, advised, &read);
        ASSERT(said.sum == read.sum);
        qemubuf_fini(&b);
        return 0;
}
