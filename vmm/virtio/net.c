/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/net.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "vmm/virtio/net-priv.h"
#include "vmm/virtio/tap.h"

/* Frames that wait in the queue are the guest's latency; a tap keeps 500 to 1000 of its own. */
#define QUEUE_SIZE 256

#define CONFIG_MAC 0
#define CONFIG_STATUS 6
#define CONFIG_BYTES 8

#define FEATURES_ALWAYS                                                                        \
        (NET_BIT(VIRTIO_NET_F_MAC) | NET_BIT(VIRTIO_NET_F_STATUS) |                            \
         NET_BIT(VIRTIO_NET_F_MRG_RXBUF) | NET_BIT(VIRTIO_NET_F_CTRL_VQ) |                     \
         NET_BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) | NET_BIT(VIRTIO_NET_F_GUEST_ANNOUNCE))
/* What goes out behind a virtio-net header every tap takes. */
#define FEATURES_OUT                                                                           \
        (NET_BIT(VIRTIO_NET_F_CSUM) | NET_BIT(VIRTIO_NET_F_HOST_TSO4) |                        \
         NET_BIT(VIRTIO_NET_F_HOST_TSO6) | NET_BIT(VIRTIO_NET_F_HOST_ECN))
#define FEATURES_IN (NET_OFFLOADS | NET_BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS))

bool net_mac_ok(const uint8_t mac[VIRTIO_NET_MAC_BYTES])
{
        static const uint8_t zero[VIRTIO_NET_MAC_BYTES];

        return !(mac[0] & 1) && memcmp(mac, zero, sizeof(zero)) != 0;
}

/* ---- what the guest sees in its configuration ---- */

static void tell_status_locked(struct net *n) REQUIRES(n->lock)
{
        bool up = n->wanted_up && n->tap >= 0 && n->tap_error == 0;
        uint16_t status = (uint16_t)((up ? VIRTIO_NET_S_LINK_UP : 0) |
                                     (n->announcing ? VIRTIO_NET_S_ANNOUNCE : 0));

        ASSERT(lock_held(&n->lock));
        atomic_store_explicit(&n->link_up, up, memory_order_relaxed);
        virtio_config_set(&n->dev, CONFIG_STATUS, &status, sizeof(status));
}

void virtio_net_set_link(struct virtio_device *dev, bool up)
{
        struct net *n = net_of(dev);

        lock_acquire(&n->lock);
        if (n->wanted_up != up) {
                n->wanted_up = up;
                tell_status_locked(n);
        }
        lock_release(&n->lock);
}

void net_link_set(struct net *n, bool up)
{
        lock_acquire(&n->lock);
        n->wanted_up = up;
        tell_status_locked(n);
        lock_release(&n->lock);
}

static void tell_mac_locked(struct net *n, const uint8_t mac[VIRTIO_NET_MAC_BYTES])
        REQUIRES(n->lock)
{
        memcpy(n->mac, mac, sizeof(n->mac));
        virtio_config_set(&n->dev, CONFIG_MAC, mac, sizeof(n->mac));
}

void net_mac_set(struct net *n, const uint8_t mac[VIRTIO_NET_MAC_BYTES])
{
        lock_acquire(&n->lock);
        tell_mac_locked(n, mac);
        lock_release(&n->lock);
}

int virtio_net_set_mac(struct virtio_device *dev, const uint8_t mac[VIRTIO_NET_MAC_BYTES],
                       struct err *e)
{
        if (!net_mac_ok(mac))
                return err_msg(e, EINVAL, "%s: a MAC address of zeros, or of a group (the first "
                               "byte is odd), is no device's", dev->name);

        struct net *n = net_of(dev);

        lock_acquire(&n->lock);
        memcpy(n->own_mac, mac, sizeof(n->own_mac));
        tell_mac_locked(n, mac);
        lock_release(&n->lock);
        return 0;
}

bool virtio_net_announce(struct virtio_device *dev)
{
        struct net *n = net_of(dev);

        lock_acquire(&n->lock);

        bool can = n->can_announce;

        if (can) {
                n->announcing = true;
                tell_status_locked(n);
        }
        lock_release(&n->lock);
        return can;
}

void net_announced(struct net *n)
{
        lock_acquire(&n->lock);
        n->announcing = false;
        tell_status_locked(n);
        lock_release(&n->lock);
}

static void driver_came(struct net *n, bool can_announce)
{
        lock_acquire(&n->lock);
        n->can_announce = can_announce;
        lock_release(&n->lock);
}

