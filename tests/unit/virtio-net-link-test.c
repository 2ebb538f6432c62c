/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: configuration, orders and link of a network device: what the guest is told, and what
 *   it may change.
 * Method: as virtio-net-test.c; a thread does what any thread may while frames are moved (for
 *   TSan). */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/check.h"
#include "tests/unit/expect.h"
#include "tests/unit/net-kit.h"
#include "tests/unit/suite.h"

#define UP VIRTIO_NET_S_LINK_UP
#define ANNOUNCE VIRTIO_NET_S_ANNOUNCE

static void send_one(struct net_kit *k)
{
        static const struct virtio_net_hdr_v1 plain;
        uint8_t frame[60] = { 0 };

        net_kit_send(k, &plain, frame, sizeof(frame), sizeof(frame));
        CU_ASSERT(net_kit_settle(k));
        CU_ASSERT_EQUAL(net_kit_sent(k), 1);
}

/* ---- making ---- */

static void offered(void) NO_TSA
{
        const struct virtio_net_options none = { .name = "net1", .mac = { 2 }, .tap = -1 };
        uint64_t always = NET_KIT_MERGE | F(VIRTIO_NET_F_MAC) | F(VIRTIO_NET_F_STATUS) |
                          F(VIRTIO_NET_F_CSUM) | F(VIRTIO_NET_F_HOST_TSO4) |
                          F(VIRTIO_NET_F_CTRL_VQ) | F(VIRTIO_NET_F_GUEST_ANNOUNCE);
        uint64_t in = F(VIRTIO_NET_F_GUEST_CSUM) | F(VIRTIO_NET_F_GUEST_TSO4) |
                      F(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
        struct virtio_device *dev;
        struct net_kit k;
        int peer = net_kit_pair(&k, 0, 64, true);

        CU_ASSERT_EQUAL(k.dev->host_features & always, always);
        CU_ASSERT_EQUAL(k.dev->host_features & in, 0);
        CU_ASSERT_EQUAL(k.dev->host_features & ~k.dev->class->features, 0);
        CU_ASSERT(net_kit_mac_is(&k, net_kit_mac));
        CU_ASSERT_EQUAL(net_kit_status(&k), UP);
        net_kit_end(&k, peer);

        CU_ASSERT_EQUAL(virtio_net_new(&none, &dev, NULL), 0);
        CU_ASSERT_EQUAL(dev->host_features & (always | in), always | in);
        CU_ASSERT_EQUAL(dev->config[6], 0);
        dev->class->free(dev);
}

static void bad_mac(void)
{
        static const uint8_t bad[][VIRTIO_NET_MAC_BYTES] = {
                { 0 }, { 1, 2, 3, 4, 5, 6 }, { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff },
        };
        unsigned fds = expect_open_fds();
        struct net_kit k;
        int peer = net_kit_pair(&k, NET_KIT_ORDERS, 64, true);

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                struct virtio_net_options o = { .name = "net9", .tap = dup(peer) };
                struct virtio_device *dev;
                struct err e;

                memcpy(o.mac, bad[i], sizeof(o.mac));
                CU_ASSERT_EQUAL(virtio_net_new(&o, &dev, &e), -EINVAL);
                CU_ASSERT(strstr(e.text, "net9") && strstr(e.text, "52:54"));
                CU_ASSERT_EQUAL(virtio_net_set_mac(k.dev, bad[i], &e), -EINVAL);
                CU_ASSERT_EQUAL(net_kit_order(&k, 1, 1, bad[i], 6), VIRTIO_NET_ERR);
        }
        CU_ASSERT(net_kit_mac_is(&k, net_kit_mac));
        net_kit_end(&k, peer);
        CU_ASSERT_EQUAL(expect_open_fds(), fds);
}

/* ---- orders ---- */

