/* SPDX-License-Identifier: Apache-2.0 */
/* net-kit.h - a network device with a driver in front of it and no bus around it.
 *
 * The device's tap is a descriptor of the test's; its watches are polled when the test says so.
 * The driver kicks only when it was asked to, so a wake-up that gets lost shows as a frame that
 * never comes.
 * Threads: the test's main thread is the device's; what net.h allows others they may do.
 */
#ifndef TESTS_UNIT_NET_KIT_H
#define TESTS_UNIT_NET_KIT_H

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/unit/vqguest.h"
#include "vmm/ram.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/net.h"

#define NET_KIT_QUEUES 3
#define NET_KIT_WATCHES 8
#define NET_KIT_HEADER 12
#define NET_KIT_FRAME_MAX 70000u
#define F(feature) (1ull << (feature))
#define NET_KIT_MERGE F(VIRTIO_NET_F_MRG_RXBUF)
/* all that a driver may order */
#define NET_KIT_ORDERS (F(VIRTIO_NET_F_CTRL_MAC_ADDR) | F(VIRTIO_NET_F_GUEST_ANNOUNCE) | \
                        F(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS))

struct virtio_watch {
        struct virtio_loop *loop;       /* NULL = free */
        int fd;                         /* -1 = a timer */
        short events;
        bool on;
        void (*fn)(void *ctx);
        void *ctx;
};

struct virtio_loop {
        struct virtio_watch watch[NET_KIT_WATCHES];
};

/* What the bus was told. */
struct virtio_slot {
        _Atomic unsigned signals[NET_KIT_QUEUES];
        _Atomic unsigned config_changes;
        unsigned broken;
        char why[ERR_TEXT_MAX];
};

struct net_kit {
        struct ram ram;
        struct virtio_loop loop;
        struct virtio_slot slot;
        struct virtio_device *dev;
        struct vqguest guest[NET_KIT_QUEUES];
        uint64_t next_gpa;              /* buffers are never used twice before it wraps */
        uint64_t gpa[VQ_SIZE_MAX];      /* of rx buffers, by head */
};

struct net_kit_setup {
        int tap;
        uint64_t features;
        uint16_t ring_size;             /* 0 = 64 */
        bool event_idx;
};

extern const uint8_t net_kit_mac[VIRTIO_NET_MAC_BYTES];
extern const uint8_t net_kit_other_mac[VIRTIO_NET_MAC_BYTES];

/* A device that was started and kicked once. */
void net_kit_init(struct net_kit *k, const struct net_kit_setup *s);
/* The same in two steps, for what comes before the start. */
void net_kit_make(struct net_kit *k, const struct net_kit_setup *s);
int net_kit_start(struct net_kit *k, struct err *e);
void net_kit_fini(struct net_kit *k);

/* A device whose tap is a socket that keeps the bounds of frames: its other end. */
int net_kit_pair(struct net_kit *k, uint64_t features, uint16_t ring_size, bool event_idx);
/* peer: -1 = it is closed */
void net_kit_end(struct net_kit *k, int peer);
struct virtio_net_stats net_kit_stats(struct net_kit *k);

/* The driver kicks, if it was asked to. */
void net_kit_kick(struct net_kit *k, unsigned queue);
/* All watches that are ready, once each; how many were. */
unsigned net_kit_run(struct net_kit *k, int timeout_ms);
/* Until nothing is ready; false: it does not end. */
bool net_kit_settle(struct net_kit *k);
bool net_kit_watches(struct net_kit *k, int fd, short events);

/* Makes n buffers of so many bytes available. */
void net_kit_post(struct net_kit *k, unsigned n, uint32_t bytes);
/* The next frame that the driver sees, without its header: its bytes; 0 = none; -1 = a merged
 * buffer is missing, or lengths disagree. */
int net_kit_receive(struct net_kit *k, struct virtio_net_hdr_v1 *ret_header, uint8_t *ret_frame);

/* A frame from the other end, all of its bytes this mark; the mark of the next frame that the
 * driver sees, 0 = none. */
void net_kit_feed(int peer, uint8_t mark);
int net_kit_comes(struct net_kit *k);

/* Sends header and frame, cut into descriptors of piece_bytes, and kicks if asked to. */
void net_kit_send_raw(struct net_kit *k, const void *data, size_t bytes, size_t piece_bytes);
void net_kit_send(struct net_kit *k, const struct virtio_net_hdr_v1 *h, const uint8_t *frame,
                  size_t bytes, size_t piece_bytes);
/* Used entries of the transmit queue; all have length 0, else -1. */
int net_kit_sent(struct net_kit *k);
/* An order and its answer; -1: there was none. */
int net_kit_order(struct net_kit *k, uint8_t class, uint8_t cmd, const void *data, size_t bytes);

uint16_t net_kit_status(struct net_kit *k);
bool net_kit_mac_is(struct net_kit *k, const uint8_t *mac);
/* Bytes that tell frames and places apart. */
void net_kit_fill(uint8_t *frame, size_t bytes, unsigned seed);

#endif
