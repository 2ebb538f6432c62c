/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: RAM lies where QEMU's machine types have it, at all sizes around a boundary; what
 *       is not RAM lies behind it; what the user says comes first; no byte is lost.
 * Method: a table of machines and sizes against the rules of QEMU's sources, written down
 *         as extents; each table is sealed, which checks the rest. */
#include "pageserver/adapters/qemu/machine.h"

#include <CUnit/CUnit.h>
#include <errno.h>
#include <string.h>

#include "common/check.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

#define K (1ull << 10)
#define M (1ull << 20)
#define G (1ull << 30)
#define PAGE 4096ull

static void add(struct qemu_blocks *b, const char *name, uint64_t bytes)
{
        ASSERT(qemu_blocks_add(b, name, strlen(name), bytes, NULL) == 0);
}

/* one block of RAM: how much of it lies where, and the rest from 4 GiB on */
static const struct {
        const char *machine;
        const char *ram;
        uint64_t bytes;
        uint64_t gpa;
        uint64_t low;                   /* 0: all */
} rows[] = {
        { "pc-i440fx-7.2", "pc.ram", 512 * M, 0, 0 },
        { "pc-i440fx-7.2", "pc.ram", 0xe0000000 - PAGE, 0, 0 },
        { "pc-i440fx-7.2", "pc.ram", 0xe0000000, 0, 0xc0000000 },
        { "pc-i440fx-7.2", "pc.ram", 5 * G, 0, 0xc0000000 },
        { "pc-i440fx-rhel7.6.0", "pc.ram", 4 * G, 0, 0xc0000000 },
        { "pc-i440fx-2.0", "pc.ram", 4 * G, 0, 0xc0000000 },
        { "pc-i440fx-1.7", "pc.ram", 0xe0000000, 0, 0 },
        { "pc-i440fx-1.7", "pc.ram", 4 * G, 0, 0xe0000000 },
        { "pc-q35-7.2", "pc.ram", 2 * G, 0, 0 },
        { "pc-q35-7.2", "pc.ram", 0xb0000000 - PAGE, 0, 0 },
        { "pc-q35-7.2", "pc.ram", 0xb0000000, 0, 0x80000000 },
        { "pc-q35-10.0", "pc.ram", 64 * G, 0, 0x80000000 },
        { "microvm", "microvm.ram", 3 * G, 0, 0 },
        { "microvm", "microvm.ram", 3 * G + PAGE, 0, 0xc0000000 },
        { "virt-7.2", "mach-virt.ram", 8 * G, 0x40000000, 0 },
        { "virt", "riscv_virt_board.ram", 8 * G, 0x80000000, 0 },
        { "pseries-7.2", "ppc_spapr.ram", 8 * G, 0, 0 },
        { "s390-ccw-virtio-7.2", "s390.ram", 8 * G, 0, 0 },
        { "SS-5", "sun4m.ram", 256 * M, 0, 0 },
        /* older than the machine's name in the stream */
        { "", "pc.ram", 1 * G, 0, 0 },
        { "", "mach-virt.ram", 1 * G, 0x40000000, 0 },
        /* -machine memory-backend=m0 */
        { "pc-q35-7.2", "m0", 3 * G, 0, 0x80000000 },
        { "virt-7.2", "m0", 3 * G, 0x40000000, 0 },
        { "pc-i440fx-4.0", "/objects/m0", 4 * G, 0, 0xc0000000 },
};

