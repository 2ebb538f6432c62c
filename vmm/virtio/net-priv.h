/* SPDX-License-Identifier: Apache-2.0 */
/* net-priv.h - a network device, as its files share it. See net.h.
 *
 * Theory of operation
 *
 * All frames are moved by the device's thread, in rounds of NET_ROUND_FRAMES: then the other
 * queue and the other watches have their turn. A round ends with one interrupt at most.
 *
 * To the guest (net-rx.c). A frame is read into our memory first: only then is it known how
 * many of the guest's buffers it takes, and the tap need not be asked again when these run out.
 * The copy costs less than the system call before it. Buffers are filled as they are taken, and
 * become visible to the guest all at once: a driver that finds one of them must find them all.
 *   INV-BUFFER  The tap is watched only while one of the guest's buffers is taken, or may be
 *               there, and no frame waits. Else a kick starts the next round.
 *   INV-TAKEN-LAST  What is taken and not pushed are the last rx.ntaken requests of the queue,
 *               so that drain gives all of them back. They are held while more are waited for,
 *               not given back: the guest's next kick is asked for behind what is taken.
 * A frame that waits for buffers survives drain and resume, but not apply: it came to a guest
 * that is no more.
 *
 * From the guest (net-tx.c). Frames go out of guest memory, in order, behind a copy of their
 * header that was checked. A full tap gets the frame once it is writable; until then the frame
 * is not taken. So nothing is ever in flight between two rounds.
 *
 * The tap can go away under us (`ip link del`): then the link is down for good.
 */
#ifndef VMM_VIRTIO_NET_PRIV_H
#define VMM_VIRTIO_NET_PRIV_H

#include <assert.h>
#include <linux/virtio_net.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/lock.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/loop.h"
#include "vmm/virtio/net-header.h"
#include "vmm/virtio/net.h"

enum { NET_RX, NET_TX, NET_CTRL, NET_QUEUES };

/* Some 100 us of small frames, for which the other direction waits. */
#define NET_ROUND_FRAMES 64

#define NET_BIT(feature) (1ull << (feature))

enum net_counter {
        NET_RX_PACKETS, NET_RX_BYTES, NET_RX_DROPPED,
        NET_TX_PACKETS, NET_TX_BYTES, NET_TX_MALFORMED, NET_TX_DROPPED, NET_TX_WAITS,
        NET_CONTROL_REFUSED, NET_COUNTERS
};

/* The frame that comes from the tap next, and where in the guest it goes. */
struct net_rx {
        size_t frame_bytes;             /* with its header; 0 = no frame waits */
        size_t placed_bytes;            /* of these, in the guest's buffers */
        unsigned ntaken;                /* of taken; INV-TAKEN-LAST */
        bool pushed;                    /* in this round */
        struct vq_chain first;          /* taken[0] */
        struct vq_done taken[VQ_SIZE_MAX];
        /* one more than the largest, to know those that are larger */
        uint8_t frame[NET_HEADER_BYTES + NET_FRAME_BYTES_MAX + 1];
};

struct net {
        struct virtio_device dev;       /* first: a class's function gets its address */

        /* constant */
        int tap;                        /* -1 = none */
        unsigned tap_offloads;          /* TUN_F_*: what it can */

        /* any thread */
        _Atomic uint64_t counter[NET_COUNTERS];
        _Atomic bool link_up;           /* as the guest was told */
        struct lock lock;               /* before dev.lock */
        bool wanted_up GUARDED_BY(lock);
        bool announcing GUARDED_BY(lock);
        bool can_announce GUARDED_BY(lock);     /* the driver that runs now */
        int tap_error GUARDED_BY(lock);
        uint8_t own_mac[VIRTIO_NET_MAC_BYTES] GUARDED_BY(lock);         /* after a reset */
        uint8_t mac[VIRTIO_NET_MAC_BYTES] GUARDED_BY(lock);     /* the driver may set another */

        /* the device's thread; who captures or applies, while it stands still */
        bool running;                   /* between start and stop */
        bool broken;                    /* the driver must reset us first */
        bool lost;                      /* the tap went away */
        bool restored;                  /* offloads are a saved device's */
        bool announce_due;              /* a saved device goes on */
        uint64_t offloads;              /* VIRTIO_NET_F_GUEST_*: what the guest takes now */
        struct virtio_watch *rx_ready;  /* these three between start and stop */
        struct virtio_watch *tx_ready;
        struct virtio_watch *again;     /* a round had its fill: tx and orders go on */
        struct net_rx rx;
};

static inline struct net *net_of(struct virtio_device *dev)
{
        return (struct net *)dev;
}

static inline void net_count(struct net *n, enum net_counter which, uint64_t by)
{
        atomic_fetch_add_explicit(&n->counter[which], by, memory_order_relaxed);
}

/* net.c */
/* Whether the address is one device's. */
bool net_mac_ok(const uint8_t mac[VIRTIO_NET_MAC_BYTES]);
/* These tell the guest, whatever its configuration says. */
void net_link_set(struct net *n, bool up);
void net_mac_set(struct net *n, const uint8_t mac[VIRTIO_NET_MAC_BYTES]);
void net_announced(struct net *n);
/* The device's thread, in a round with kicks off: as vq_pop(). When there is nothing kicks are
 * on again, and nothing came meanwhile. */
int net_pop(struct net *n, unsigned queue, struct vq_chain *ret, struct err *e);
/* The device's thread: the driver broke a rule; or the tap said errnum, for good. */
void net_broken(struct net *n, const struct err *why);
void net_tap_lost(struct net *n, int errnum);

/* net-offload.c */
#define NET_OFFLOADS (NET_BIT(VIRTIO_NET_F_GUEST_CSUM) | NET_BIT(VIRTIO_NET_F_GUEST_TSO4) | \
                      NET_BIT(VIRTIO_NET_F_GUEST_TSO6) | NET_BIT(VIRTIO_NET_F_GUEST_ECN))
/* NULL: not one of NET_OFFLOADS */
const char *net_feature_name(unsigned bit);
/* Those of NET_OFFLOADS that a tap with TUN_F_* can serve. */
uint64_t net_offloads_of_tap(unsigned tap_offloads);
/* The guest takes these from now on; the sentence names what the tap lacks. */
int net_offloads_set(struct net *n, uint64_t offloads, struct err *e);

/* net-rx.c, net-tx.c: a round */
void net_rx_run(struct net *n);
void net_rx_give_back(struct net *n);
void net_rx_forget(struct net *n);
void net_tx_run(struct net *n);
/* net-ctrl.c */
void net_ctrl_run(struct net *n);

/* net-state.c */
struct net_state {
        uint8_t mac[VIRTIO_NET_MAC_BYTES];
        bool wanted_up;
        bool running;
        uint64_t offloads;              /* when running */
};
static_assert(sizeof(struct net_state) <= VIRTIO_STATE_BYTES_MAX, "device.h");

void net_capture(struct virtio_device *dev, void *state);
int net_encode(const void *state, struct json_object *into, struct err *e);
int net_decode(struct json_object *from, void *ret_state, struct err *e);
int net_apply(struct virtio_device *dev, const void *state, struct err *e);

#endif
