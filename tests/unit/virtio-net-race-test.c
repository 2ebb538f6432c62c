/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: what the driver makes available in the last moment, just before it is asked for a kick
 *   again, is not overlooked; and of merged buffers the driver never finds only some.
 * Method: as virtio-net-test.c; the linker puts the driver into the device's calls of the
 *   queue (--wrap), where threads would have to meet by chance. */
#include <string.h>
#include <sys/socket.h>

#include "common/check.h"
#include "tests/unit/expect.h"
#include "tests/unit/net-kit.h"
#include "tests/unit/suite.h"

#define BYTES 60u

static const struct virtio_net_hdr_v1 plain;
static uint8_t frame[NET_KIT_FRAME_MAX];

/* The driver's turn inside the device's round; the wrapped calls know no context. */
static struct {
        struct net_kit *k;
        unsigned queue;                 /* whose */
        unsigned left;                  /* times that it does something */
        int partial;                    /* frames of which it found a part */
} driver;

bool __wrap_vq_kicks_on(struct virtqueue *q);
bool __real_vq_kicks_on(struct virtqueue *q);
void __wrap_vq_push(struct virtqueue *q, uint16_t head, uint32_t written);
void __real_vq_push(struct virtqueue *q, uint16_t head, uint32_t written);

bool __wrap_vq_kicks_on(struct virtqueue *q)
{
        static const struct vqguest_buf out = { 0x30000, 12 + BYTES, false };
        static const struct vqguest_buf in = { 0x32000, 2048, true };
        struct net_kit *k = driver.k;

        if (k && driver.left && q == &k->dev->queue[driver.queue]) {
                uint16_t head = vqguest_add(&k->guest[driver.queue],
                                            driver.queue ? &out : &in, 1);

                if (driver.queue == 0)
                        k->gpa[head] = in.gpa;
                driver.left--;
                /* a kick would come later than this; none is asked for */
                CU_ASSERT(!vqguest_wants_kick(&k->guest[driver.queue]));
        }
        return __real_vq_kicks_on(q);
}

void __wrap_vq_push(struct virtqueue *q, uint16_t head, uint32_t written)
{
        struct virtio_net_hdr_v1 h;

        __real_vq_push(q, head, written);
        if (driver.k && q == &driver.k->dev->queue[0])
                driver.partial += net_kit_receive(driver.k, &h, frame) < 0;
}

static void feed(int peer, size_t bytes)
{
        uint8_t data[12 + 4000] = { 0 };

        CU_ASSERT(send(peer, data, 12 + bytes, 0) == (ssize_t)(12 + bytes));
}

static unsigned received(struct net_kit *k)
{
        struct virtio_net_hdr_v1 h;
        unsigned n = 0;

        while (net_kit_receive(k, &h, frame) > 0)
                n++;
        return n;
}

/* Two buffers and three frames: the third buffer comes when the device gives up. */
static void in_last_moment(void)
{
        for (unsigned event_idx = 0; event_idx < 2; event_idx++) {
                struct net_kit k;
                int peer = net_kit_pair(&k, NET_KIT_MERGE, 64, event_idx);

                net_kit_post(&k, 2, 2048);
                for (unsigned i = 0; i < 4; i++)
                        feed(peer, BYTES);
                driver.k = &k;
                driver.queue = 0;
                driver.left = 1;
                CU_ASSERT(net_kit_settle(&k));
                driver.k = NULL;
                CU_ASSERT_EQUAL(driver.left, 0);
                CU_ASSERT_EQUAL(received(&k), 3);
                /* and kicks are on afterwards */
                net_kit_post(&k, 1, 2048);
                CU_ASSERT(net_kit_settle(&k));
                CU_ASSERT_EQUAL(received(&k), 1);
                net_kit_end(&k, peer);
        }
}

/* The same for a further buffer of one frame. */
static void merged_in_last_moment(void)
{
        for (unsigned event_idx = 0; event_idx < 2; event_idx++) {
                struct net_kit k;
                int peer = net_kit_pair(&k, NET_KIT_MERGE, 64, event_idx);

                net_kit_post(&k, 2, 1024);
                feed(peer, 3000);
                driver.k = &k;
                driver.queue = 0;
                driver.left = 1;
                CU_ASSERT(net_kit_settle(&k));
                CU_ASSERT_EQUAL(driver.left, 0);
                CU_ASSERT_EQUAL(received(&k), 1);
                CU_ASSERT_EQUAL(driver.partial, 0);
                driver.k = NULL;
                net_kit_end(&k, peer);
        }
}

static void out_last_moment(void)
{
        for (unsigned event_idx = 0; event_idx < 2; event_idx++) {
                struct net_kit k;
                int peer = net_kit_pair(&k, 0, 64, event_idx);
                static const struct vqguest_buf buf = { 0x30000, 12 + BYTES, false };

                vqguest_add(&k.guest[1], &buf, 1);
                vqguest_add(&k.guest[1], &buf, 1);
                driver.k = &k;
                driver.queue = 1;
                driver.left = 1;
                net_kit_kick(&k, 1);
                CU_ASSERT(net_kit_settle(&k));
                driver.k = NULL;
                CU_ASSERT_EQUAL(driver.left, 0);
                CU_ASSERT_EQUAL(net_kit_sent(&k), 3);
                net_kit_send(&k, &plain, frame, BYTES, 4096);
                CU_ASSERT_EQUAL(net_kit_sent(&k), 1);
                net_kit_end(&k, peer);
        }
}

static const CU_TestInfo cases[] = {
        { "a buffer that comes in the last moment", in_last_moment },
        { "one of several that a frame takes", merged_in_last_moment },
        { "a frame that is sent in the last moment", out_last_moment },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("virtio-net-race", cases);
}