static void check_row(size_t i)
{
        struct qemu_blocks b = { 0 };
        struct qemu_hints none = { 0 };
        struct err e = { 0 };
        char name[128];
        uint64_t low = rows[i].low ? rows[i].low : rows[i].bytes;

        snprintf(name, sizeof(name), "%s, %s of %llu", rows[i].machine, rows[i].ram,
                 (unsigned long long)rows[i].bytes);
        add(&b, "pc.bios", 256 * K);
        add(&b, rows[i].ram, rows[i].bytes);
        add(&b, "0000:00:02.0/vga.vram", 16 * M);
        EXPECT_EQUAL(name, qemu_machine_place(rows[i].machine, &none, &b, &e), 0);
        EXPECT_EQUAL(name, qemu_blocks_seal(&b, PAGE, &e), 0);
        EXPECT_TEXT(name, e.text, "");

        const struct qemu_block *ram = &b.at[1];

        EXPECT_EQUAL(name, ram->n_extents, low < rows[i].bytes ? 2 : 1);
        EXPECT_EQUAL(name, ram->extents[0].gpa, rows[i].gpa);
        EXPECT_EQUAL(name, ram->extents[0].bytes, low);
        if (low < rows[i].bytes) {
                EXPECT_EQUAL(name, ram->extents[1].gpa, 4 * G);
                EXPECT_EQUAL(name, ram->extents[1].bytes, rows[i].bytes - low);
        }

        const struct qemu_extent *last = &ram->extents[ram->n_extents - 1];
        uint64_t aux = ALIGN_UP(last->gpa + last->bytes, G);

        EXPECT_EQUAL(name, b.at[0].extents[0].gpa, aux);
        EXPECT_EQUAL(name, b.at[2].extents[0].gpa, aux + 2 * M);
        EXPECT_EQUAL(name, b.disk_bytes, aux + 18 * M);
        qemu_blocks_fini(&b);
}

static void machines(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                check_row(i);
}

