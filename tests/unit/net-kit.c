/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/net-kit.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "vmm/virtio/loop.h"

#define RAM_HALF_BYTES (4u << 20)
#define RING_STRIDE 0x8000u
#define BUFFERS_GPA 0x40000u
#define ROUNDS_MAX 10000
#define MARKED_BYTES 60

const uint8_t net_kit_mac[VIRTIO_NET_MAC_BYTES] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 };
const uint8_t net_kit_other_mac[VIRTIO_NET_MAC_BYTES] = { 2, 1, 2, 3, 4, 5 };

/* ---- what bus.c and loop.c do ---- */

void virtio_signal(struct virtio_device *dev, unsigned queue)
{
        if (vq_wants_interrupt(&dev->queue[queue]))
                dev->slot->signals[queue]++;
}

void virtio_device_broken(struct virtio_device *dev, const struct err *why)
{
        dev->slot->broken++;
        memcpy(dev->slot->why, why->text, sizeof(dev->slot->why));
}

void virtio_config_set(struct virtio_device *dev, unsigned offset, const void *data,
                       unsigned bytes)
{
        lock_acquire(&dev->lock);
        ASSERT(offset + bytes <= dev->config_bytes);
        memcpy(dev->config + offset, data, bytes);
        lock_release(&dev->lock);
        dev->slot->config_changes++;
}

static int watch_new(struct virtio_loop *l, int fd, short events, virtio_watch_fn *fn, void *ctx,
                     struct virtio_watch **ret)
{
        unsigned i = 0;

        while (l->watch[i].loop)
                i++;
        ASSERT(i < NET_KIT_WATCHES);
        l->watch[i] = (struct virtio_watch){ .loop = l, .fd = fd, .events = events, .fn = fn,
                                             .ctx = ctx };
        *ret = &l->watch[i];
        return 0;
}

int virtio_watch_readable(struct virtio_loop *l, int fd, virtio_watch_fn *fn, void *ctx,
                          struct virtio_watch **ret, struct err *e)
{
        (void)e;
        return watch_new(l, fd, POLLIN, fn, ctx, ret);
}

int virtio_watch_writable(struct virtio_loop *l, int fd, virtio_watch_fn *fn, void *ctx,
                          struct virtio_watch **ret, struct err *e)
{
        (void)e;
        return watch_new(l, fd, POLLOUT, fn, ctx, ret);
}

int virtio_watch_timer(struct virtio_loop *l, virtio_watch_fn *fn, void *ctx,
                       struct virtio_watch **ret, struct err *e)
{
        (void)e;
        return watch_new(l, -1, 0, fn, ctx, ret);
}

void virtio_watch_on(struct virtio_watch *w)
{
        ASSERT(w->loop && w->fd >= 0);
        w->on = true;
}

void virtio_watch_off(struct virtio_watch *w)
{
        ASSERT(w->loop);
        w->on = false;
}

void virtio_watch_after(struct virtio_watch *timer, uint64_t ns)
{
        ASSERT(timer->loop && timer->fd < 0 && ns == 0);
        timer->on = true;
}

void virtio_watch_free(struct virtio_watch *w)
{
        ASSERT(w->loop);
        *w = (struct virtio_watch){ .loop = NULL };
}

static bool ready(const struct virtio_watch *w)
{
        struct pollfd p = { .fd = w->fd, .events = w->events };

        if (!w->loop || !w->on)
                return false;
        return w->fd < 0 || poll(&p, 1, 0) == 1;
}

static void wait_ready(struct net_kit *k, int timeout_ms)
{
        struct pollfd p[NET_KIT_WATCHES];

        for (unsigned i = 0; i < NET_KIT_WATCHES; i++) {
                const struct virtio_watch *w = &k->loop.watch[i];

                p[i] = (struct pollfd){ .fd = w->loop && w->on ? w->fd : -1,
                                        .events = w->events };
        }
        poll(p, NET_KIT_WATCHES, timeout_ms);
}

unsigned net_kit_run(struct net_kit *k, int timeout_ms)
{
        unsigned called = 0;

        if (timeout_ms > 0)
                wait_ready(k, timeout_ms);
        for (unsigned i = 0; i < NET_KIT_WATCHES; i++) {
                struct virtio_watch *w = &k->loop.watch[i];

                if (!ready(w))
                        continue;
                if (w->fd < 0)
                        w->on = false;
                w->fn(w->ctx);
                called++;
        }
        return called;
}

bool net_kit_settle(struct net_kit *k)
{
        for (unsigned i = 0; i < ROUNDS_MAX; i++) {
                if (net_kit_run(k, 0) == 0)
                        return true;
        }
        return false;
}

