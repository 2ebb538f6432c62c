/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a saved network device goes on as the one it was, in another process or in the same,
 *   and a saved state that makes no sense is refused.
 * Method: as virtio-net-test.c; saved states go through JSON. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "tests/unit/expect.h"
#include "tests/unit/net-kit.h"
#include "tests/unit/suite.h"

#define UP VIRTIO_NET_S_LINK_UP
#define ANNOUNCE VIRTIO_NET_S_ANNOUNCE

static struct json_object *save(struct net_kit *k)
{
        uint8_t state[VIRTIO_STATE_BYTES_MAX];
        struct json_object *o = json_object_new_object();

        k->dev->class->capture(k->dev, state);
        CU_ASSERT_EQUAL(k->dev->class->encode(state, o, NULL), 0);
        return o;
}

static int load(struct net_kit *k, struct json_object *o, struct err *e)
{
        uint8_t state[VIRTIO_STATE_BYTES_MAX];
        int rc = k->dev->class->decode(o, state, e);

        return rc < 0 ? rc : k->dev->class->apply(k->dev, state, e);
}

/* What the guest set is there again in another process's device, and it announces itself. */
static void revert(void)
{
        struct net_kit a, b;
        int peer = net_kit_pair(&a, NET_KIT_MERGE | NET_KIT_ORDERS, 64, true), pair[2];

        net_kit_order(&a, 1, 1, net_kit_other_mac, 6);
        a.dev->class->drain(a.dev);

        AUTO_JSON *o = save(&a);

        CU_ASSERT_EQUAL(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
        net_kit_make(&b, &(struct net_kit_setup){ .tap = pair[0],
                                                  .features = NET_KIT_MERGE | NET_KIT_ORDERS });
        CU_ASSERT_EQUAL(load(&b, o, NULL), 0);

        /* saved again before it runs, it is the same */
        AUTO_JSON *again = save(&b);

        CU_ASSERT(json_object_equal(o, again));
        CU_ASSERT_EQUAL(net_kit_start(&b, NULL), 0);
        CU_ASSERT(net_kit_mac_is(&b, net_kit_other_mac));
        CU_ASSERT_EQUAL(net_kit_status(&b), UP | ANNOUNCE);
        net_kit_end(&b, pair[1]);

        /* into one that runs: a rollback */
        CU_ASSERT_EQUAL(virtio_net_set_mac(a.dev, net_kit_mac, NULL), 0);
        virtio_net_set_link(a.dev, false);
        CU_ASSERT_EQUAL(load(&a, o, NULL), 0);
        a.dev->class->resume(a.dev);
        CU_ASSERT(net_kit_mac_is(&a, net_kit_other_mac));
        CU_ASSERT_EQUAL(net_kit_status(&a), UP | ANNOUNCE);
        net_kit_end(&a, peer);
}

/* A device that no driver had started is one that none has. */
static void revert_unstarted(void)
{
        struct net_kit k;

        net_kit_make(&k, &(struct net_kit_setup){ .tap = -1, .features = NET_KIT_ORDERS });
        virtio_net_set_link(k.dev, false);

        AUTO_JSON *o = save(&k);

        CU_ASSERT_EQUAL(load(&k, o, NULL), 0);
        k.dev->features |= F(VIRTIO_NET_F_GUEST_CSUM);
        CU_ASSERT_EQUAL(net_kit_start(&k, NULL), 0);
        CU_ASSERT_EQUAL(net_kit_status(&k), 0);

        AUTO_JSON *later = save(&k);
        uint64_t offloads = 0;

        CU_ASSERT_EQUAL(json_take_u64(later, "offloads", UINT64_MAX, &offloads, NULL), 0);
        CU_ASSERT_EQUAL(offloads, F(VIRTIO_NET_F_GUEST_CSUM));
        net_kit_end(&k, -1);
}

/* A frame that waits for buffers at drain comes after resume, but not after apply. */
static void waiting_frame(void)
{
        struct net_kit k;
        int peer = net_kit_pair(&k, NET_KIT_MERGE, 64, true);

        for (unsigned reverted = 0; reverted < 2; reverted++) {
                net_kit_post(&k, 2, 24);
                net_kit_feed(peer, (uint8_t)(7 + reverted));
                CU_ASSERT(net_kit_settle(&k));
                k.dev->class->drain(k.dev);
                CU_ASSERT_EQUAL(k.dev->queue[0].s.next_avail, k.dev->queue[0].s.next_used);
                CU_ASSERT_EQUAL(net_kit_run(&k, 0), 0);
                if (reverted) {
                        AUTO_JSON *o = save(&k);

                        CU_ASSERT_EQUAL(load(&k, o, NULL), 0);
                }
                k.dev->class->resume(k.dev);
                for (unsigned q = 0; q < NET_KIT_QUEUES; q++)
                        k.dev->class->kick(k.dev, q);
                net_kit_post(&k, 2, 2048);
                net_kit_feed(peer, 20);
                CU_ASSERT(net_kit_settle(&k));
                if (!reverted)
                        CU_ASSERT_EQUAL(net_kit_comes(&k), 7);
                CU_ASSERT_EQUAL(net_kit_comes(&k), 20);
        }
        net_kit_end(&k, peer);
}

static void refused_states(void)
{
        static const struct {
                const char *name, *json, *says;
                int rc;
        } t[] = {
                { "good", "{\"mac\":\"525400123456\",\"link\":true,\"running\":true,"
                  "\"offloads\":0}", "", 0 },
                { "mac short", "{\"mac\":\"5254001234\",\"link\":true,\"running\":true,"
                  "\"offloads\":0}", "mac", -EBADMSG },
                { "mac of a group", "{\"mac\":\"535400123456\",\"link\":true,\"running\":true,"
                  "\"offloads\":0}", "mac", -EBADMSG },
                { "no link", "{\"mac\":\"525400123456\",\"running\":true,\"offloads\":0}", "link",
                  -EBADMSG },
                { "newer offload", "{\"mac\":\"525400123456\",\"link\":true,\"running\":true,"
                  "\"offloads\":1024}", "newer", -EBADMSG },
                { "tap cannot", "{\"mac\":\"525400123456\",\"link\":true,\"running\":true,"
                  "\"offloads\":130}", "net0: the guest uses the tap's offload csum", -ENOTSUP },
        };
        struct net_kit k;
        int peer = net_kit_pair(&k, 0, 64, true);

        CU_ASSERT_PTR_NULL(k.dev->class->feature_name(VIRTIO_NET_F_MAC));
        CU_ASSERT(strstr(k.dev->class->feature_name(VIRTIO_NET_F_GUEST_TSO6), "tso6") != NULL);
        for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
                AUTO_JSON *o = json_tokener_parse(t[i].json);
                struct err e = { 0 };

                EXPECT_EQUAL(t[i].name, load(&k, o, &e), t[i].rc);
                EXPECT_TRUE(t[i].name, strstr(e.text, t[i].says) != NULL);
        }
        net_kit_end(&k, peer);
}

static const CU_TestInfo cases[] = {
        { "a saved device goes on", revert },
        { "a device that had not started starts fresh", revert_unstarted },
        { "a frame that waits is the running guest's only", waiting_frame },
        { "states that are refused", refused_states },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("virtio-net-state", cases);
}