static void nodes_are_ram_in_order(void)
{
        /* QEMU sends larger blocks first */
        static const struct {
                const char *name;
                uint64_t bytes, gpa;
        } blocks[] = {
                { "ram-node10", 2 * G, 4 * G + 512 * M },
                { "ram-node2", 2 * G, 512 * M },        /* cut at 2 GiB */
                { "memdimm0", 1 * G, 7 * G },
                { "ram-node0", 512 * M, 0 },
                { "pc.bios", 256 * K, 8 * G },
        };
        struct qemu_blocks b = { 0 };
        struct qemu_hints none = { 0 };

        for (size_t i = 0; i < ARRAY_SIZE(blocks); i++)
                add(&b, blocks[i].name, blocks[i].bytes);
        CU_ASSERT_EQUAL(qemu_machine_place("pc-q35-7.2", &none, &b, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(qemu_blocks_seal(&b, PAGE, NULL), 0);
        for (size_t i = 0; i < ARRAY_SIZE(blocks); i++)
                EXPECT_EQUAL(blocks[i].name, b.at[i].extents[0].gpa, blocks[i].gpa);
        CU_ASSERT_EQUAL(b.at[1].n_extents, 2);
        CU_ASSERT_EQUAL(b.at[1].extents[0].bytes, 1536 * M);
        CU_ASSERT_EQUAL(b.at[1].extents[1].gpa, 4 * G);
        qemu_blocks_fini(&b);
}

static void the_user_comes_first(void)
{
        struct named_list map = { .n = 1, .at = { { "d1", 0x140000000 } } };
        struct named_list pages = { .n = 1, .at = { { "pc.ram", 2 * M } } };
        struct qemu_hints hints = { .ram_split = 1 * G, .map = &map, .page_size = &pages };
        struct qemu_blocks b = { 0 };

        add(&b, "pc.ram", 2 * G);
        add(&b, "d1", 1 * G);
        add(&b, "pc.rom", 128 * K);
        CU_ASSERT_EQUAL(qemu_machine_place("pc-q35-7.2", &hints, &b, NULL), 0);
        CU_ASSERT_EQUAL(qemu_blocks_seal(&b, PAGE, NULL), 0);
        CU_ASSERT_EQUAL(b.at[0].page_size, 2 * M);
        CU_ASSERT_EQUAL(b.at[1].page_size, PAGE);
        CU_ASSERT_EQUAL(b.at[0].extents[0].bytes, 1 * G);
        CU_ASSERT_EQUAL(b.at[0].extents[1].gpa, 4 * G);
        CU_ASSERT_EQUAL(b.at[1].extents[0].gpa, 5 * G);
        CU_ASSERT_EQUAL(b.at[2].extents[0].gpa, 6 * G);
        qemu_blocks_fini(&b);
}

/* All of RAM placed by hand: the rule has nothing left to place. */
static void all_by_hand(void)
{
        struct named_list map = { .n = 1, .at = { { "x.ram", 1 * G } } };
        struct qemu_hints hints = { .map = &map };
        struct qemu_blocks b = { 0 };

        add(&b, "x.ram", 512 * M);
        add(&b, "x.rom", 64 * M);
        CU_ASSERT_EQUAL(qemu_machine_place("x", &hints, &b, NULL), 0);
        CU_ASSERT_EQUAL(qemu_blocks_seal(&b, PAGE, NULL), 0);
        CU_ASSERT_EQUAL(b.at[0].extents[0].gpa, 1 * G);
        CU_ASSERT_EQUAL(b.at[1].extents[0].gpa, 2 * G);
        qemu_blocks_fini(&b);
}

static const struct {
        const char *name;
        uint64_t split;
        struct named map, page;
        bool sealed;                    /* qemu_blocks_seal() refuses it */
        const char *why;
} wrongs[] = {
        { "no such block", 0, { "x", 0 }, { "", 0 }, false, "--map x: the machine has no" },
        { "no such pages", 0, { "", 0 }, { "x", 2 * M }, false, "--page-size x: the machine" },
        { "odd pages", 0, { "", 0 }, { "pc.ram", 3 * M }, false, "power of two" },
        { "small pages", 0, { "", 0 }, { "pc.ram", 2 * K }, false, "power of two" },
        { "large pages", 0, { "", 0 }, { "pc.ram", 2 * G }, false, "power of two" },
        { "split above", 5 * G, { "", 0 }, { "", 0 }, false, "--ram-split" },
        { "too far", 0, { "d1", 1ull << 47 }, { "", 0 }, false, "64 TiB" },
        { "just too far", 0, { "d1", 1ull << 46 }, { "", 0 }, true, "64 TiB" },
        { "onto RAM", 0, { "d1", 1 * G }, { "", 0 }, true, "overlap" },
        { "split a page", 1000, { "", 0 }, { "", 0 }, true, "whole pages" },
        { "split a huge page", 1 * M, { "", 0 }, { "pc.ram", 2 * M }, true, "middle of a page" },
};

static void wrong_hints(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(wrongs); i++) {
                struct named_list map = { .n = wrongs[i].map.name[0] != 0,
                                          .at = { wrongs[i].map } };
                struct named_list page = { .n = wrongs[i].page.name[0] != 0,
                                           .at = { wrongs[i].page } };
                struct qemu_hints hints = { wrongs[i].split, &map, &page };
                struct qemu_blocks b = { 0 };
                struct err e = { 0 };

                add(&b, "pc.ram", 8 * G);
                add(&b, "d1", 1 * G);

                int rc = qemu_machine_place("pc-q35-7.2", &hints, &b, &e);

                EXPECT_EQUAL(wrongs[i].name, rc, wrongs[i].sealed ? 0 : -EINVAL);
                if (rc == 0)
                        EXPECT_EQUAL(wrongs[i].name, qemu_blocks_seal(&b, PAGE, &e), -EBADMSG);
                EXPECT_TRUE(wrongs[i].name, strstr(e.text, wrongs[i].why));
                qemu_blocks_fini(&b);
        }
}

static void no_sum_wraps(void)
{
        struct qemu_blocks b = { 0 };
        struct qemu_hints none = { 0 };

        add(&b, "a", 1ull << 63);
        add(&b, "b", 1ull << 63);
        CU_ASSERT_EQUAL(qemu_machine_place("pc-q35-7.2", &none, &b, NULL), -EINVAL);
        qemu_blocks_fini(&b);
}

static const CU_TestInfo cases[] = {
        { "machine types at their boundaries", machines },
        { "NUMA nodes are RAM, in order", nodes_are_ram_in_order },
        { "what the user says comes first", the_user_comes_first },
        { "all RAM is placed by hand", all_by_hand },
        { "wrong hints are refused", wrong_hints },
        { "no sum wraps around", no_sum_wraps },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("qemu-machine", cases);
}
