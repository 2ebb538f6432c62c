/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: whatever a guest writes into a ring, the device's side takes only requests that lie
 *       inside RAM and end; the rest breaks the queue with a sentence that says how, and only
 *       the queue.
 * Method: tables of rings, descriptor by descriptor, each with its name; good ones at the
 *         edges are among them. */
#include "vmm/virtio/queue.h"

#include <errno.h>
#include <string.h>

#include "common/check.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"
#include "tests/unit/vqguest.h"

#define RAM_BYTES 0x10000u
#define RING_GPA 0x1000u
#define TABLE_GPA 0x3000u
#define BUF_GPA 0x8000u
#define RING_SIZE 8
#define GIB2 0x80000000u

enum { NEXT = VRING_DESC_F_NEXT, IN = VRING_DESC_F_WRITE, INDIRECT = VRING_DESC_F_INDIRECT };

/* desc: the ring's; table: at TABLE_GPA. The request is the first entry of the ring, unless
 * ring0 is something else. idx 0 means 1. */
static const struct chain_row {
        const char *name;
        struct vring_desc desc[4], table[4];
        uint16_t ring0, idx;
        const char *error;              /* part of the sentence; NULL = a good request */
        unsigned nout, nin;
        bool no_indirect;
} chains[] = {
        { "one to read", { { BUF_GPA, 16, 0, 0 } }, .nout = 1 },
        { "one to write", { { BUF_GPA, 16, IN, 0 } }, .nin = 1 },
        { "both", { { BUF_GPA, 16, NEXT, 3 }, [3] = { BUF_GPA, 1, IN, 77 } },
          .nout = 1, .nin = 1 },
        { "unknown flags mean nothing", { { BUF_GPA, 16, 0xfff8, 1 } }, .nout = 1 },
        { "up to the end of low RAM", { { RAM_BYTES - 5, 5, 0, 0 } }, .nout = 1 },
        { "all of high RAM", { { RAM_HIGH_GPA, RAM_BYTES, IN, 0 } }, .nin = 1 },
        { "a byte too far", { { RAM_BYTES - 5, 6, 0, 0 } },
          .error = "6 bytes at 0xfffb is not inside RAM" },
        { "in the hole", { { RAM_LOW_END_GPA, 1, 0, 0 } }, .error = "not inside RAM" },
        { "across the hole", { { BUF_GPA, UINT32_MAX, IN, 0 } }, .error = "not inside RAM" },
        { "a byte in front of high RAM", { { RAM_HIGH_GPA - 1, 2, 0, 0 } },
          .error = "not inside RAM" },
        { "behind all RAM", { { RAM_HIGH_GPA + RAM_BYTES, 1, 0, 0 } },
          .error = "not inside RAM" },
        { "wraps the address space", { { UINT64_MAX - 7, 16, 0, 0 } },
          .error = "not inside RAM" },
        { "second piece outside", { { BUF_GPA, 16, NEXT, 1 }, { UINT64_MAX, 1, IN, 0 } },
          .error = "not inside RAM" },
        { "empty", { { BUF_GPA, 0, 0, 0 } }, .error = "empty" },
        { "empty at the end", { { BUF_GPA, 1, NEXT, 1 }, { BUF_GPA, 0, IN, 0 } },
          .error = "empty" },
        { "empty and outside", { { UINT64_MAX, 0, 0, 0 } }, .error = "empty" },
        { "out after in", { { BUF_GPA, 1, IN | NEXT, 1 }, { BUF_GPA, 1, 0, 0 } },
          .error = "a piece to read is behind one to write" },
        { "next is itself", { { BUF_GPA, 1, NEXT, 0 } }, .error = "loop" },
        { "next is the one before", { { BUF_GPA, 1, NEXT, 1 }, { BUF_GPA, 1, NEXT, 0 } },
          .error = "loop" },
        { "next is beyond the ring", { { BUF_GPA, 1, NEXT, RING_SIZE } },
          .error = "goes on at descriptor 8 of a table of 8" },
        { "next is far beyond the ring", { { BUF_GPA, 1, NEXT, 0xffff } },
          .error = "goes on at descriptor 65535" },
        { "head is beyond the ring", { { BUF_GPA, 1, 0, 0 } }, .ring0 = RING_SIZE,
          .error = "begins at descriptor 8 of a ring of 8" },
        { "head is far beyond the ring", { { BUF_GPA, 1, 0, 0 } }, .ring0 = 0xffff,
          .error = "begins at descriptor 65535" },
        { "as many requests as entries", { { BUF_GPA, 1, 0, 0 } }, .idx = RING_SIZE, .nout = 1 },
        { "more requests than entries", { { BUF_GPA, 1, 0, 0 } }, .idx = RING_SIZE + 1,
          .error = "jumped from 0 to 9, in a ring of 8" },
        { "index went back", { { BUF_GPA, 1, 0, 0 } }, .idx = 0xffff,
          .error = "jumped from 0 to 65535" },

        { "indirect", { { TABLE_GPA, 32, INDIRECT, 0 } },
          { { BUF_GPA, 1, NEXT, 1 }, { BUF_GPA, 1, IN, 0 } }, .nout = 1, .nin = 1 },
        { "indirect, its write flag means nothing", { { TABLE_GPA, 16, INDIRECT | IN, 0 } },
          { { BUF_GPA, 1, 0, 0 } }, .nout = 1 },
        { "indirect behind one of the ring",
          { { BUF_GPA, 1, NEXT, 1 }, { TABLE_GPA, 32, INDIRECT, 0 } },
          { { BUF_GPA, 1, NEXT, 1 }, { BUF_GPA, 1, IN, 0 } }, .nout = 2, .nin = 1 },
        { "indirect, begins with its first", { { TABLE_GPA, 48, INDIRECT, 2 } },
          { { BUF_GPA, 1, NEXT, 2 }, { BUF_GPA, 1, NEXT, 0 }, { BUF_GPA, 1, IN, 1 } },
          .nout = 1, .nin = 1 },
        { "indirect at an odd address", { { TABLE_GPA + 0x103, 16, INDIRECT, 0 } },
          .error = "empty" },
        { "indirect, not negotiated", { { TABLE_GPA, 16, INDIRECT, 0 } },
          { { BUF_GPA, 1, 0, 0 } }, .error = "not negotiated", .no_indirect = true },
        { "indirect and next", { { TABLE_GPA, 16, INDIRECT | NEXT, 1 }, { BUF_GPA, 1, 0, 0 } },
          { { BUF_GPA, 1, 0, 0 } }, .error = "has a next one" },
        { "nested", { { TABLE_GPA, 16, INDIRECT, 0 } }, { { TABLE_GPA, 16, INDIRECT, 0 } },
          .error = "has an indirect descriptor" },
        { "table of no bytes", { { TABLE_GPA, 0, INDIRECT, 0 } }, .error = "has 0 bytes" },
        { "table of one and a half", { { TABLE_GPA, 24, INDIRECT, 0 } },
          { { BUF_GPA, 1, 0, 0 } }, .error = "has 24 bytes, not a multiple of 16" },
        { "table outside", { { RAM_BYTES - 16, 32, INDIRECT, 0 } },
          .error = "table of 32 bytes at 0xfff0 is not inside RAM" },
        { "table beyond everything", { { UINT64_MAX - 15, 16, INDIRECT, 0 } },
          .error = "not inside RAM" },
        { "huge table", { { TABLE_GPA, 0xfffffff0, INDIRECT, 0 } }, .error = "not inside RAM" },
        { "next is beyond the table", { { TABLE_GPA, 32, INDIRECT, 0 } },
          { { BUF_GPA, 1, NEXT, 2 }, [2] = { BUF_GPA, 1, 0, 0 } },
          .error = "goes on at descriptor 2 of a table of 2" },
        { "loop in a table", { { TABLE_GPA, 64, INDIRECT, 0 } },
          { { BUF_GPA, 1, NEXT, 1 }, { BUF_GPA, 1, NEXT, 1 } }, .error = "loop" },
        { "out in the table after in of the ring",
          { { BUF_GPA, 1, IN | NEXT, 1 }, { TABLE_GPA, 16, INDIRECT, 0 } },
          { { BUF_GPA, 1, 0, 0 } }, .error = "a piece to read is behind one to write" },
};

