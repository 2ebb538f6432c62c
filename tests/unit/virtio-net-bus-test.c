/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: on the real bus, with its thread, frames pass whole, once and in order while the device
 *   is held, saved and put back at any moment; of what comes, only a frame that waited for
 *   buffers may be lost, and only when a state is put back.
 * Method: a driver that writes registers (the bus is without KVM) and rings; the tap is a socket.
 *   Also under TSan. */
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_net.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/json.h"
#include "tests/unit/store-ram.h"
#include "tests/unit/suite.h"
#include "tests/unit/vqguest.h"
#include "vmm/starter.h"
#include "vmm/virtio/bus.h"
#include "vmm/virtio/net.h"

#define QUEUES 3
#define RING_SIZE 64
#define RING_STRIDE 0x4000u
#define BUFFERS_GPA 0x10000u
#define BUFFER_BYTES 1024u
#define BUFFERS 256u
#define HEADER 12u
#define FRAME 200u
#define STEPS 20000u
#define PATIENCE_NS (20 * NS_PER_SEC)

enum { RX, TX };

struct guest {
        struct ram ram;
        struct virtio_bus *bus;
        struct starter *starter;        /* its thread is confined as in a VM */
        struct virtio_device *dev;
        struct vqguest ring[QUEUES];
        int peer;
        uint64_t random;
        unsigned next_buffer[2];        /* of each direction */
        uint64_t gpa[RING_SIZE];
        uint32_t fed, came, skipped, sent, went, wrong;
};

static void put(struct guest *g, uint32_t reg, uint32_t v)
{
        virtio_bus_mmio(g->bus, virtio_window_gpa(0) + reg, &v, sizeof(v), true);
}

static uint32_t get(struct guest *g, uint32_t reg)
{
        uint32_t v = 0;

        virtio_bus_mmio(g->bus, virtio_window_gpa(0) + reg, &v, sizeof(v), false);
        return v;
}

static void set_queue(struct guest *g, unsigned q)
{
        struct virtqueue look;

        vqguest_init_event_idx(&g->ring[q], &g->ram, q * RING_STRIDE, RING_SIZE, &look);
        put(g, VIRTIO_MMIO_QUEUE_SEL, q);
        put(g, VIRTIO_MMIO_QUEUE_NUM, RING_SIZE);
        put(g, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)look.s.desc_gpa);
        put(g, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)look.s.avail_gpa);
        put(g, VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)look.s.used_gpa);
        put(g, VIRTIO_MMIO_QUEUE_READY, 1);
}

