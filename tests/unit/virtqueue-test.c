/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: requests and answers pass through a ring whole and in order, for ever; interrupts and
 *       kicks are suppressed when the other side does not want them and never when it does; a
 *       state that was saved goes on when it is attached again.
 * Method: a driver's side (vqguest.h) against the device's, in one thread; tables of shapes,
 *         70000 requests for 16-bit indices, event indices at their edges. */
#include "vmm/virtio/queue.h"

#include <errno.h>
#include <string.h>

#include "common/check.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"
#include "tests/unit/vqguest.h"

#define RAM_BYTES 0x10000u
#define RING_GPA 0x1000u
#define TABLE_GPA 0x4006u               /* may lie anywhere */
#define OUT_GPA 0x8000u
#define IN_GPA (RAM_HIGH_GPA + 0x1000)
#define RING_SIZE 8
#define MANY 70000u

struct both {
        struct ram ram;
        struct vqguest g;
        struct virtqueue q;
};

static void setup(struct both *b, uint16_t size, bool event_idx)
{
        vqguest_ram_init(&b->ram, RAM_BYTES);
        if (event_idx)
                vqguest_init_event_idx(&b->g, &b->ram, RING_GPA, size, &b->q);
        else
                vqguest_init(&b->g, &b->ram, RING_GPA, size, &b->q);
}

static uint16_t add(struct both *b)
{
        const struct vqguest_buf bufs[] = { { OUT_GPA, 4, false }, { IN_GPA, 4, true } };

        return vqguest_add(&b->g, bufs, ARRAY_SIZE(bufs));
}

/* The device does what there is; how many. */
static unsigned serve(struct both *b)
{
        struct vq_chain c;
        unsigned n = 0;

        while (vq_pop(&b->q, &c, NULL) == 1) {
                vq_push(&b->q, c.head, n);
                n++;
        }
        return n;
}

static unsigned reap(struct both *b)
{
        uint16_t head;
        uint32_t written;
        unsigned n = 0;

        while (vqguest_used(&b->g, &head, &written))
                n++;
        return n;
}

static const struct shape {
        const char *name;
        unsigned nout, nin;
        bool indirect;
} shapes[] = {
        { "one out", 1, 0, false },
        { "one in", 0, 1, false },
        { "header, data, status", 2, 1, false },
        { "all of the ring", 5, 3, false },
        { "one out, indirect", 1, 0, true },
        { "header, data, status, indirect", 2, 1, true },
        { "more than the ring, indirect", 20, 60, true },
};

/* pieces of 1, 2, 3, ... bytes, one behind the other */
static unsigned cut_up(const struct shape *s, struct vqguest_buf *bufs)
{
        uint64_t out_gpa = OUT_GPA, in_gpa = IN_GPA;

        for (unsigned i = 0; i < s->nout + s->nin; i++) {
                bool in = i >= s->nout;
                uint64_t *gpa = in ? &in_gpa : &out_gpa;
                uint32_t bytes = 1 + (in ? i - s->nout : i);

                bufs[i] = (struct vqguest_buf){ *gpa, bytes, in };
                *gpa += bytes;
        }
        return s->nout + s->nin;
}

static void round_trip(const struct shape *s, struct both *b, uint8_t salt)
{
        struct vqguest_buf bufs[VQ_IOV_MAX];
        uint8_t sent[4096], got[4096];
        unsigned n = cut_up(s, bufs);
        struct vq_chain c;
        struct err e;
        uint16_t head;
        uint32_t written = 0;

        for (size_t i = 0; i < sizeof(sent); i++)
                sent[i] = (uint8_t)(i * 7 + salt);
        memcpy(ram_at(&b->ram, OUT_GPA, 4096), sent, sizeof(sent));
        memset(ram_at(&b->ram, IN_GPA, 4096), 0, 4096);

        uint16_t added = s->indirect ? vqguest_add_indirect(&b->g, bufs, n, TABLE_GPA) :
                                       vqguest_add(&b->g, bufs, n);

        EXPECT_EQUAL(s->name, vq_pop(&b->q, &c, &e), 1);
        EXPECT_EQUAL(s->name, c.head, added);
        EXPECT_EQUAL(s->name, c.nout, s->nout);
        EXPECT_EQUAL(s->name, c.nin, s->nin);
        EXPECT_EQUAL(s->name, c.out_bytes, s->nout * (s->nout + 1) / 2);
        EXPECT_EQUAL(s->name, c.in_bytes, s->nin * (s->nin + 1) / 2);
        EXPECT_EQUAL(s->name, vq_read(&c, 0, got, sizeof(got)), c.out_bytes);
        EXPECT_EQUAL(s->name, memcmp(got, sent, c.out_bytes), 0);
        EXPECT_EQUAL(s->name, vq_write(&c, 0, sent, sizeof(sent)), c.in_bytes);
        EXPECT_EQUAL(s->name, vqguest_used(&b->g, &head, &written), 0);
        vq_push(&b->q, c.head, (uint32_t)c.in_bytes);
        EXPECT_EQUAL(s->name, vqguest_used(&b->g, &head, &written), 1);
        EXPECT_EQUAL(s->name, head, added);
        EXPECT_EQUAL(s->name, written, c.in_bytes);
        memcpy(got, ram_at(&b->ram, IN_GPA, 4096), sizeof(got));
        EXPECT_EQUAL(s->name, memcmp(got, sent, c.in_bytes), 0);
        /* and not a byte behind it */
        EXPECT_EQUAL(s->name, got[c.in_bytes], 0);
        EXPECT_EQUAL(s->name, vq_pop(&b->q, &c, &e), 0);
}

