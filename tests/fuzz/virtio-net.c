/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: whatever a guest writes to its rings, descriptors, headers and orders, the network
 *   device stays inside RAM, ends each round, and gives back what it has not used.
 * Method: an input is negotiated features, a script of what happens, and the first bytes of
 *   RAM, rings included. libFuzzer, or mutations of one good input (mutate.h). */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/check.h"
#include "common/json.h"
#include "tests/fuzz/mutate.h"
#include "tests/unit/net-kit.h"

#define RAM_HALF_BYTES 0x8000u
#define RING_ENTRIES 8
#define RING_BYTES 0x100u
#define AVAIL_AT 0x80u
#define USED_AT 0xa0u
#define SCRIPT_STEPS 32

struct input {
        uint64_t features;
        uint8_t event_idx, indirect, has_tap, unused[5];
        uint8_t script[SCRIPT_STEPS];   /* a step: low 3 bits what, the others how much */
        uint8_t ram[];
};

enum { KICK_RX, KICK_TX, KICK_CTRL, FEED, RUN, HOLD, LINK, ADD };

struct machine {
        struct net_kit k;
        int peer;
};

static void make(struct machine *m, const struct input *in, size_t ram_bytes)
{
        struct virtio_net_options o = { .name = "net0", .mac = { 2 }, .tap = -1 };
        int pair[2] = { -1, -1 };

        memset(m, 0, sizeof(*m));
        if (in->has_tap % 8 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) < 0)
                abort();
        o.tap = pair[0];
        m->peer = pair[1];
        vqguest_ram_init(&m->k.ram, RAM_HALF_BYTES);
        memcpy(m->k.ram.slots[0].hva, in->ram, MIN(ram_bytes, RAM_HALF_BYTES));
        ASSERT(virtio_net_new(&o, &m->k.dev, NULL) == 0);
        m->k.dev->slot = &m->k.slot;
        m->k.dev->loop = &m->k.loop;
        m->k.dev->ram = &m->k.ram;
        m->k.dev->features = in->features & m->k.dev->host_features;
        for (unsigned q = 0; q < NET_KIT_QUEUES; q++) {
                uint64_t gpa = q * RING_BYTES;

                m->k.dev->queue[q] = (struct virtqueue){
                        .event_idx = in->event_idx & 1, .indirect = in->indirect & 1,
                        .s = { .size = RING_ENTRIES, .ready = true, .desc_gpa = gpa,
                               .avail_gpa = gpa + AVAIL_AT, .used_gpa = gpa + USED_AT },
                };
                ASSERT(vq_attach(&m->k.dev->queue[q], &m->k.ram, VQ_SIZE_MAX, NULL) == 0);
        }
        ASSERT(net_kit_start(&m->k, NULL) == 0);
}

static void feed(struct machine *m, unsigned how)
{
        static const size_t sizes[] = { 0, 13, 14, 60, 100, 500, 1514, 65000, 65535 + 22, 65558 };
        static uint8_t frame[NET_KIT_HEADER + NET_KIT_FRAME_MAX];

        if (m->peer >= 0)
                (void)!send(m->peer, frame, NET_KIT_HEADER + sizes[how % ARRAY_SIZE(sizes)], 0);
}

static void kick_all(struct machine *m)
{
        for (unsigned q = 0; q < NET_KIT_QUEUES; q++)
                m->k.dev->class->kick(m->k.dev, q);
}

/* Saved, and reverted where it stands. */
static void hold(struct machine *m, unsigned how)
{
        const struct virtio_class *class = m->k.dev->class;
        uint8_t state[VIRTIO_STATE_BYTES_MAX];
        AUTO_JSON *o = json_object_new_object();
        const struct virtqueue *rx = &m->k.dev->queue[0];

        class->drain(m->k.dev);
        ASSERT(net_kit_run(&m->k, 0) == 0);
        for (unsigned i = 0; i < RING_ENTRIES; i++)
                ASSERT(!rx->taken[i]);          /* INV-TAKEN-LAST: all of it went back */
        class->capture(m->k.dev, state);
        ASSERT(class->encode(state, o, NULL) == 0);
        if (how & 1) {
                ASSERT(class->decode(o, state, NULL) == 0);
                ASSERT(class->apply(m->k.dev, state, NULL) == 0);
        }
        if (m->k.slot.broken)
                return;
        class->resume(m->k.dev);
        kick_all(m);
}

/* The guest makes what its ring says next available. */
static void add(struct machine *m, unsigned how)
{
        uint8_t *idx = m->k.ram.slots[0].hva + how % NET_KIT_QUEUES * RING_BYTES + AVAIL_AT + 2;

        put_le16(idx, (uint16_t)(get_le16(idx) + 1));
}