static void drive(struct guest *g)
{
        uint32_t low = 1u << VIRTIO_RING_F_EVENT_IDX | 1u << VIRTIO_NET_F_MRG_RXBUF |
                       1u << VIRTIO_NET_F_CTRL_VQ | 1u << VIRTIO_NET_F_GUEST_ANNOUNCE;

        put(g, VIRTIO_MMIO_STATUS, 3);
        put(g, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
        put(g, VIRTIO_MMIO_DRIVER_FEATURES, low);
        put(g, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
        put(g, VIRTIO_MMIO_DRIVER_FEATURES, 1);
        put(g, VIRTIO_MMIO_STATUS, 11);
        CU_ASSERT_EQUAL(get(g, VIRTIO_MMIO_STATUS), 11);
        for (unsigned q = 0; q < QUEUES; q++)
                set_queue(g, q);
        put(g, VIRTIO_MMIO_STATUS, 15);
}

static void begin(struct guest *g)
{
        struct virtio_net_options o = { .name = "net0", .mac = { 2 } };
        struct virtio_bus_ops ops = { .broken = NULL };
        int pair[2];

        *g = (struct guest){ .random = 99 };
        ASSERT(starter_new(SANDBOX_ON, &g->starter, NULL) == 0);
        ops.starter = g->starter;
        ASSERT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
        o.tap = pair[0];
        g->peer = pair[1];
        vqguest_ram_init(&g->ram, 1u << 20);
        ASSERT(virtio_bus_new(NULL, &g->ram, &ops, &g->bus, NULL) == 0);
        ASSERT(virtio_net_new(&o, &g->dev, NULL) == 0);
        ASSERT(virtio_bus_add(g->bus, g->dev, NULL) == 0);
        virtio_bus_release(g->bus);
        drive(g);
}

static void end(struct guest *g)
{
        virtio_bus_free(g->bus);
        starter_free(g->starter);
        vqguest_ram_fini(&g->ram);
        close(g->peer);
}

static void kick(struct guest *g, unsigned q)
{
        if (vqguest_wants_kick(&g->ring[q]))
                put(g, VIRTIO_MMIO_QUEUE_NOTIFY, q);
}

/* None that is in use: there are more than a ring has entries. */
static uint64_t buffer(struct guest *g, unsigned q)
{
        return BUFFERS_GPA + (q * BUFFERS + g->next_buffer[q]++ % BUFFERS) * BUFFER_BYTES;
}

/* Some buffers are so small that a frame takes several. */
static void post(struct guest *g)
{
        uint32_t bytes = store_random(&g->random) % 3 ? BUFFER_BYTES : 70;
        struct vqguest_buf buf = { 0, bytes, true };

        if (g->ring[RX].nfree == 0)
                return;
        buf.gpa = buffer(g, RX);
        g->gpa[vqguest_add(&g->ring[RX], &buf, 1)] = buf.gpa;
        kick(g, RX);
}

static void feed(struct guest *g)
{
        uint8_t data[HEADER + FRAME] = { 0 };

        memset(data + HEADER, (int)(g->fed & 0xff), FRAME);
        memcpy(data + HEADER, &g->fed, sizeof(g->fed));
        g->fed += send(g->peer, data, sizeof(data), 0) == (ssize_t)sizeof(data);
}

/* The number of the frame that came; -1: none. */
static int64_t receive(struct guest *g)
{
        uint8_t data[HEADER + FRAME];
        struct virtio_net_hdr_v1 h = { .num_buffers = 1 };
        uint32_t bytes = 0, number, written;
        uint16_t head;

        for (unsigned i = 0; i < h.num_buffers; i++) {
                if (!vqguest_used(&g->ring[RX], &head, &written)) {
                        g->wrong += i > 0;
                        return -1;
                }
                if (bytes + written > sizeof(data))
                        break;
                memcpy(data + bytes, ram_at(&g->ram, g->gpa[head], written), written);
                bytes += written;
                if (i == 0)
                        memcpy(&h, data, sizeof(h));
        }
        memcpy(&number, data + HEADER, sizeof(number));
        g->wrong += bytes != sizeof(data) || data[HEADER + FRAME - 1] != (number & 0xff);
        return number;
}

static void reap(struct guest *g)
{
        for (int64_t n; (n = receive(g)) >= 0;) {
                g->wrong += n < g->came;
                g->skipped += (uint32_t)n - g->came;
                g->came = (uint32_t)n + 1;
        }
}

static void transmit(struct guest *g)
{
        struct vqguest_buf buf[] = { { 0, 5, false }, { 0, HEADER - 5 + FRAME, false } };
        uint16_t head;
        uint32_t written;

        while (vqguest_used(&g->ring[TX], &head, &written))
                ;
        if (g->ring[TX].nfree < 2)
                return;
        buf[0].gpa = buffer(g, TX);
        buf[1].gpa = buf[0].gpa + 5;

        uint8_t *data = ram_at(&g->ram, buf[0].gpa, HEADER + FRAME);

        memset(data, 0, HEADER + FRAME);
        memcpy(data + HEADER, &g->sent, sizeof(g->sent));
        g->sent++;
        vqguest_add(&g->ring[TX], buf, 2);
        kick(g, TX);
}

static void host_reads(struct guest *g)
{
        uint8_t data[HEADER + FRAME];
        uint32_t number;

        while (recv(g->peer, data, sizeof(data), 0) == (ssize_t)sizeof(data)) {
                memcpy(&number, data + HEADER, sizeof(number));
                g->wrong += number != g->went++;
        }
}

static void step(struct guest *g)
{
        switch (store_random(&g->random) % 5) {
        case 0:
                post(g);
                break;
        case 1:
                feed(g);
                break;
        case 2:
                reap(g);
                break;
        case 3:
                transmit(g);
                break;
        default:
                host_reads(g);
        }
}

/* Held and saved; and what was saved is put back, into the device that runs. */
static void hold(struct guest *g, bool put_back)
{
        struct virtio_bus_state *state, *again;
        AUTO_JSON *doc = NULL;

        virtio_bus_hold(g->bus);
        ASSERT(virtio_bus_wait_held(g->bus, clock_now_ns() + PATIENCE_NS, NULL) == 0);
        CU_ASSERT_EQUAL(g->dev->queue[RX].s.next_avail, g->dev->queue[RX].s.next_used);
        CU_ASSERT_EQUAL(g->dev->queue[TX].s.next_avail, g->dev->queue[TX].s.next_used);
        ASSERT(virtio_bus_state_new(g->bus, &state, NULL) == 0);
        virtio_bus_capture(g->bus, state);
        if (put_back) {
                CU_ASSERT_EQUAL(virtio_bus_encode(state, &doc, NULL), 0);
                CU_ASSERT_EQUAL(virtio_bus_decode(g->bus, doc, &again, NULL), 0);
                CU_ASSERT_EQUAL(virtio_bus_apply(g->bus, again, NULL), 0);
                virtio_bus_state_free(again);
        }
        virtio_bus_state_free(state);
        virtio_bus_release(g->bus);
}

/* All that is under way arrives. */
static void finish(struct guest *g, uint32_t may_lose)
{
        uint64_t until_ns = clock_now_ns() + PATIENCE_NS;

        while ((g->came + may_lose < g->fed || g->went < g->sent) && clock_now_ns() < until_ns) {
                reap(g);
                post(g);
                host_reads(g);
        }
        reap(g);
}

static void run(bool put_back)
{
        struct virtio_net_stats s;
        struct guest g;
        uint32_t times = 0;

        uint64_t until_ns = clock_now_ns() + PATIENCE_NS;

        begin(&g);
        for (unsigned i = 0; i < STEPS || ((g.fed < 500 || g.sent < 500) &&
                                           clock_now_ns() < until_ns); i++) {
                step(&g);
                sched_yield();
                if (store_random(&g.random) % 100 == 0) {
                        hold(&g, put_back);
                        times++;
                }
        }
        finish(&g, put_back ? 1 : 0);
        virtio_net_stats(g.dev, &s);
        CU_ASSERT(g.fed >= 500 && g.sent >= 500 && times > 50);
        CU_ASSERT_EQUAL(g.wrong, 0);
        CU_ASSERT_EQUAL(g.went, g.sent);
        CU_ASSERT(g.skipped <= (put_back ? times : 0));
        CU_ASSERT_EQUAL(s.tx_packets, g.sent);
        CU_ASSERT_EQUAL(s.rx_dropped + s.tx_dropped + s.tx_malformed, 0);
        CU_ASSERT_EQUAL(get(&g, VIRTIO_MMIO_STATUS), 15);
        /* a guest that was put back is asked to say where it is */
        CU_ASSERT_EQUAL(get(&g, VIRTIO_MMIO_CONFIG + 4) >> 16,
                        put_back ? VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE
                                 : VIRTIO_NET_S_LINK_UP);
        end(&g);
}

static void held(void)
{
        run(false);
}

static void reverted(void)
{
        run(true);
}

/* The driver resets a device that is busy, and sets it up again. */
static void reset(void)
{
        struct guest g;

        begin(&g);
        for (unsigned i = 0; i < 100; i++) {
                for (unsigned k = 0; k < 50; k++)
                        step(&g);
                put(&g, VIRTIO_MMIO_STATUS, 0);
                CU_ASSERT_EQUAL(get(&g, VIRTIO_MMIO_STATUS), 0);
                drive(&g);
                host_reads(&g);
                g.sent = g.went;        /* what was under way is gone */
        }
        CU_ASSERT_EQUAL(get(&g, VIRTIO_MMIO_STATUS), 15);
        end(&g);
}

static const CU_TestInfo cases[] = {
        { "held and saved at any moment", held },
        { "put back at any moment", reverted },
        { "reset while busy", reset },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("virtio-net-bus", cases);
}
