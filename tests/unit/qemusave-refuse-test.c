/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: what cannot be split, and what QEMU does not send, is refused with a sentence that
 *       says why, and what to do about it where something can be done.
 * Method: a table of single wrong records behind a good beginning (qemu-kit.h), each in one
 *         window and byte by byte. */
#include "common/wire/qemusave.h"

#include <CUnit/CUnit.h>
#include <errno.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "tests/unit/expect.h"
#include "tests/unit/qemu-kit.h"
#include "tests/unit/suite.h"

enum where { FIRST, HEAD, START, PART, PAGES };

#define BYTES(text) (text), sizeof(text) - 1
#define U32(n) "\0\0\0" n
#define RAM_HEAD "\1" U32("\2") "\3ram" U32("\0") U32("\4")
#define EOS "\0\0\0\0\0\0\0\x10"
#define SUM(flags_and_low) "\0\0\0\0\0\0" flags_and_low
#define NAMED(n) "\6pc.ram" "\0\0\0\0\0\0" n
#define CONFIGURATION "\7" U32("\2") "pc"
#define BITS "\5\36configuration/target-page-bits"
#define CAPABILITIES "\5\32configuration/capabilities"

static const struct {
        const char *name;
        enum where where;               /* what stands before it */
        const char *bytes;
        size_t n;
        int code;
        const char *text;
} rows[] = {
        { "another magic", FIRST, BYTES("LibvirtQ"), EBADMSG, "not a migration stream" },
        { "version 2", FIRST, BYTES("QEVM\0\0\0\2"), ENOTSUP, "version 2" },
        { "no machine name", FIRST, BYTES("QEVM\0\0\0\3\7" U32("\0")), EBADMSG, "machine type" },
        { "machine name with a bell", FIRST, BYTES("QEVM\0\0\0\3\7" U32("\2") "p\7"), EBADMSG,
          "machine type is not a name" },
        { "machine name with a DEL", FIRST, BYTES("QEVM\0\0\0\3\7" U32("\2") "p\x7f"), EBADMSG,
          "machine type is not a name" },
        { "machine name not UTF-8", FIRST, BYTES("QEVM\0\0\0\3\7" U32("\2") "p\xff"), EBADMSG,
          "machine type is not a name" },
        { "x-ignore-shared", FIRST, BYTES("QEVM\0\0\0\3" CONFIGURATION CAPABILITIES U32("\1")
          U32("\1") "\17x-ignore-shared"), ENOTSUP, "migrate_set_capability x-ignore-shared off" },
        { "mapped-ram", FIRST, BYTES("QEVM\0\0\0\3" CONFIGURATION CAPABILITIES U32("\1")
          U32("\1") "\12mapped-ram"), ENOTSUP, "migrate_set_capability mapped-ram off" },
        { "65 capabilities", FIRST, BYTES("QEVM\0\0\0\3" CONFIGURATION CAPABILITIES U32("\1")
          U32("\x41")), EBADMSG, "65 capabilities" },
        { "capability without a name", FIRST, BYTES("QEVM\0\0\0\3" CONFIGURATION CAPABILITIES
          U32("\1") U32("\1") "\0"), EBADMSG, "name of a capability" },
        { "small pages", FIRST, BYTES("QEVM\0\0\0\3" CONFIGURATION BITS U32("\1") U32("\12")),
          ENOTSUP, "2^10 bytes" },
        { "large pages", FIRST, BYTES("QEVM\0\0\0\3" CONFIGURATION BITS U32("\1") U32("\21")),
          ENOTSUP, "2^17 bytes" },
        { "page bits of version 2", FIRST, BYTES("QEVM\0\0\0\3" CONFIGURATION BITS U32("\2")),
          ENOTSUP, "version 2 that this program does not know" },
        { "unknown configuration", FIRST, BYTES("QEVM\0\0\0\3" CONFIGURATION "\5\4conf"
          U32("\1")), ENOTSUP, "a part 'conf'" },

        { "the end", HEAD, BYTES("\0"), EBADMSG, "without the state of any device" },
        { "subsection", START, BYTES("\5"), EBADMSG, "type 0x05" },
        { "description", PAGES, BYTES("\6"), EBADMSG, "type 0x06" },
        { "footer", HEAD, BYTES("\x7e"), EBADMSG, "type 0x7e" },
        { "unknown record", HEAD, BYTES("\x33"), EBADMSG, "type 0x33" },
        { "part before RAM", HEAD, BYTES("\2" U32("\2")), EBADMSG, "section 2 goes on" },
        { "end of another section", START, BYTES("\3" U32("\5")), EBADMSG, "section 5 goes on" },
        { "RAM again", START, BYTES(RAM_HEAD), EBADMSG, "RAM begins twice" },
        { "RAM version 3", HEAD, BYTES("\1" U32("\2") "\3ram" U32("\0") U32("\3")), ENOTSUP,
          "version 3" },
        { "RAM goes on", PAGES, BYTES("\2" U32("\2")), EBADMSG, "behind its end" },
        { "dirty bitmaps", START, BYTES("\1" U32("\3") "\14dirty-bitmap" U32("\0") U32("\1")),
          ENOTSUP, "migrate_set_capability dirty-bitmaps off" },
        { "disks", HEAD, BYTES("\1" U32("\3") "\5block" U32("\0") U32("\1")), ENOTSUP,
          "migrate_set_capability block off" },
        { "VFIO", HEAD, BYTES("\1" U32("\3") "\21""0000:00:02.0/vfio" U32("\0") U32("\1")),
          ENOTSUP, "VFIO device: unplug it" },
        { "another section", HEAD, BYTES("\1" U32("\3") "\12spapr/htab" U32("\0") U32("\1")),
          ENOTSUP, "'spapr/htab' comes in sections" },
        { "section without a name", HEAD, BYTES("\1" U32("\3") "\0" U32("\0") U32("\1")),
          EBADMSG, "no proper name" },
        { "early device, before RAM", HEAD, BYTES("\4" U32("\3") "\5early" U32("\0") U32("\1")),
          ENOTSUP, "'early' comes before RAM" },
        { "early device, after START", START,
          BYTES("\4" U32("\3") "\27virtio-mem-device-early" U32("\0") U32("\1")),
          ENOTSUP, "'virtio-mem-device-early' comes before RAM" },
        { "early device without a name", HEAD, BYTES("\4" U32("\3") "\1\n" U32("\0") U32("\1")),
          EBADMSG, "no proper name" },

        { "ADVISE", HEAD, BYTES("\10\0\3\0\x10"), ENOTSUP,
          "migrate_set_capability postcopy-ram off" },
        { "PING of 5 bytes", HEAD, BYTES("\10\0\2\0\5"), EBADMSG, "command 2 with 5 bytes" },
        { "OPEN_RETURN_PATH of 1", HEAD, BYTES("\10\0\1\0\1"), EBADMSG, "command 1 with 1" },
        { "LISTEN", HEAD, BYTES("\10\0\4\0\0"), EBADMSG, "command 4" },
        { "PACKAGED", START, BYTES("\10\0\7\0\4"), EBADMSG, "command 7" },
        { "unknown command", HEAD, BYTES("\10\1\1\0\0"), EBADMSG, "command 257" },

        { "XBZRLE", PART, BYTES("\0\0\0\0\0\0\0\x40"), ENOTSUP, "xbzrle off" },
        { "XBZRLE, same block", PART, BYTES("\0\0\0\0\0\0\0\x60"), ENOTSUP, "xbzrle off" },
        { "COMPRESS", PART, BYTES("\0\0\0\0\0\0\1\0"), ENOTSUP, "compress off" },
        { "HOOK", PART, BYTES("\0\0\0\0\0\0\0\x80"), ENOTSUP, "RDMA" },
        { "FULL", PART, BYTES("\0\0\0\0\0\0\0\1"), EBADMSG, "since 2009" },
        { "unknown flag", PART, BYTES("\0\0\0\0\0\0\4\0"), EBADMSG, "flags 0x400" },
        { "no flag", PART, BYTES("\0\0\0\0\0\0\0\0"), EBADMSG, "flags 0x0" },
        { "page and zero", PART, BYTES("\0\0\0\0\0\0\0\12"), EBADMSG, "flags 0xa" },
        { "end, same block", PART, BYTES("\0\0\0\0\0\0\0\x30"), EBADMSG, "flags 0x30" },
        { "same block as none", PART, BYTES("\0\0\0\0\0\0\0\x28"), EBADMSG, "names no block" },
        { "unknown block", PART, BYTES("\0\0\0\0\0\0\0\10\4none"), EBADMSG, "not announced" },
        { "block without a name", PART, BYTES("\0\0\0\0\0\0\0\10\0"), EBADMSG, "not announced" },
        { "the beginning of a name", PART, BYTES("\0\0\0\0\0\0\0\10\5pc.ra"), EBADMSG,
          "not announced" },
        { "page behind the block", PART, BYTES("\0\0\0\0\0\0\x80\10\6pc.ram"), EBADMSG,
          "no page at 0x8000" },
        { "page far behind", PART, BYTES("\xff\xff\xff\xff\xff\xff\xf0\2\6pc.ram"), EBADMSG,
          "no page at 0xfffffffffffff000" },
        { "filled with 1", PART, BYTES("\0\0\0\0\0\0\0\2\6pc.ram\1"), EBADMSG,
          "filled with 0x01" },
        { "second list", PART, BYTES("\0\0\0\0\0\0\x10\4"), EBADMSG, "two lists" },
        { "no footer", PART, BYTES(EOS "\2"), EBADMSG, "without its footer" },
        { "another's footer", PART, BYTES(EOS "\x7e" U32("\3")), EBADMSG, "without its footer" },
        { "another's footer behind START", HEAD,
          BYTES(RAM_HEAD SUM("\x10\4") NAMED("\x10\0") EOS "\x7e" U32("\3")), EBADMSG,
          "without its footer" },

        { "no list", HEAD, BYTES(RAM_HEAD EOS), EBADMSG, "no list of RAM blocks" },
        { "page before the list", HEAD, BYTES(RAM_HEAD "\0\0\0\0\0\0\0\10\6pc.ram"), EBADMSG,
          "not announced" },
        { "no RAM", HEAD, BYTES(RAM_HEAD SUM("\0\4")), EBADMSG, "cannot have 0 bytes" },
        { "too much RAM", HEAD, BYTES(RAM_HEAD "\0\0\x40\0\0\0\x10\4"), EBADMSG,
          "cannot have 70368744181760 bytes of RAM" },
        { "empty block", HEAD, BYTES(RAM_HEAD SUM("\x10\4") NAMED("\0\0")), EBADMSG,
          "'pc.ram' cannot have 0 bytes" },
        { "block over the sum", HEAD, BYTES(RAM_HEAD SUM("\x10\4") NAMED("\x20\0")), EBADMSG,
          "'pc.ram' cannot have 8192 bytes" },
        { "half a page", HEAD, BYTES(RAM_HEAD SUM("\x10\4") NAMED("\10\0")), EBADMSG,
          "'pc.ram' cannot have 2048 bytes" },
        { "nameless block", HEAD, BYTES(RAM_HEAD SUM("\x10\4") "\0" "\0\0\0\0\0\0\x10\0"),
          EBADMSG, "RAM block 0 has no proper name" },
        { "two of one name", HEAD, BYTES(RAM_HEAD SUM("\x20\4") NAMED("\x10\0") NAMED("\x10\0")),
          EBADMSG, "two RAM blocks 'pc.ram'" },
};

