/* SPDX-License-Identifier: Apache-2.0 */
/* Orders of the driver on the control queue (virtio 1.2, 5.1.6.5). A driver may spin until it
 * has its answer, so there is always one: of those we did not offer too. */
#include <errno.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"
#include "vmm/virtio/net-priv.h"

/* That of no order we know is larger. */
#define DATA_BYTES_MAX 8
/* Drivers have one at a time. */
#define NET_ROUND_ORDERS 16

struct order {
        struct virtio_net_ctrl_hdr head;
        uint8_t data[DATA_BYTES_MAX];
};
static_assert(sizeof(struct order) == sizeof(struct virtio_net_ctrl_hdr) + DATA_BYTES_MAX,
              "as it lies in guest memory");

static bool set_mac(struct net *n, const uint8_t *data)
{
        if (!net_mac_ok(data))
                return false;
        net_mac_set(n, data);
        return true;
}

static bool set_offloads(struct net *n, const uint8_t *data)
{
        uint64_t offloads = get_le64(data);

        if (offloads & ~(n->dev.features & NET_OFFLOADS))
                return false;
        return net_offloads_set(n, offloads, NULL) == 0;
}

static bool announced(struct net *n, const uint8_t *data)
{
        (void)data;
        net_announced(n);
        return true;
}

static const struct {
        uint8_t class, cmd;
        unsigned feature;
        size_t data_bytes;
        bool (*obey)(struct net *n, const uint8_t *data);
} orders[] = {
        { VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, VIRTIO_NET_F_CTRL_MAC_ADDR,
          VIRTIO_NET_MAC_BYTES, set_mac },
        { VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET,
          VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, sizeof(uint64_t), set_offloads },
        { VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, VIRTIO_NET_F_GUEST_ANNOUNCE,
          0, announced },
};

static bool obey(struct net *n, const struct vq_chain *c)
{
        struct order o;
        size_t bytes = vq_read(c, 0, &o, sizeof(o));

        if (bytes < sizeof(o.head) || bytes < c->out_bytes)
                return false;
        for (size_t i = 0; i < ARRAY_SIZE(orders); i++) {
                if (orders[i].class == o.head.class && orders[i].cmd == o.head.cmd)
                        return virtio_has(&n->dev, orders[i].feature) &&
                               bytes == sizeof(o.head) + orders[i].data_bytes &&
                               orders[i].obey(n, o.data);
        }
        return false;
}

static uint32_t answer(struct net *n, const struct vq_chain *c)
{
        bool ok = obey(n, c);
        uint8_t ack = ok ? VIRTIO_NET_OK : VIRTIO_NET_ERR;

        net_count(n, NET_CONTROL_REFUSED, !ok);
        return (uint32_t)vq_write(c, 0, &ack, sizeof(ack));
}

void net_ctrl_run(struct net *n)
{
        struct virtqueue *q = &n->dev.queue[NET_CTRL];
        uint16_t used_before = q->s.next_used;
        struct vq_chain c;
        struct err e;
        int rc = 1;

        if (n->broken)
                return;
        vq_kicks_off(q);
        for (unsigned i = 0; i < NET_ROUND_ORDERS && rc > 0; i++) {
                rc = net_pop(n, NET_CTRL, &c, &e);
                if (rc > 0)
                        vq_push(q, c.head, answer(n, &c));
        }
        if (rc < 0) {
                net_broken(n, &e);
                return;
        }
        if (rc > 0)
                virtio_watch_after(n->again, 0);
        if (q->s.next_used != used_before)
                virtio_signal(&n->dev, NET_CTRL);
}