static void round_trips(void)
{
        struct both b;

        setup(&b, RING_SIZE, false);
        for (unsigned i = 0; i < 3 * RING_SIZE; i++)
                round_trip(&shapes[i % ARRAY_SIZE(shapes)], &b, (uint8_t)i);
        vqguest_ram_fini(&b.ram);
}

/* A chain with an out part of 3 and 5 bytes and an in part of 7. */
static const struct piece_row {
        const char *name;
        size_t offset, bytes;
        unsigned room, n;
        size_t first, total;            /* bytes */
} out_rows[] = {
        { "all", 0, 8, 9, 2, 3, 8 },
        { "more than all", 0, SIZE_MAX, 9, 2, 3, 8 },
        { "inside the first", 1, 1, 9, 1, 1, 1 },
        { "up to the seam", 1, 2, 9, 1, 2, 2 },
        { "from the seam", 3, 2, 9, 1, 2, 2 },
        { "over the seam", 2, 2, 9, 2, 1, 2 },
        { "the last byte", 7, 100, 9, 1, 1, 1 },
        { "behind the end", 8, 1, 9, 0, 0, 0 },
        { "far behind the end", SIZE_MAX, SIZE_MAX, 9, 0, 0, 0 },
        { "nothing", 3, 0, 9, 0, 0, 0 },
        { "less room than pieces", 1, 7, 1, 1, 2, 2 },
        { "no room", 0, 8, 0, 0, 0, 0 },
};

static void pieces(void)
{
        uint8_t mem[15] = "abcdefghijklmn";
        const struct vq_chain c = { .nout = 2, .nin = 1, .out_bytes = 8, .in_bytes = 7,
                                    .iov = { { mem, 3 }, { mem + 3, 5 }, { mem + 8, 7 } } };
        struct iovec got[9];
        char text[16] = "";

        for (size_t i = 0; i < ARRAY_SIZE(out_rows); i++) {
                const struct piece_row *r = &out_rows[i];
                size_t total = 0;
                unsigned n = vq_out_pieces(&c, r->offset, r->bytes, got, r->room);

                EXPECT_EQUAL(r->name, n, r->n);
                for (unsigned k = 0; k < n; k++)
                        total += got[k].iov_len;
                EXPECT_EQUAL(r->name, total, r->total);
                if (n)
                        EXPECT_EQUAL(r->name, got[0].iov_len, r->first);
                if (n)
                        EXPECT_TRUE(r->name, got[0].iov_base == mem + r->offset);
        }
        CU_ASSERT_EQUAL(vq_in_pieces(&c, 2, 100, got, 9), 1);
        CU_ASSERT_PTR_EQUAL(got[0].iov_base, mem + 10);
        CU_ASSERT_EQUAL(got[0].iov_len, 5);
        CU_ASSERT_EQUAL(vq_read(&c, 2, text, 3), 3);
        CU_ASSERT_STRING_EQUAL(text, "cde");
        CU_ASSERT_EQUAL(vq_write(&c, 5, "XYZ", 3), 2);
        CU_ASSERT_EQUAL(memcmp(mem, "abcdefghijklmXY", 15), 0);
}

static void many(void)
{
        static const uint16_t sizes[] = { 1, 2, 8, VQ_SIZE_MAX };

        for (unsigned k = 0; k < 2 * ARRAY_SIZE(sizes); k++) {
                const struct vqguest_buf buf = { OUT_GPA, 4, false };
                uint16_t size = sizes[k / 2];
                struct both b;
                unsigned done = 0, missed_kicks = 0, missed_interrupts = 0;

                setup(&b, size, k % 2);
                while (done < MANY) {
                        unsigned n = 1 + done % size;

                        for (unsigned i = 0; i < n; i++)
                                vqguest_add(&b.g, &buf, 1);
                        missed_kicks += !vqguest_wants_kick(&b.g);
                        vqguest_interrupts_on(&b.g);
                        done += serve(&b);
                        missed_interrupts += !vq_wants_interrupt(&b.q);
                        reap(&b);
                        if (b.g.nfree != size)
                                break;
                }
                /* every time both, as nobody was awake */
                CU_ASSERT_EQUAL(missed_kicks, 0);
                CU_ASSERT_EQUAL(missed_interrupts, 0);
                CU_ASSERT(done >= MANY);
                CU_ASSERT_EQUAL(b.g.nfree, size);
                CU_ASSERT_EQUAL(b.q.s.next_used, (uint16_t)done);
                vqguest_ram_fini(&b.ram);
        }
}