static void put_before(struct qemubuf *b, enum where where)
{
        static const struct qemu_kit kit = { .uuid = false };

        if (where >= HEAD)
                qemu_kit_head(&kit, b);
        if (where >= START)
                qemu_kit_start(&kit, b);
        if (where == PAGES)
                qemu_kit_pages(&kit, b);
        if (where == PART)
                qemubuf_put(b, "\2\0\0\0\2", 5);
}

/* Until the parser fails (its errno), or has no more to take (0). */
static int parse(const struct qemubuf *b, size_t step, struct err *e)
{
        struct qemusave *p = qemusave_new();
        size_t at = 0;
        size_t end = MIN(step, b->bytes);
        int rc = 0;

        ASSERT(p);
        while (rc == 0) {
                struct qemusave_item item;
                size_t used;

                rc = qemusave_next(p, b->data + at, end - at, &used, &item, e);
                if (rc < 0)
                        break;
                at += used;
                if (item.event == QEMUSAVE_MORE && end == b->bytes)
                        break;
                if (item.event == QEMUSAVE_MORE)
                        end = MIN(end + step, b->bytes);
        }
        qemusave_free(p);
        return rc;
}

static void refused(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct qemubuf b = { 0 };
                struct err whole = { 0 }, bytewise = { 0 };

                put_before(&b, rows[i].where);
                EXPECT_EQUAL(rows[i].name, parse(&b, b.bytes, &whole), 0);
                qemubuf_put(&b, rows[i].bytes, rows[i].n);
                EXPECT_EQUAL(rows[i].name, parse(&b, b.bytes, &whole), -rows[i].code);
                EXPECT_EQUAL(rows[i].name, parse(&b, 1, &bytewise), -rows[i].code);
                EXPECT_TEXT(rows[i].name, bytewise.text, whole.text);
                if (!strstr(whole.text, rows[i].text))
                        EXPECT_TEXT(rows[i].name, whole.text, rows[i].text);
                qemubuf_fini(&b);
        }
}