static void orders(void)
{
        static const uint64_t zero, csum = F(VIRTIO_NET_F_GUEST_CSUM), unknown = 1ull << 40;
        static const struct {
                const char *name;
                uint64_t features;
                uint8_t class, cmd;
                const void *data;
                size_t bytes;
                int answer;
        } t[] = {
                { "mac", NET_KIT_ORDERS, 1, 1, net_kit_other_mac, 6, VIRTIO_NET_OK },
                { "mac: short", NET_KIT_ORDERS, 1, 1, net_kit_other_mac, 5, VIRTIO_NET_ERR },
                { "mac: long", NET_KIT_ORDERS, 1, 1, &csum, 7, VIRTIO_NET_ERR },
                { "mac: not negotiated", 0, 1, 1, net_kit_other_mac, 6, VIRTIO_NET_ERR },
                { "ack", NET_KIT_ORDERS, 3, 0, NULL, 0, VIRTIO_NET_OK },
                { "ack with something", NET_KIT_ORDERS, 3, 0, &zero, 1, VIRTIO_NET_ERR },
                { "ack: not negotiated", 0, 3, 0, NULL, 0, VIRTIO_NET_ERR },
                { "offloads: none", NET_KIT_ORDERS, 5, 0, &zero, 8, VIRTIO_NET_OK },
                { "offloads: not negotiated", NET_KIT_ORDERS, 5, 0, &csum, 8, VIRTIO_NET_ERR },
                { "offloads: unknown", NET_KIT_ORDERS, 5, 0, &unknown, 8, VIRTIO_NET_ERR },
                { "offloads: no such order", 0, 5, 0, &zero, 8, VIRTIO_NET_ERR },
                { "offloads: short", NET_KIT_ORDERS, 5, 0, &zero, 7, VIRTIO_NET_ERR },
                { "promiscuous", NET_KIT_ORDERS, 0, 0, &zero, 1, VIRTIO_NET_ERR },
                { "no such class", NET_KIT_ORDERS, 77, 0, NULL, 0, VIRTIO_NET_ERR },
        };

        for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
                struct net_kit k;
                int peer = net_kit_pair(&k, t[i].features, 64, true);

                EXPECT_EQUAL(t[i].name, net_kit_order(&k, t[i].class, t[i].cmd, t[i].data,
                                                      t[i].bytes), t[i].answer);
                EXPECT_EQUAL(t[i].name, net_kit_stats(&k).control_refused,
                             t[i].answer != VIRTIO_NET_OK);
                EXPECT_EQUAL(t[i].name, net_kit_mac_is(&k, net_kit_mac), i != 0);
                EXPECT_EQUAL(t[i].name, k.slot.signals[2], 1);
                /* and the next one is heard as well */
                EXPECT_EQUAL(t[i].name, net_kit_order(&k, 99, 9, NULL, 0), VIRTIO_NET_ERR);
                net_kit_end(&k, peer);
        }
}

/* An address that a driver sets is its own: the next one begins with the device's. */
static void reset_forgets(void)
{
        struct net_kit k;
        int peer = net_kit_pair(&k, NET_KIT_ORDERS, 64, true);

        CU_ASSERT_EQUAL(net_kit_order(&k, 1, 1, net_kit_other_mac, 6), VIRTIO_NET_OK);
        CU_ASSERT(net_kit_mac_is(&k, net_kit_other_mac));
        k.dev->class->drain(k.dev);
        k.dev->class->stop(k.dev);
        CU_ASSERT(net_kit_mac_is(&k, net_kit_mac));
        CU_ASSERT_EQUAL(virtio_net_set_mac(k.dev, net_kit_other_mac, NULL), 0);
        CU_ASSERT_EQUAL(net_kit_start(&k, NULL), 0);
        k.dev->class->drain(k.dev);
        k.dev->class->stop(k.dev);
        CU_ASSERT(net_kit_mac_is(&k, net_kit_other_mac));
        CU_ASSERT_EQUAL(net_kit_start(&k, NULL), 0);
        net_kit_end(&k, peer);
}