static struct both abort_b;

static void unpop_pushed(void)
{
        vq_unpop(&abort_b.q);
}

static void push_twice(void)
{
        vq_push(&abort_b.q, 0, 0);
}

static void unpop(void)
{
        struct both *b = &abort_b;
        struct vq_chain c;
        uint16_t head[3];

        setup(b, RING_SIZE, false);
        for (unsigned i = 0; i < 3; i++)
                head[i] = add(b);
        for (unsigned i = 0; i < 2; i++)
                CU_ASSERT_EQUAL(vq_pop(&b->q, &c, NULL), 1);
        CU_ASSERT_EQUAL(c.head, head[1]);
        vq_unpop(&b->q);
        CU_ASSERT_EQUAL(vq_pop(&b->q, &c, NULL), 1);
        CU_ASSERT_EQUAL(c.head, head[1]);
        vq_unpop(&b->q);
        vq_unpop(&b->q);
        CU_ASSERT(vq_kicks_on(&b->q));
        CU_ASSERT_EQUAL(b->q.s.next_avail, 0);
        for (unsigned i = 0; i < 3; i++) {
                CU_ASSERT_EQUAL(vq_pop(&b->q, &c, NULL), 1);
                CU_ASSERT_EQUAL(c.head, head[i]);
        }
        /* done out of order; then the last that was taken can still go back */
        vq_push(&b->q, head[0], 0);
        vq_push(&b->q, head[1], 0);
        vq_unpop(&b->q);
        CU_ASSERT_EQUAL(b->q.s.next_avail, 2);
        CU_ASSERT(expect_abort(unpop_pushed));
        CU_ASSERT(expect_abort(push_twice));
        CU_ASSERT_EQUAL(reap(b), 2);
        CU_ASSERT_EQUAL(serve(b), 1);
        CU_ASSERT_EQUAL(reap(b), 1);
        vqguest_ram_fini(&b->ram);
}

static void kicks(void)
{
        for (unsigned event_idx = 0; event_idx < 2; event_idx++) {
                struct both b;
                struct vq_chain c;

                setup(&b, RING_SIZE, event_idx);
                add(&b);
                CU_ASSERT(vqguest_wants_kick(&b.g));
                vq_kicks_off(&b.q);
                CU_ASSERT_EQUAL(serve(&b), 1);
                /* none, also after a pop in vain */
                add(&b);
                CU_ASSERT_FALSE(vqguest_wants_kick(&b.g));
                CU_ASSERT_EQUAL(serve(&b), 1);
                add(&b);
                CU_ASSERT_FALSE(vqguest_wants_kick(&b.g));
                /* asked for too late: it says so */
                CU_ASSERT(vq_kicks_on(&b.q));
                CU_ASSERT_EQUAL(serve(&b), 1);
                CU_ASSERT_FALSE(vq_kicks_on(&b.q));
                CU_ASSERT_EQUAL(reap(&b), 3);
                add(&b);
                CU_ASSERT(vqguest_wants_kick(&b.g));
                /* of several at once, the first alone */
                add(&b);
                CU_ASSERT_EQUAL(vqguest_wants_kick(&b.g), !event_idx);
                /* who never says anything is kicked after each pop in vain */
                CU_ASSERT_EQUAL(vq_pop(&b.q, &c, NULL), 1);
                vq_push(&b.q, c.head, 0);
                CU_ASSERT_EQUAL(serve(&b), 1);
                add(&b);
                CU_ASSERT(vqguest_wants_kick(&b.g));
                vqguest_ram_fini(&b.ram);
        }
}

static unsigned one(struct both *b)
{
        add(b);
        serve(b);
        return vq_wants_interrupt(&b->q);
}