/* The last byte of each row is what is wrong: without it more is wanted. */
static void not_refused_too_soon(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct qemubuf b = { 0 };

                put_before(&b, rows[i].where);
                qemubuf_put(&b, rows[i].bytes, rows[i].n - 1);
                EXPECT_EQUAL(rows[i].name, parse(&b, MAX(b.bytes, 1u), NULL), 0);
                qemubuf_fini(&b);
        }
}

/* A configuration that never ends: every subsection is good. */
static void endless_head(void)
{
        struct qemu_kit kit = { .uuid = false };
        struct qemubuf b = { 0 };
        struct err e = { 0 };

        qemu_kit_head(&kit, &b);
        while (b.bytes < QEMUHEAD_BYTES_MAX)
                qemubuf_put(&b, BITS U32("\1") U32("\14"), 40);
        CU_ASSERT_EQUAL(parse(&b, 4096, &e), -EBADMSG);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "longer than 65536"));
        qemubuf_fini(&b);
}

static void too_many_blocks(void)
{
        for (unsigned n = QEMU_BLOCKS_MAX; n <= QEMU_BLOCKS_MAX + 1; n++) {
                struct qemu_kit kit = { .uuid = false };
                struct qemubuf b = { 0 };
                struct err e = { 0 };

                qemu_kit_head(&kit, &b);
                qemubuf_put(&b, BYTES(RAM_HEAD));
                kit_u64(&b, n * 4096ull | 4);
                for (unsigned i = 0; i < n; i++) {
                        kit_u8(&b, 2);
                        kit_u8(&b, 'a' + i / 16);
                        kit_u8(&b, 'a' + i % 16);
                        kit_u64(&b, 4096);
                }
                CU_ASSERT_EQUAL(parse(&b, b.bytes, &e), n > QEMU_BLOCKS_MAX ? -ENOTSUP : 0);
                if (n > QEMU_BLOCKS_MAX)
                        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "more than 256 RAM blocks"));
                qemubuf_fini(&b);
        }
}

static const CU_TestInfo cases[] = {
        { "single wrong records", refused },
        { "records that are not complete", not_refused_too_soon },
        { "a head without end", endless_head },
        { "more blocks than there can be", too_many_blocks },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("qemusave-refuse", cases);
}