static void lay_out(const struct chain_row *row, struct vqguest *g, const struct ram *ram,
                    struct virtqueue *q)
{
        vqguest_init(g, ram, RING_GPA, RING_SIZE, q);
        q->indirect = !row->no_indirect;
        memcpy(g->ring.desc, row->desc, sizeof(row->desc));
        memcpy(ram_at(ram, TABLE_GPA, sizeof(row->table)), row->table, sizeof(row->table));
        g->ring.avail->ring[0] = row->ring0;
        g->ring.avail->idx = row->idx ? row->idx : 1;
}

static void expect_refused(const struct chain_row *row, struct virtqueue *q, int rc,
                           const struct err *e)
{
        struct vq_chain c;
        struct err again = { 0 };

        EXPECT_EQUAL(row->name, rc, -EBADMSG);
        EXPECT_EQUAL(row->name, e->code, -EBADMSG);
        if (!strstr(e->text, row->error))
                EXPECT_TEXT(row->name, e->text, row->error);
        EXPECT_TRUE(row->name, q->broken);
        EXPECT_EQUAL(row->name, q->s.next_avail, 0);
        /* for good, with a sentence every time */
        EXPECT_EQUAL(row->name, vq_pop(q, &c, &again), -EBADMSG);
        EXPECT_TRUE(row->name, strstr(again.text, "until the guest resets"));
        EXPECT_EQUAL(row->name, vq_kicks_on(q), 0);
}

