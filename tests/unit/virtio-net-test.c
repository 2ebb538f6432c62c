/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: frames reach the other side whole, once and in order; what the guest wrote wrong is
 *   dropped and counted, or breaks the device; and no wake-up is lost.
 * Method: the device's tap is one end of a socket pair (SOCK_SEQPACKET), the test has the
 *   other; a driver on the other side of the rings (net-kit.h) kicks only when asked to. All
 *   with event indices and without. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/check.h"
#include "tests/unit/expect.h"
#include "tests/unit/net-kit.h"
#include "tests/unit/store-ram.h"
#include "tests/unit/suite.h"
#include "vmm/virtio/net-header.h"

#define OUT (F(VIRTIO_NET_F_CSUM) | F(VIRTIO_NET_F_HOST_TSO4) | F(VIRTIO_NET_F_HOST_TSO6))

static uint8_t frame[NET_KIT_FRAME_MAX], got[NET_KIT_HEADER + NET_KIT_FRAME_MAX];

/* From the host's network; errno when it does not fit. */
static int feed(int peer, size_t bytes, unsigned seed)
{
        static uint8_t data[NET_KIT_HEADER + NET_KIT_FRAME_MAX];

        memset(data, 0, NET_KIT_HEADER);
        net_kit_fill(data + NET_KIT_HEADER, bytes, seed);
        return send(peer, data, NET_KIT_HEADER + bytes, 0) < 0 ? errno : 0;
}

/* The next frame that the driver sees is this one. */
static bool comes(struct net_kit *k, size_t bytes, unsigned seed)
{
        static const struct virtio_net_hdr_v1 none;
        struct virtio_net_hdr_v1 h;
        int n = net_kit_receive(k, &h, got);

        net_kit_fill(frame, bytes, seed);
        return n == (int)bytes && memcmp(got, frame, bytes) == 0 &&
               memcmp(&h, &none, offsetof(struct virtio_net_hdr_v1, num_buffers)) == 0;
}

/* The next frame on the host's network is this one. */
static bool went(int peer, const struct virtio_net_hdr_v1 *h, size_t bytes, unsigned seed)
{
        ssize_t n = recv(peer, got, sizeof(got), 0);

        net_kit_fill(frame, bytes, seed);
        return n == (ssize_t)(NET_KIT_HEADER + bytes) && memcmp(got, h, NET_KIT_HEADER) == 0 &&
               memcmp(got + NET_KIT_HEADER, frame, bytes) == 0;
}

static const struct virtio_net_hdr_v1 plain;

static void send_seed(struct net_kit *k, size_t bytes, size_t piece_bytes, unsigned seed)
{
        net_kit_fill(frame, bytes, seed);
        net_kit_send(k, &plain, frame, bytes, piece_bytes);
}

/* ---- from the guest ---- */

static void out_pieces(void)
{
        static const struct {
                const char *name;
                size_t bytes, piece_bytes;
        } t[] = {
                { "one piece", 100, 4096 },
                { "the smallest frame", 14, 4096 },
                { "header alone in its piece", 1500, 12 },
                { "header cut in two", 600, 7 },
                { "a byte each", 60, 1 },
                { "header and the frame's first byte", 1200, 13 },
                { "the largest frame", NET_FRAME_BYTES_MAX, 4096 },
        };

        for (unsigned event_idx = 0; event_idx < 2; event_idx++) {
                struct net_kit k;
                int peer = net_kit_pair(&k, OUT, 256, event_idx);

                for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
                        send_seed(&k, t[i].bytes, t[i].piece_bytes, (unsigned)i);
                        EXPECT_TRUE(t[i].name, net_kit_settle(&k));
                        EXPECT_EQUAL(t[i].name, net_kit_sent(&k), 1);
                        EXPECT_TRUE(t[i].name, went(peer, &plain, t[i].bytes, (unsigned)i));
                }
                CU_ASSERT_EQUAL(net_kit_stats(&k).tx_packets, ARRAY_SIZE(t));
                CU_ASSERT_EQUAL(net_kit_stats(&k).tx_malformed, 0);
                net_kit_end(&k, peer);
        }
}

static void out_length(void)
{
        static const size_t wrong[] = { 1, 11, 12, 12 + 13, 12 + NET_FRAME_BYTES_MAX + 1 };
        struct net_kit k;
        int peer = net_kit_pair(&k, OUT, 64, true);

        memset(frame, 0, sizeof(frame));
        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                net_kit_send_raw(&k, frame, wrong[i], 4096);
                EXPECT_EQUAL("length", net_kit_sent(&k), 1);
                EXPECT_EQUAL("length", net_kit_stats(&k).tx_malformed, i + 1);
                EXPECT_EQUAL("length", recv(peer, got, sizeof(got), 0), -1);
        }

        /* a piece that the device may write to */
        struct vqguest_buf buf[] = { { 0x40000, 100, false }, { 0x41000, 100, true } };

        vqguest_add(&k.guest[1], buf, 2);
        net_kit_kick(&k, 1);
        CU_ASSERT_EQUAL(net_kit_sent(&k), 1);
        CU_ASSERT_EQUAL(net_kit_stats(&k).tx_malformed, ARRAY_SIZE(wrong) + 1);
        CU_ASSERT_EQUAL(k.slot.broken, 0);
        send_seed(&k, 100, 4096, 1);
        CU_ASSERT(went(peer, &plain, 100, 1));
        net_kit_end(&k, peer);
}