static void step(struct machine *m, uint8_t s)
{
        unsigned how = s >> 3;
        uint8_t drop[64];

        switch (s & 7) {
        case KICK_RX:
        case KICK_TX:
        case KICK_CTRL:
                m->k.dev->class->kick(m->k.dev, s & 7);
                break;
        case FEED:
                feed(m, how);
                break;
        case RUN:
                net_kit_run(&m->k, 0);
                if (m->peer >= 0)
                        (void)!recv(m->peer, drop, sizeof(drop), 0);
                break;
        case HOLD:
                hold(m, how);
                break;
        case LINK:
                virtio_net_set_link(m->k.dev, how & 1);
                virtio_net_announce(m->k.dev);
                break;
        case ADD:
                add(m, how);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
        static struct machine m;
        struct input *in;

        if (bytes < sizeof(*in))
                return 0;
        in = malloc(bytes);
        ASSERT(in);
        memcpy(in, data, bytes);
        make(&m, in, bytes - sizeof(*in));
        for (unsigned i = 0; i < SCRIPT_STEPS; i++) {
                step(&m, in->script[i]);
                ASSERT(!m.k.slot.broken || m.k.slot.why[0]);
        }
        free(in);
        net_kit_fini(&m.k);
        if (m.peer >= 0)
                close(m.peer);
        return 0;
}

#ifndef FUZZ_WITH_LIBFUZZER

static void describe(uint8_t *ram, unsigned q, unsigned i, uint64_t gpa, uint32_t len,
                     uint16_t flags)
{
        uint8_t *desc = ram + q * RING_BYTES + i * 16u;

        put_le64(desc, gpa);
        put_le32(desc + 8, len);
        put_le16(desc + 12, flags);
        put_le16(desc + 14, (uint16_t)(i + 1));
}

/* Four buffers and an indirect one to receive; two frames of one piece and of two to send;
 * an order. */
static void good_ram(uint8_t *ram)
{
        enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };

        for (unsigned i = 0; i < 4; i++)
                describe(ram, 0, i, 0x4000 + i * 0x400, 0x400, WRITE);
        describe(ram, 0, 4, 0x300, 32, INDIRECT);
        describe(ram, 3, 0, 0x1000, 0x800, WRITE | NEXT);
        describe(ram, 3, 1, 0x100000000, 0x800, WRITE);
        describe(ram, 1, 0, 0x340, 74, 0);
        describe(ram, 1, 1, 0x340, 12, NEXT);
        describe(ram, 1, 2, 0x400, 1500, 0);
        for (unsigned i = 5; i < RING_ENTRIES; i++) {
                describe(ram, 0, i, 0x4000 + i * 0x400, 0x400, WRITE);
                describe(ram, 1, i, 0x340, 74, 0);
        }
        describe(ram, 2, 0, 0x390, 8, NEXT);
        describe(ram, 2, 1, 0x3a0, 1, WRITE);
        for (unsigned q = 0; q < NET_KIT_QUEUES; q++) {
                uint8_t *avail = ram + q * RING_BYTES + AVAIL_AT;

                for (unsigned i = 0; i < RING_ENTRIES; i++)
                        put_le16(avail + 4 + 2 * i, (uint16_t)i);
        }
        put_le16(ram + AVAIL_AT + 2, 5);
        put_le16(ram + RING_BYTES + AVAIL_AT + 2, 2);
        put_le16(ram + 2 * RING_BYTES + AVAIL_AT + 2, 1);
        ram[0x340] = VIRTIO_NET_HDR_F_NEEDS_CSUM;
        put_le16(ram + 0x340 + 6, 34);
        put_le16(ram + 0x340 + 8, 16);
        ram[0x390] = 1;                 /* the address is to be 02:.. */
        ram[0x391] = 1;
        ram[0x392] = 2;
}

int main(int argc, char **argv)
{
        static const uint8_t script[SCRIPT_STEPS] = {
                FEED | 4 << 3, RUN, KICK_TX, KICK_CTRL, FEED | 7 << 3, RUN, HOLD, RUN,
                ADD | 1 << 3, KICK_TX, FEED | 6 << 3, FEED | 5 << 3, RUN, HOLD | 1 << 3, RUN,
                LINK, FEED | 3 << 3, RUN, LINK | 1 << 3, FEED | 3 << 3, ADD, KICK_RX, RUN,
                HOLD, FEED | 9 << 3, RUN, ADD | 2 << 3, KICK_CTRL, HOLD | 1 << 3, RUN, RUN, RUN,
        };
        static union {
                struct input in;
                uint8_t bytes[sizeof(struct input) + 0x440];
        } good = { .in = { .features = UINT64_MAX, .event_idx = 1, .indirect = 1,
                           .has_tap = 1 } };

        memcpy(good.in.script, script, sizeof(script));
        good_ram(good.in.ram);
        return mutate_main(argc, argv, good.bytes, sizeof(good));
}

#endif