static void chain_table(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(chains); i++) {
                const struct chain_row *row = &chains[i];
                struct ram ram;
                struct vqguest g;
                struct virtqueue q;
                struct vq_chain c;
                struct err e = { 0 };

                vqguest_ram_init(&ram, RAM_BYTES);
                lay_out(row, &g, &ram, &q);

                int rc = vq_pop(&q, &c, &e);

                if (row->error) {
                        expect_refused(row, &q, rc, &e);
                } else {
                        EXPECT_EQUAL(row->name, rc, 1);
                        EXPECT_EQUAL(row->name, c.nout, row->nout);
                        EXPECT_EQUAL(row->name, c.nin, row->nin);
                        EXPECT_EQUAL(row->name, q.s.next_avail, 1);
                }
                vqguest_ram_fini(&ram);
        }
}

/* how many pieces a request may have: one table for them all */
static void too_many_pieces(void)
{
        struct vqguest_buf bufs[VQ_IOV_MAX + 1];
        struct ram ram;

        vqguest_ram_init(&ram, RAM_BYTES);
        for (unsigned i = 0; i < ARRAY_SIZE(bufs); i++)
                bufs[i] = (struct vqguest_buf){ BUF_GPA + i, 1, i > 100 };
        for (unsigned k = 0; k < 4; k++) {
                unsigned n = VQ_IOV_MAX + k / 2;
                struct vqguest g;
                struct virtqueue q;
                struct vq_chain c;
                struct err e = { 0 };

                vqguest_init(&g, &ram, RING_GPA, VQ_SIZE_MAX, &q);
                if (k % 2)
                        vqguest_add_indirect(&g, bufs, n, TABLE_GPA);
                else
                        vqguest_add(&g, bufs, n);
                CU_ASSERT_EQUAL(vq_pop(&q, &c, &e), n > VQ_IOV_MAX ? -EBADMSG : 1);
                CU_ASSERT_EQUAL(!!strstr(e.text, "more than 160 pieces"), n > VQ_IOV_MAX);
        }
        vqguest_ram_fini(&ram);
}

/* Never touched: addresses that exist are enough. */
static void too_many_bytes(void)
{
        struct ram ram = { .bytes = GIB2, .nslots = 1, .slots = { { .bytes = GIB2 } } };
        struct ram small;
        const struct vqguest_buf bufs[] = { { 0, GIB2, false }, { 1, GIB2 - 1, true },
                                            { 0, 1, true } };

        vqguest_ram_init(&small, RAM_BYTES);
        for (unsigned n = 2; n <= 3; n++) {
                struct vqguest g;
                struct virtqueue q;
                struct vq_chain c;
                struct err e = { 0 };

                vqguest_init(&g, &small, RING_GPA, RING_SIZE, &q);
                vqguest_add(&g, bufs, n);
                ram.slots[0].hva = small.slots[0].hva;
                q.ram = &ram;
                CU_ASSERT_EQUAL(vq_pop(&q, &c, &e), n == 2 ? 1 : -EBADMSG);
                if (n == 2)
                        CU_ASSERT_EQUAL(c.out_bytes + c.in_bytes, UINT32_MAX);
                CU_ASSERT_EQUAL(!!strstr(e.text, "4 GiB"), n == 3);
        }
        vqguest_ram_fini(&small);
}

/* INV-TAKEN */
static void same_head_again(void)
{
        const struct vqguest_buf buf = { BUF_GPA, 1, false };
        struct ram ram;
        struct vqguest g;
        struct virtqueue q;
        struct vq_chain c;
        struct err e;

        vqguest_ram_init(&ram, RAM_BYTES);
        vqguest_init(&g, &ram, RING_GPA, RING_SIZE, &q);

        uint16_t head = vqguest_add(&g, &buf, 1);

        g.ring.avail->ring[1] = g.ring.avail->ring[2] = head;
        g.ring.avail->idx = 3;
        CU_ASSERT_EQUAL(vq_pop(&q, &c, &e), 1);
        vq_push(&q, head, 0);
        CU_ASSERT_EQUAL(vq_pop(&q, &c, &e), 1);
        CU_ASSERT_EQUAL(vq_pop(&q, &c, &e), -EBADMSG);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "again before it was done"));
        /* what was taken before can still be done */
        vq_push(&q, head, 0);
        CU_ASSERT_EQUAL(g.ring.used->idx, 2);
        vqguest_ram_fini(&ram);
}