/* What the tap sees is our copy of the header, without what means nothing. */
static void out_header(void)
{
        static const struct virtio_net_hdr_v1 tso = {
                .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
                .hdr_len = 54, .gso_size = 1000, .csum_start = 34, .csum_offset = 16,
        };
        struct virtio_net_hdr_v1 odd = tso;
        struct net_kit k;
        int peer = net_kit_pair(&k, OUT, 256, true);

        odd.flags |= VIRTIO_NET_HDR_F_DATA_VALID | 0x40;
        odd.num_buffers = 77;
        net_kit_fill(frame, 3000, 5);
        net_kit_send(&k, &odd, frame, 3000, 31);
        CU_ASSERT(went(peer, &tso, 3000, 5));
        odd.csum_offset = 3000 - 34 - 1;
        net_kit_send(&k, &odd, frame, 3000, 100);
        CU_ASSERT_EQUAL(recv(peer, got, sizeof(got), 0), -1);
        CU_ASSERT_EQUAL(net_kit_stats(&k).tx_malformed, 1);
        CU_ASSERT_EQUAL(net_kit_sent(&k), 2);
        net_kit_end(&k, peer);
}

/* Frames wait in the ring while the tap is full, and go in order. */
static void out_full(void)
{
        enum { BYTES = 9000, FRAMES = 200 };

        for (unsigned event_idx = 0; event_idx < 2; event_idx++) {
                struct net_kit k;
                int peer = net_kit_pair(&k, OUT, 256, event_idx);
                unsigned arrived = 0, broken_order = 0;

                for (unsigned i = 0; i < FRAMES; i++)
                        send_seed(&k, BYTES, BYTES + NET_KIT_HEADER, i);
                CU_ASSERT(net_kit_stats(&k).tx_waits > 0);
                CU_ASSERT_EQUAL(net_kit_run(&k, 0), 0);
                CU_ASSERT(net_kit_watches(&k, k.loop.watch[1].fd, POLLOUT));
                for (unsigned i = 0; i < 10 * FRAMES && arrived < FRAMES; i++) {
                        if (poll(&(struct pollfd){ .fd = peer, .events = POLLIN }, 1, 0) == 1)
                                broken_order += !went(peer, &plain, BYTES, arrived++);
                        net_kit_run(&k, 0);
                }
                CU_ASSERT_EQUAL(arrived, FRAMES);
                CU_ASSERT_EQUAL(broken_order, 0);
                CU_ASSERT_EQUAL(net_kit_sent(&k), FRAMES);
                CU_ASSERT_EQUAL(net_kit_stats(&k).tx_packets, FRAMES);
                CU_ASSERT(!net_kit_watches(&k, k.loop.watch[1].fd, POLLOUT));
                net_kit_end(&k, peer);
        }
}

/* A round ends although there is more, and goes on without a kick. */
static void out_rounds(void)
{
        struct net_kit k;
        struct vqguest_buf buf = { 0x40000, 100, false };
        int peer = net_kit_pair(&k, OUT, 256, true);

        for (unsigned i = 0; i < 200; i++)
                vqguest_add(&k.guest[1], &buf, 1);
        net_kit_kick(&k, 1);
        CU_ASSERT_EQUAL(net_kit_sent(&k), 64);
        CU_ASSERT_EQUAL(k.slot.signals[1], 1);
        CU_ASSERT(net_kit_settle(&k));
        CU_ASSERT_EQUAL(net_kit_sent(&k), 136);
        net_kit_end(&k, peer);
}

static void out_broken(void)
{
        struct net_kit k;
        int peer = net_kit_pair(&k, OUT | NET_KIT_MERGE, 256, true);
        struct vqguest_buf buf[VQ_IOV_MAX + 1];

        net_kit_post(&k, 4, 2048);
        for (unsigned i = 0; i < ARRAY_SIZE(buf); i++)
                buf[i] = (struct vqguest_buf){ 0x40000 + i * 16, 16, false };
        vqguest_add(&k.guest[1], buf, ARRAY_SIZE(buf));
        net_kit_kick(&k, 1);
        CU_ASSERT_EQUAL(k.slot.broken, 1);
        CU_ASSERT(strstr(k.slot.why, "pieces") != NULL);

        /* nothing of it is served until it is reset */
        feed(peer, 100, 1);
        CU_ASSERT_EQUAL(net_kit_run(&k, 0), 0);
        for (unsigned i = 0; i < NET_KIT_QUEUES; i++)
                k.dev->class->kick(k.dev, i);
        CU_ASSERT_EQUAL(net_kit_run(&k, 0), 0);
        CU_ASSERT_EQUAL(k.slot.broken, 1);
        net_kit_end(&k, peer);
}