bool net_kit_watches(struct net_kit *k, int fd, short events)
{
        for (unsigned i = 0; i < NET_KIT_WATCHES; i++) {
                struct virtio_watch *w = &k->loop.watch[i];

                if (w->loop && w->on && w->fd == fd && (w->events & events))
                        return true;
        }
        return false;
}

/* ---- life ---- */

void net_kit_make(struct net_kit *k, const struct net_kit_setup *s)
{
        struct virtio_net_options o = { .name = "net0", .tap = s->tap };
        struct err e;

        memset(k, 0, sizeof(*k));
        memcpy(o.mac, net_kit_mac, sizeof(o.mac));
        vqguest_ram_init(&k->ram, RAM_HALF_BYTES);
        k->next_gpa = BUFFERS_GPA;

        int rc = virtio_net_new(&o, &k->dev, &e);

        ASSERT(rc == 0);
        k->dev->slot = &k->slot;
        k->dev->loop = &k->loop;
        k->dev->ram = &k->ram;
        k->dev->features = s->features | F(VIRTIO_NET_F_CTRL_VQ);
        for (unsigned i = 0; i < NET_KIT_QUEUES; i++)
                (s->event_idx ? vqguest_init_event_idx : vqguest_init)(
                        &k->guest[i], &k->ram, i * RING_STRIDE,
                        s->ring_size ? s->ring_size : 64, &k->dev->queue[i]);
}

int net_kit_start(struct net_kit *k, struct err *e)
{
        int rc = k->dev->class->start(k->dev, e);

        for (unsigned i = 0; rc == 0 && i < NET_KIT_QUEUES; i++)
                k->dev->class->kick(k->dev, i);
        return rc;
}

void net_kit_init(struct net_kit *k, const struct net_kit_setup *s)
{
        struct err e;

        net_kit_make(k, s);

        int rc = net_kit_start(k, &e);

        ASSERT(rc == 0);
}

void net_kit_fini(struct net_kit *k)
{
        struct virtio_device *dev = k->dev;

        dev->class->drain(dev);
        dev->class->stop(dev);
        for (unsigned i = 0; i < NET_KIT_WATCHES; i++)
                ASSERT(!k->loop.watch[i].loop);
        dev->class->free(dev);
        vqguest_ram_fini(&k->ram);
}

int net_kit_pair(struct net_kit *k, uint64_t features, uint16_t ring_size, bool event_idx)
{
        int pair[2];
        int rc = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair);

        ASSERT(rc == 0);
        net_kit_init(k, &(struct net_kit_setup){ .tap = pair[0], .features = features,
                                                 .ring_size = ring_size,
                                                 .event_idx = event_idx });
        return pair[1];
}

void net_kit_end(struct net_kit *k, int peer)
{
        net_kit_fini(k);
        fd_close(&peer);
}

/* What people are shown is the same. */
static void check_described(struct net_kit *k, const struct virtio_net_stats *s)
{
        const struct {
                const char *key;
                uint64_t value;
        } rows[] = {
                { "rx_packets", s->rx_packets }, { "rx_bytes", s->rx_bytes },
                { "rx_dropped", s->rx_dropped }, { "tx_packets", s->tx_packets },
                { "tx_bytes", s->tx_bytes }, { "tx_malformed", s->tx_malformed },
                { "tx_dropped", s->tx_dropped }, { "control_refused", s->control_refused },
        };
        AUTO_JSON *o = json_object_new_object();
        uint64_t n = UINT64_MAX;

        k->dev->class->describe(k->dev, o);
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                ASSERT(json_take_u64(o, rows[i].key, UINT64_MAX, &n, NULL) == 0 &&
                       n == rows[i].value);
}

struct virtio_net_stats net_kit_stats(struct net_kit *k)
{
        struct virtio_net_stats s;

        virtio_net_stats(k->dev, &s);
        check_described(k, &s);
        return s;
}

void net_kit_kick(struct net_kit *k, unsigned queue)
{
        if (vqguest_wants_kick(&k->guest[queue]))
                k->dev->class->kick(k->dev, queue);
}

/* ---- the driver ---- */

static uint64_t buffer(struct net_kit *k, uint32_t bytes)
{
        ASSERT(bytes <= RAM_HALF_BYTES - BUFFERS_GPA);
        if (k->next_gpa + bytes > RAM_HALF_BYTES)
                k->next_gpa = BUFFERS_GPA;

        uint64_t gpa = k->next_gpa;

        k->next_gpa += bytes;
        return gpa;
}

void net_kit_post(struct net_kit *k, unsigned n, uint32_t bytes)
{
        for (unsigned i = 0; i < n; i++) {
                struct vqguest_buf buf = { buffer(k, bytes), bytes, true };

                k->gpa[vqguest_add(&k->guest[0], &buf, 1)] = buf.gpa;
                net_kit_kick(k, 0);
        }
}