/* Requests without anything to read, or without room for an answer. */
static void orders_malformed(void)
{
        static const struct vqguest_buf answer_only = { 0x40000, 1, true };
        static const struct vqguest_buf order_only = { 0x40000, 2, false };
        static const struct vqguest_buf long_order[] = { { 0x40000, 4096, false },
                                                         { 0x42000, 4096, true } };
        struct net_kit k;
        int peer = net_kit_pair(&k, NET_KIT_ORDERS, 64, true);
        uint32_t written;
        uint16_t head;

        vqguest_add(&k.guest[2], &answer_only, 1);
        vqguest_add(&k.guest[2], &order_only, 1);
        vqguest_add(&k.guest[2], long_order, 2);
        net_kit_kick(&k, 2);
        CU_ASSERT(vqguest_used(&k.guest[2], &head, &written) && written == 1);
        CU_ASSERT(vqguest_used(&k.guest[2], &head, &written) && written == 0);
        CU_ASSERT(vqguest_used(&k.guest[2], &head, &written) && written == 1);
        CU_ASSERT_EQUAL(net_kit_stats(&k).control_refused, 3);
        CU_ASSERT_EQUAL(k.slot.broken, 0);

        /* more than a round takes: all are answered */
        for (unsigned i = 0; i < 40; i++)
                vqguest_add(&k.guest[2], &answer_only, 1);
        net_kit_kick(&k, 2);
        CU_ASSERT(net_kit_settle(&k));
        CU_ASSERT_EQUAL(net_kit_stats(&k).control_refused, 43);
        net_kit_end(&k, peer);
}

/* ---- link and announcement ---- */

static void link_down(void)
{
        struct net_kit k;
        int peer = net_kit_pair(&k, NET_KIT_MERGE, 64, true);

        net_kit_post(&k, 8, 2048);
        virtio_net_set_link(k.dev, false);
        CU_ASSERT_EQUAL(net_kit_status(&k), 0);
        CU_ASSERT(!net_kit_stats(&k).link_up);
        net_kit_feed(peer, 1);
        CU_ASSERT(net_kit_settle(&k));
        send_one(&k);
        CU_ASSERT_EQUAL(net_kit_stats(&k).rx_dropped, 1);
        CU_ASSERT_EQUAL(net_kit_stats(&k).tx_dropped, 1);

        virtio_net_set_link(k.dev, true);
        CU_ASSERT_EQUAL(net_kit_status(&k), UP);
        CU_ASSERT_EQUAL(k.slot.config_changes, 2);
        virtio_net_set_link(k.dev, true);
        CU_ASSERT_EQUAL(k.slot.config_changes, 2);
        net_kit_feed(peer, 2);
        CU_ASSERT(net_kit_settle(&k));
        CU_ASSERT_EQUAL(net_kit_comes(&k), 2);
        send_one(&k);
        CU_ASSERT_EQUAL(net_kit_stats(&k).tx_packets, 1);
        net_kit_end(&k, peer);
}

static void no_tap(void)
{
        struct net_kit k;

        net_kit_init(&k, &(struct net_kit_setup){ .tap = -1, .features = NET_KIT_MERGE });
        CU_ASSERT_EQUAL(net_kit_status(&k), 0);
        virtio_net_set_link(k.dev, false);
        virtio_net_set_link(k.dev, true);
        CU_ASSERT_EQUAL(net_kit_status(&k), 0);
        net_kit_post(&k, 8, 2048);
        send_one(&k);
        CU_ASSERT_EQUAL(net_kit_stats(&k).tx_dropped, 1);
        CU_ASSERT_EQUAL(net_kit_run(&k, 0), 0);
        net_kit_end(&k, -1);
}

/* The other end goes away: nothing spins, the guest sees it. */
static void tap_lost(void)
{
        struct net_kit k;
        int peer = net_kit_pair(&k, NET_KIT_MERGE, 64, true);

        net_kit_post(&k, 8, 2048);
        close(peer);
        CU_ASSERT(net_kit_settle(&k));
        CU_ASSERT_EQUAL(net_kit_status(&k), 0);
        CU_ASSERT(net_kit_stats(&k).tap_error < 0);
        virtio_net_set_link(k.dev, false);
        virtio_net_set_link(k.dev, true);
        CU_ASSERT_EQUAL(net_kit_status(&k), 0);
        send_one(&k);
        CU_ASSERT_EQUAL(net_kit_stats(&k).tx_dropped, 1);
        CU_ASSERT_EQUAL(k.slot.broken, 0);

        /* a driver that starts again is served, without frames */
        k.dev->class->drain(k.dev);
        k.dev->class->stop(k.dev);
        CU_ASSERT_EQUAL(net_kit_start(&k, NULL), 0);
        CU_ASSERT_EQUAL(net_kit_run(&k, 0), 0);
        net_kit_end(&k, -1);
}