/* ---- to the guest ---- */

static void in_merged(void)
{
        static const struct {
                const char *name;
                size_t bytes;
                uint32_t buffer_bytes;
                unsigned buffers;
        } t[] = {
                { "one buffer", 100, 2048, 1 },
                { "fits exactly", 2036, 2048, 1 },
                { "a byte more", 2037, 2048, 2 },
                { "header alone", 24, 12, 3 },
                { "the largest frame", NET_FRAME_BYTES_MAX, 2048, 33 },
        };

        for (unsigned event_idx = 0; event_idx < 2; event_idx++) {
                for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
                        struct net_kit k;
                        int peer = net_kit_pair(&k, NET_KIT_MERGE, 256, event_idx);
                        unsigned before;

                        feed(peer, t[i].bytes, 7);
                        CU_ASSERT(!net_kit_watches(&k, k.loop.watch[1].fd, POLLIN));
                        net_kit_post(&k, t[i].buffers - 1, t[i].buffer_bytes);
                        net_kit_settle(&k);
                        before = k.slot.signals[0];
                        EXPECT_TRUE(t[i].name, !comes(&k, t[i].bytes, 7));
                        net_kit_post(&k, 1, t[i].buffer_bytes);
                        net_kit_settle(&k);
                        EXPECT_TRUE(t[i].name, comes(&k, t[i].bytes, 7));
                        EXPECT_EQUAL(t[i].name, k.slot.signals[0], before + 1);
                        EXPECT_EQUAL(t[i].name, net_kit_stats(&k).rx_bytes, t[i].bytes);
                        EXPECT_EQUAL(t[i].name, k.guest[0].used_idx, t[i].buffers);
                        net_kit_end(&k, peer);
                }
        }
}

static void in_batch(void)
{
        struct net_kit k;
        int peer = net_kit_pair(&k, NET_KIT_MERGE, 256, true);

        net_kit_post(&k, 200, 2048);
        CU_ASSERT_EQUAL(net_kit_run(&k, 0), 0);
        for (unsigned i = 0; i < 100; i++)
                CU_ASSERT_EQUAL(feed(peer, 60 + i, i), 0);
        CU_ASSERT(net_kit_run(&k, 0) > 0);
        CU_ASSERT_EQUAL(net_kit_stats(&k).rx_packets, 64);
        CU_ASSERT_EQUAL(k.slot.signals[0], 1);
        CU_ASSERT(net_kit_settle(&k));
        for (unsigned i = 0; i < 100; i++)
                CU_ASSERT(comes(&k, 60 + i, i));
        CU_ASSERT_EQUAL(net_kit_stats(&k).rx_dropped, 0);
        net_kit_end(&k, peer);
}