int net_kit_receive(struct net_kit *k, struct virtio_net_hdr_v1 *ret_header, uint8_t *ret_frame)
{
        uint16_t head;
        uint32_t written;

        if (!vqguest_used(&k->guest[0], &head, &written))
                return 0;
        if (written < sizeof(*ret_header))
                return -1;
        memcpy(ret_header, ram_at(&k->ram, k->gpa[head], written), sizeof(*ret_header));

        uint32_t bytes = written - (uint32_t)sizeof(*ret_header);

        memcpy(ret_frame, ram_at(&k->ram, k->gpa[head] + sizeof(*ret_header), bytes), bytes);
        for (unsigned i = 1; i < ret_header->num_buffers; i++) {
                if (!vqguest_used(&k->guest[0], &head, &written) ||
                    bytes + written > NET_KIT_FRAME_MAX)
                        return -1;
                memcpy(ret_frame + bytes, ram_at(&k->ram, k->gpa[head], written), written);
                bytes += written;
        }
        return (int)bytes;
}

void net_kit_feed(int peer, uint8_t mark)
{
        uint8_t data[NET_KIT_HEADER + MARKED_BYTES] = { 0 };

        memset(data + NET_KIT_HEADER, mark, MARKED_BYTES);
        if (send(peer, data, sizeof(data), 0) != sizeof(data))
                abort();
}

int net_kit_comes(struct net_kit *k)
{
        struct virtio_net_hdr_v1 h;
        uint8_t frame[2048];

        return net_kit_receive(k, &h, frame) == MARKED_BYTES ? frame[0] : 0;
}

void net_kit_send_raw(struct net_kit *k, const void *data, size_t bytes, size_t piece_bytes)
{
        struct vqguest_buf buf[VQ_IOV_MAX];
        uint64_t gpa = buffer(k, (uint32_t)bytes);
        unsigned n = 0;

        memcpy(ram_at(&k->ram, gpa, bytes), data, bytes);
        for (size_t at = 0; at < bytes; at += buf[n++].bytes) {
                ASSERT(n < VQ_IOV_MAX);
                buf[n] = (struct vqguest_buf){ gpa + at, (uint32_t)MIN(bytes - at, piece_bytes),
                                               false };
        }
        vqguest_add(&k->guest[1], buf, n);
        net_kit_kick(k, 1);
}

void net_kit_send(struct net_kit *k, const struct virtio_net_hdr_v1 *h, const uint8_t *frame,
                  size_t bytes, size_t piece_bytes)
{
        static uint8_t data[NET_KIT_HEADER + NET_KIT_FRAME_MAX];

        ASSERT(bytes <= NET_KIT_FRAME_MAX);
        memcpy(data, h, NET_KIT_HEADER);
        memcpy(data + NET_KIT_HEADER, frame, bytes);
        net_kit_send_raw(k, data, NET_KIT_HEADER + bytes, piece_bytes);
}

int net_kit_sent(struct net_kit *k)
{
        uint16_t head;
        uint32_t written;
        int n = 0;

        for (; vqguest_used(&k->guest[1], &head, &written); n++) {
                if (written != 0)
                        return -1;
        }
        return n;
}

int net_kit_order(struct net_kit *k, uint8_t class, uint8_t cmd, const void *data, size_t bytes)
{
        uint32_t total = (uint32_t)(2 + bytes);
        struct vqguest_buf buf[] = {
                { buffer(k, total), total, false },
                { buffer(k, 1), 1, true },
        };
        uint8_t *order = ram_at(&k->ram, buf[0].gpa, total);
        uint8_t *ack = ram_at(&k->ram, buf[1].gpa, 1);
        uint16_t head;
        uint32_t written;

        order[0] = class;
        order[1] = cmd;
        if (bytes)
                memcpy(order + 2, data, bytes);
        *ack = 0xee;
        vqguest_add(&k->guest[2], buf, 2);
        net_kit_kick(k, 2);
        return vqguest_used(&k->guest[2], &head, &written) && written == 1 ? *ack : -1;
}

uint16_t net_kit_status(struct net_kit *k)
{
        uint16_t status;

        lock_acquire(&k->dev->lock);
        memcpy(&status, k->dev->config + 6, sizeof(status));
        lock_release(&k->dev->lock);
        return status;
}

bool net_kit_mac_is(struct net_kit *k, const uint8_t *mac)
{
        bool is;

        lock_acquire(&k->dev->lock);
        is = memcmp(k->dev->config, mac, VIRTIO_NET_MAC_BYTES) == 0;
        lock_release(&k->dev->lock);
        return is;
}

void net_kit_fill(uint8_t *frame, size_t bytes, unsigned seed)
{
        for (size_t i = 0; i < bytes; i++)
                frame[i] = (uint8_t)(seed * 31 + i * 7 + (i >> 8));
}