/* The bytes of a ring of 8: 128, 22, 70. */
static const struct ring_row {
        const char *name;
        struct vq_state s;
        const char *error;
} rings[] = {
        { "good", { 8, true, 0x1000, 0x2000, 0x3000, 0, 0, 0, false }, NULL },
        { "not ready, and nonsense", { 3, false, 1, 1, 1, 0, 0, 0, false }, NULL },
        { "at the end of RAM", { 8, true, RAM_BYTES - 128, 0x2002, 0x3004, 0, 0, 0, false }, NULL },
        { "one entry", { 1, true, 0x1000, 0x2000, 0x3000, 0, 0, 0, false }, NULL },
        { "as large as can be", { 128, true, 0x1000, 0x2000, 0x3000, 9, 9, 0, false }, NULL },
        { "no entry", { 0, true, 0x1000, 0x2000, 0x3000, 0, 0, 0, false }, "ring of 0 entries" },
        { "no power of two", { 12, true, 0x1000, 0x2000, 0x3000, 0, 0, 0, false }, "12 entries" },
        { "too large", { 256, true, 0x1000, 0x2000, 0x3000, 0, 0, 0, false }, "up to 128" },
        { "far too large", { 0x8000, true, 0x1000, 0x2000, 0x3000, 0, 0, 0, false }, "up to 128" },
        { "descriptors unaligned", { 8, true, 0x1008, 0x2000, 0x3000, 0, 0, 0, false },
          "descriptors at 0x1008, which is not aligned" },
        { "available unaligned", { 8, true, 0x1000, 0x2001, 0x3000, 0, 0, 0, false },
          "available part at 0x2001, which is not aligned" },
        { "used unaligned", { 8, true, 0x1000, 0x2000, 0x3002, 0, 0, 0, false },
          "used part at 0x3002, which is not aligned" },
        { "descriptors outside", { 8, true, RAM_BYTES - 112, 0x2000, 0x3000, 0, 0, 0, false },
          "descriptors at 0xff90, which is not inside" },
        { "available outside", { 8, true, 0x1000, RAM_BYTES - 20, 0x3000, 0, 0, 0, false },
          "available part at 0xffec, which is not inside" },
        { "used outside", { 8, true, 0x1000, 0x2000, RAM_BYTES - 68, 0, 0, 0, false },
          "used part at 0xffbc, which is not inside" },
        { "wraps the address space", { 8, true, UINT64_MAX - 15, 0x2000, 0x3000, 0, 0, 0, false },
          "not inside" },
        { "in the hole", { 8, true, 0x1000, 0x2000, RAM_LOW_END_GPA, 0, 0, 0, false },
          "not inside" },
};

static void ring_table(void)
{
        struct ram ram;

        vqguest_ram_init(&ram, RAM_BYTES);
        for (size_t i = 0; i < ARRAY_SIZE(rings); i++) {
                const struct ring_row *row = &rings[i];
                struct virtqueue q = { .s = row->s };
                struct vq_chain c;
                struct err e = { 0 };
                int rc = vq_attach(&q, &ram, 128, &e);

                EXPECT_EQUAL(row->name, rc, row->error ? -EBADMSG : 0);
                EXPECT_EQUAL(row->name, q.broken, !!row->error);
                if (row->error && !strstr(e.text, row->error))
                        EXPECT_TEXT(row->name, e.text, row->error);
                if (row->error)
                        EXPECT_EQUAL(row->name, vq_pop(&q, &c, &e), -EBADMSG);
                if (!row->s.ready)
                        EXPECT_EQUAL(row->name, vq_pop(&q, &c, &e), 0);
                EXPECT_EQUAL(row->name, vq_wants_interrupt(&q), row->s.ready && !row->error);
        }
        vqguest_ram_fini(&ram);
}

static const CU_TestInfo cases[] = {
        { "requests that keep and break the rules", chain_table },
        { "pieces up to VQ_IOV_MAX", too_many_pieces },
        { "less than 4 GiB in a request", too_many_bytes },
        { "a head is taken once at most", same_head_again },
        { "rings that are attached and refused", ring_table },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("virtqueue-bad", cases);
}