static void interrupts_by_event(void)
{
        struct both b;

        setup(&b, RING_SIZE, true);
        /* used_event is 0, and nothing was signalled so far */
        CU_ASSERT(vq_wants_interrupt(&b.q));
        CU_ASSERT_FALSE(vq_wants_interrupt(&b.q));
        CU_ASSERT(one(&b));
        CU_ASSERT_FALSE(one(&b));
        CU_ASSERT_FALSE(one(&b));
        CU_ASSERT(vqguest_interrupts_on(&b.g));
        CU_ASSERT_EQUAL(reap(&b), 3);
        CU_ASSERT_FALSE(vqguest_interrupts_on(&b.g));
        CU_ASSERT(one(&b));
        CU_ASSERT_FALSE(one(&b));
        CU_ASSERT_EQUAL(reap(&b), 2);

        /* "wake me at the third from here" */
        vring_used_event(&b.g.ring) = (uint16_t)(b.g.used_idx + 2);
        CU_ASSERT_FALSE(one(&b));
        CU_ASSERT_FALSE(one(&b));
        CU_ASSERT(one(&b));
        CU_ASSERT_EQUAL(reap(&b), 3);
        /* three at once go over it as well */
        vring_used_event(&b.g.ring) = (uint16_t)(b.g.used_idx + 1);
        for (unsigned i = 0; i < 3; i++)
                add(&b);
        serve(&b);
        CU_ASSERT(vq_wants_interrupt(&b.q));
        vqguest_ram_fini(&b.ram);
}

static void interrupts_by_flag(void)
{
        struct both b;

        setup(&b, RING_SIZE, false);
        CU_ASSERT(one(&b));
        CU_ASSERT(one(&b));
        vqguest_interrupts_off(&b.g);
        CU_ASSERT_FALSE(one(&b));
        CU_ASSERT(vqguest_interrupts_on(&b.g));
        CU_ASSERT_EQUAL(reap(&b), 3);
        CU_ASSERT_FALSE(vqguest_interrupts_on(&b.g));
        CU_ASSERT(one(&b));
        vqguest_ram_fini(&b.ram);
}

/* A device that looks at used_event only after all 65536 indices went by interrupts. */
static void interrupt_after_a_round(void)
{
        for (unsigned extra = 0; extra < 3; extra++) {
                struct both b;

                setup(&b, RING_SIZE, true);
                CU_ASSERT(vq_wants_interrupt(&b.q));
                vring_used_event(&b.g.ring) = 0x8000;
                for (unsigned i = 0; i < 0x10000 + extra; i++) {
                        add(&b);
                        serve(&b);
                        reap(&b);
                }
                CU_ASSERT(vq_wants_interrupt(&b.q));
                CU_ASSERT_FALSE(vq_wants_interrupt(&b.q));
                vqguest_ram_fini(&b.ram);
        }
}

/* RAM, driver and the queue's state are all that is kept; the device had said "no kicks". */
static void saved_and_attached(void)
{
        for (unsigned event_idx = 0; event_idx < 2; event_idx++) {
                struct both b;
                struct vq_chain c;

                setup(&b, RING_SIZE, event_idx);
                vq_kicks_off(&b.q);
                for (unsigned i = 0; i < 0xffff; i++) {
                        add(&b);
                        vqguest_wants_kick(&b.g);
                        serve(&b);
                        vq_wants_interrupt(&b.q);
                        reap(&b);
                }

                uint16_t head = add(&b);

                CU_ASSERT_FALSE(vqguest_wants_kick(&b.g));
                CU_ASSERT_EQUAL(vq_pop(&b.q, &c, NULL), 1);
                vq_unpop(&b.q);

                struct virtqueue again = { .s = b.q.s, .event_idx = event_idx };

                vq_reset(&b.q);
                CU_ASSERT_FALSE(b.q.s.ready);
                CU_ASSERT_EQUAL(vq_pop(&b.q, &c, NULL), 0);
                b.q = again;
                CU_ASSERT_EQUAL(vq_attach(&b.q, &b.ram, RING_SIZE, NULL), 0);
                CU_ASSERT_EQUAL(vq_pop(&b.q, &c, NULL), 1);
                CU_ASSERT_EQUAL(c.head, head);
                vq_push(&b.q, c.head, 1);
                CU_ASSERT_EQUAL(b.q.s.next_used, 0);
                CU_ASSERT_EQUAL(serve(&b), 0);
                CU_ASSERT_EQUAL(reap(&b), 1);
                /* kicks are on, whatever RAM said */
                add(&b);
                CU_ASSERT(vqguest_wants_kick(&b.g));
                /* interrupts are not state: the first one always comes */
                b.q.s.signalled_valid = false;
                CU_ASSERT(vq_wants_interrupt(&b.q));
                vqguest_ram_fini(&b.ram);
        }
}

static const CU_TestInfo cases[] = {
        { "requests of every shape, there and back", round_trips },
        { "pieces of a part", pieces },
        { "indices wrap", many },
        { "what was taken goes back", unpop },
        { "kicks", kicks },
        { "interrupts by event index", interrupts_by_event },
        { "interrupts by flag", interrupts_by_flag },
        { "an interrupt after all indices went by", interrupt_after_a_round },
        { "saved, attached again, goes on", saved_and_attached },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("virtqueue", cases);
}