static void announcement(void)
{
        struct net_kit k;
        int peer = net_kit_pair(&k, NET_KIT_ORDERS, 64, true);

        CU_ASSERT(virtio_net_announce(k.dev));
        CU_ASSERT_EQUAL(net_kit_status(&k), UP | ANNOUNCE);
        CU_ASSERT_EQUAL(k.slot.config_changes, 1);
        CU_ASSERT_EQUAL(net_kit_order(&k, 3, 0, NULL, 0), VIRTIO_NET_OK);
        CU_ASSERT_EQUAL(net_kit_status(&k), UP);

        /* a driver that resets the device has forgotten it */
        CU_ASSERT(virtio_net_announce(k.dev));
        k.dev->class->drain(k.dev);
        k.dev->class->stop(k.dev);
        CU_ASSERT_EQUAL(net_kit_status(&k), UP);
        CU_ASSERT(!virtio_net_announce(k.dev));
        k.dev->features = 0;
        CU_ASSERT_EQUAL(net_kit_start(&k, NULL), 0);
        CU_ASSERT(!virtio_net_announce(k.dev));
        CU_ASSERT_EQUAL(net_kit_status(&k), UP);
        net_kit_end(&k, peer);
}

/* ---- threads ---- */

static void *meddle(void *arg)
{
        struct net_kit *k = arg;
        struct virtio_net_stats s;

        for (unsigned i = 0; i < 2000; i++) {
                virtio_net_set_link(k->dev, i % 2);
                virtio_net_announce(k->dev);
                virtio_net_set_mac(k->dev, i % 2 ? net_kit_mac : net_kit_other_mac, NULL);
                virtio_net_stats(k->dev, &s);
        }
        return NULL;
}

static void threads(void)
{
        struct net_kit k;
        int peer = net_kit_pair(&k, NET_KIT_MERGE | NET_KIT_ORDERS, 64, true);
        uint8_t drop[128];
        pthread_t t;

        ASSERT(pthread_create(&t, NULL, meddle, &k) == 0);
        for (unsigned i = 0; i < 2000; i++) {
                if (k.guest[0].nfree)
                        net_kit_post(&k, 1, 2048);
                net_kit_feed(peer, 1);
                send_one(&k);
                net_kit_order(&k, 3, 0, NULL, 0);
                while (net_kit_comes(&k))
                        ;
                while (recv(peer, drop, sizeof(drop), 0) > 0)
                        ;
        }
        pthread_join(t, NULL);
        CU_ASSERT(net_kit_settle(&k));

        struct virtio_net_stats s = net_kit_stats(&k);

        CU_ASSERT_EQUAL(s.rx_packets + s.rx_dropped, 2000);
        CU_ASSERT_EQUAL(s.tx_packets + s.tx_dropped, 2000);
        CU_ASSERT_EQUAL(net_kit_status(&k) & UP, UP);
        net_kit_end(&k, peer);
}

static const CU_TestInfo cases[] = {
        { "what the tap can is offered", offered },
        { "addresses that are none are refused", bad_mac },
        { "orders and their answers", orders },
        { "a reset forgets a driver's address", reset_forgets },
        { "malformed orders have answers too", orders_malformed },
        { "frames are dropped while the link is down", link_down },
        { "a device without a tap", no_tap },
        { "a tap that goes away", tap_lost },
        { "the guest is asked to announce itself", announcement },
        { "other threads meanwhile", threads },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("virtio-net-link", cases);
}