/* And with it what it asked for, or was asked. */
static void driver_gone(struct net *n)
{
        lock_acquire(&n->lock);
        n->can_announce = false;
        if (n->announcing) {
                n->announcing = false;
                tell_status_locked(n);
        }
        if (memcmp(n->mac, n->own_mac, sizeof(n->mac)) != 0)
                tell_mac_locked(n, n->own_mac);
        lock_release(&n->lock);
}

void virtio_net_stats(const struct virtio_device *dev, struct virtio_net_stats *ret)
{
        struct net *n = net_of((struct virtio_device *)dev);
        uint64_t c[NET_COUNTERS];

        for (unsigned i = 0; i < NET_COUNTERS; i++)
                c[i] = atomic_load_explicit(&n->counter[i], memory_order_relaxed);
        lock_acquire(&n->lock);

        int tap_error = n->tap_error;

        lock_release(&n->lock);
        *ret = (struct virtio_net_stats){
                .link_up = atomic_load_explicit(&n->link_up, memory_order_relaxed),
                .tap_error = tap_error,
                .rx_packets = c[NET_RX_PACKETS], .rx_bytes = c[NET_RX_BYTES],
                .rx_dropped = c[NET_RX_DROPPED],
                .tx_packets = c[NET_TX_PACKETS], .tx_bytes = c[NET_TX_BYTES],
                .tx_malformed = c[NET_TX_MALFORMED], .tx_dropped = c[NET_TX_DROPPED],
                .tx_waits = c[NET_TX_WAITS],
                .control_refused = c[NET_CONTROL_REFUSED],
        };
}

static void net_describe(struct virtio_device *dev, struct json_object *o)
{
        static const char *const keys[] = {
                [NET_RX_PACKETS] = "rx_packets", [NET_RX_BYTES] = "rx_bytes",
                [NET_RX_DROPPED] = "rx_dropped", [NET_TX_PACKETS] = "tx_packets",
                [NET_TX_BYTES] = "tx_bytes", [NET_TX_MALFORMED] = "tx_malformed",
                [NET_TX_DROPPED] = "tx_dropped", [NET_TX_WAITS] = "tx_waits",
                [NET_CONTROL_REFUSED] = "control_refused",
        };
        const struct net *n = net_of(dev);

        static_assert(ARRAY_SIZE(keys) == NET_COUNTERS, "one key for each counter");
        json_put_bool(o, "link_up", atomic_load_explicit(&n->link_up, memory_order_relaxed));
        for (unsigned i = 0; i < NET_COUNTERS; i++)
                json_put_u64(o, keys[i], atomic_load_explicit(&n->counter[i],
                                                              memory_order_relaxed));
}

/* ---- life, on the device's thread ---- */

static void watches_off(struct net *n)
{
        struct virtio_watch *all[] = { n->rx_ready, n->tx_ready, n->again };

        for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
                if (all[i])
                        virtio_watch_off(all[i]);
        }
}

int net_pop(struct net *n, unsigned queue, struct vq_chain *ret, struct err *e)
{
        struct virtqueue *q = &n->dev.queue[queue];
        int rc = vq_pop(q, ret, e);

        if (rc != 0 || !vq_kicks_on(q))
                return rc;
        rc = vq_pop(q, ret, e);
        if (rc > 0)
                vq_kicks_off(q);
        return rc;
}

void net_broken(struct net *n, const struct err *why)
{
        n->broken = true;
        watches_off(n);
        virtio_device_broken(&n->dev, why);
}

void net_tap_lost(struct net *n, int errnum)
{
        n->lost = true;
        watches_off(n);
        lock_acquire(&n->lock);
        n->tap_error = -errnum;
        tell_status_locked(n);
        lock_release(&n->lock);
}

static void rx_ready(void *ctx)
{
        net_rx_run(ctx);
}

static void tx_ready(void *ctx)
{
        net_tx_run(ctx);
}

static void again(void *ctx)
{
        net_tx_run(ctx);
        net_ctrl_run(ctx);
}

static int watch(struct net *n, struct err *e)
{
        struct virtio_loop *l = n->dev.loop;
        int rc = virtio_watch_timer(l, again, n, &n->again, e);

        if (rc == 0 && n->tap >= 0)
                rc = virtio_watch_readable(l, n->tap, rx_ready, n, &n->rx_ready, e);
        if (rc == 0 && n->tap >= 0)
                rc = virtio_watch_writable(l, n->tap, tx_ready, n, &n->tx_ready, e);
        return rc;
}

static void unwatch(struct net *n)
{
        struct virtio_watch **all[] = { &n->rx_ready, &n->tx_ready, &n->again };

        for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
                if (*all[i])
                        virtio_watch_free(*all[i]);
                *all[i] = NULL;
        }
}