static void in_dropped(void)
{
        static const struct {
                const char *name;
                uint64_t features;
                uint16_t ring_size;
                uint32_t buffer_bytes;
                size_t bytes;
        } t[] = {
                { "no merging: larger than a buffer", 0, 64, 1526, 1515 },
                { "larger than all of the ring", NET_KIT_MERGE, 4, 500, 2000 },
                { "larger than any frame", NET_KIT_MERGE, 64, 4096, NET_FRAME_BYTES_MAX + 1 },
                { "shorter than a frame", NET_KIT_MERGE, 64, 2048, 13 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
                struct net_kit k;
                int peer = net_kit_pair(&k, t[i].features, t[i].ring_size, true);

                net_kit_post(&k, t[i].ring_size, t[i].buffer_bytes);
                EXPECT_EQUAL(t[i].name, feed(peer, t[i].bytes, 1), 0);
                EXPECT_EQUAL(t[i].name, feed(peer, 80, 2), 0);
                EXPECT_TRUE(t[i].name, net_kit_settle(&k));
                EXPECT_EQUAL(t[i].name, net_kit_stats(&k).rx_dropped, 1);
                EXPECT_TRUE(t[i].name, comes(&k, 80, 2));
                EXPECT_EQUAL(t[i].name, k.guest[0].used_idx, 1);
                net_kit_end(&k, peer);
        }
}

static void in_bad_buffer(void)
{
        static const struct vqguest_buf small = { 0x40000, 11, true };
        static const struct vqguest_buf mixed[] = { { 0x40000, 64, false },
                                                    { 0x41000, 2048, true } };
        struct net_kit k;
        int peer = net_kit_pair(&k, NET_KIT_MERGE, 64, true);

        vqguest_add(&k.guest[0], &small, 1);
        net_kit_kick(&k, 0);
        CU_ASSERT_EQUAL(k.slot.broken, 1);
        CU_ASSERT(strstr(k.slot.why, "header") != NULL);
        net_kit_end(&k, peer);

        peer = net_kit_pair(&k, 0, 64, true);
        vqguest_add(&k.guest[0], mixed, 2);
        net_kit_kick(&k, 0);
        CU_ASSERT_EQUAL(k.slot.broken, 1);
        net_kit_end(&k, peer);
}

/* ---- all at once ---- */

/* One step of whoever may have a turn; what goes in and comes out is counted in c. */
struct model {
        struct net_kit k;
        int peer;
        unsigned fed, came, sent, went, wrong;
        uint64_t random;
};

static size_t size_of(unsigned i)
{
        return 14 + (i * 2654435761u >> 8) % (i % 7 ? 1500 : 20000);
}

static void model_step(struct model *m)
{
        switch (store_random(&m->random) % 6) {
        case 0:
                if (m->k.guest[0].nfree > 8)
                        net_kit_post(&m->k, 1 + store_random(&m->random) % 8, 2048);
                break;
        case 1:
                if (feed(m->peer, size_of(m->fed), m->fed) == 0)
                        m->fed++;
                break;
        case 2:
                while (m->came < m->fed && comes(&m->k, size_of(m->came), m->came))
                        m->came++;
                break;
        case 3:
                if (m->k.guest[1].nfree > 12) {
                        send_seed(&m->k, size_of(m->sent), 2048, m->sent);
                        m->sent++;
                }
                m->wrong += net_kit_sent(&m->k) < 0;
                break;
        case 4:
                if (m->went < m->sent && went(m->peer, &plain, size_of(m->went), m->went))
                        m->went++;
                break;
        default:
                net_kit_run(&m->k, 0);
        }
}

static void model(bool event_idx)
{
        static struct model m;

        m = (struct model){ .random = 4711 + event_idx };
        m.peer = net_kit_pair(&m.k, NET_KIT_MERGE | OUT, 64, event_idx);
        for (unsigned i = 0; i < 60000; i++) {
                model_step(&m);
                if (i % 1000 == 0) {
                        m.k.dev->class->drain(m.k.dev);
                        m.fed += feed(m.peer, size_of(m.fed), m.fed) == 0;
                        CU_ASSERT_EQUAL(net_kit_run(&m.k, 0), 0);
                        CU_ASSERT_EQUAL(m.k.dev->queue[0].s.next_avail,
                                        m.k.dev->queue[0].s.next_used);
                        m.k.dev->class->resume(m.k.dev);
                        for (unsigned q = 0; q < NET_KIT_QUEUES; q++)
                                m.k.dev->class->kick(m.k.dev, q);
                }
        }
        /* what is under way arrives without any kick that was not asked for */
        for (unsigned i = 0; i < 10000 && (m.came < m.fed || m.went < m.sent); i++) {
                net_kit_run(&m.k, 0);
                while (m.came < m.fed && comes(&m.k, size_of(m.came), m.came))
                        m.came++;
                while (m.went < m.sent && went(m.peer, &plain, size_of(m.went), m.went))
                        m.went++;
                if (m.k.guest[0].nfree > 8)
                        net_kit_post(&m.k, 8, 2048);
        }
        CU_ASSERT(m.fed > 1000 && m.sent > 1000);
        CU_ASSERT_EQUAL(m.came, m.fed);
        CU_ASSERT_EQUAL(m.went, m.sent);
        CU_ASSERT_EQUAL(m.wrong, 0);
        CU_ASSERT_EQUAL(net_kit_stats(&m.k).rx_dropped + net_kit_stats(&m.k).tx_dropped, 0);
        net_kit_end(&m.k, m.peer);
}

static void model_plain(void)
{
        model(false);
}

static void model_event_idx(void)
{
        model(true);
}

static const CU_TestInfo cases[] = {
        { "a frame goes out as it is, however it is cut", out_pieces },
        { "frames of wrong lengths are dropped", out_length },
        { "the tap sees a header that was checked", out_header },
        { "a full tap keeps frames waiting, in order", out_full },
        { "a round of sending ends, and goes on", out_rounds },
        { "a broken ring stops the device", out_broken },
        { "a frame comes in as many buffers as it takes", in_merged },
        { "a batch has one interrupt", in_batch },
        { "what does not fit is dropped, what follows comes", in_dropped },
        { "a buffer without room for a header breaks the device", in_bad_buffer },
        { "nothing is lost, doubled or reordered", model_plain },
        { "nor with event indices", model_event_idx },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("virtio-net", cases);
}