static void net_resume(struct virtio_device *dev)
{
        struct net *n = net_of(dev);

        if (!n->announce_due)
                return;
        n->announce_due = false;
        virtio_net_announce(dev);
}

static int net_start(struct virtio_device *dev, struct err *e)
{
        struct net *n = net_of(dev);
        int rc = watch(n, e);

        if (rc == 0)
                rc = net_offloads_set(n, n->restored ? n->offloads : dev->features & NET_OFFLOADS,
                                      e);
        if (rc < 0) {
                unwatch(n);
                return rc;
        }
        n->running = true;
        n->broken = false;
        n->restored = false;
        driver_came(n, virtio_has(dev, VIRTIO_NET_F_GUEST_ANNOUNCE));
        net_resume(dev);
        return 0;
}

static void net_kick(struct virtio_device *dev, unsigned queue)
{
        struct net *n = net_of(dev);

        if (n->broken)
                return;
        if (queue == NET_RX)
                net_rx_run(n);
        else if (queue == NET_TX)
                net_tx_run(n);
        else
                net_ctrl_run(n);
}

static void net_drain(struct virtio_device *dev)
{
        struct net *n = net_of(dev);

        watches_off(n);
        net_rx_give_back(n);
}

static void net_stop(struct virtio_device *dev)
{
        struct net *n = net_of(dev);

        unwatch(n);
        net_rx_forget(n);
        n->running = n->broken = n->restored = n->announce_due = false;
        driver_gone(n);
        /* none is what every tap can */
        net_offloads_set(n, 0, NULL);
}

static void net_free(struct virtio_device *dev)
{
        struct net *n = net_of(dev);

        fd_close(&n->tap);
        lock_fini(&n->lock);
        lock_fini(&dev->lock);
        free(n);
}

static const struct virtio_class net_class = {
        .kind = "net",
        .id = VIRTIO_ID_NET,
        .nqueues = NET_QUEUES,
        .queue_size = QUEUE_SIZE,
        .features = FEATURES_ALWAYS | FEATURES_OUT | FEATURES_IN,
        .start = net_start,
        .kick = net_kick,
        .drain = net_drain,
        .resume = net_resume,
        .stop = net_stop,
        .state_bytes = sizeof(struct net_state),
        .capture = net_capture,
        .encode = net_encode,
        .decode = net_decode,
        .apply = net_apply,
        .feature_name = net_feature_name,
        .describe = net_describe,
        .free = net_free,
};
static_assert(NET_QUEUES <= VIRTIO_QUEUES_MAX && QUEUE_SIZE <= VQ_SIZE_MAX, "device.h");

/* ---- making one ---- */

/* Without a tap all is offered: the guest may be reverted with one. */
static uint64_t host_features(const struct net *n)
{
        uint64_t in = n->tap >= 0 ? net_offloads_of_tap(n->tap_offloads) : NET_OFFLOADS;

        if (in)
                in |= NET_BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
        return FEATURES_ALWAYS | FEATURES_OUT | in;
}

/* Nobody else knows the device yet. */
static void init_config(struct net *n, const uint8_t mac[VIRTIO_NET_MAC_BYTES]) NO_TSA
{
        uint16_t status = n->tap >= 0 ? VIRTIO_NET_S_LINK_UP : 0;

        memcpy(n->own_mac, mac, sizeof(n->own_mac));
        memcpy(n->mac, mac, sizeof(n->mac));
        memcpy(n->dev.config + CONFIG_MAC, mac, sizeof(n->mac));
        memcpy(n->dev.config + CONFIG_STATUS, &status, sizeof(status));
        n->dev.config_bytes = CONFIG_BYTES;
        n->wanted_up = true;
        atomic_init(&n->link_up, n->tap >= 0);
}

int virtio_net_new(const struct virtio_net_options *o, struct virtio_device **ret,
                   struct err *e)
{
        AUTO_FD tap = o->tap;

        if (!net_mac_ok(o->mac))
                return err_msg(e, EINVAL, "%s: its MAC address is zero or that of a group (the "
                               "first byte is odd): give it one like 52:54:00:12:34:56", o->name);

        struct net *n = calloc(1, sizeof(*n));

        if (!n)
                return err_msg(e, ENOMEM, "%s: no memory for the device", o->name);
        lock_init(&n->lock);
        lock_init(&n->dev.lock);
        snprintf(n->dev.name, sizeof(n->dev.name), "%s", o->name);
        n->tap = fd_take(&tap);
        n->tap_offloads = n->tap >= 0 ? tap_offloads(n->tap) : 0;
        init_config(n, o->mac);
        n->dev.class = &net_class;
        n->dev.host_features = host_features(n);
        *ret = &n->dev;
        return 0;
}
