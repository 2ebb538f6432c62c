/* SPDX-License-Identifier: Apache-2.0 */
/* net.h - virtio-net (virtio 1.2, 5.1) over a tap: one pair of queues and the control queue.
 *
 * Checksums and TCP segmentation are left to whoever can do them best, in both directions, as
 * far as the guest and the tap take part. After a revert the guest announces itself to its
 * peers, if its driver knows how (VIRTIO_NET_F_GUEST_ANNOUNCE).
 * Threads: the functions below may be called from any thread, from virtio_net_new() to the
 *          end of the device.
 */
#ifndef VMM_VIRTIO_NET_H
#define VMM_VIRTIO_NET_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "vmm/virtio/device.h"

#define VIRTIO_NET_MAC_BYTES 6

struct virtio_net_options {
        const char *name;               /* "net0" */
        uint8_t mac[VIRTIO_NET_MAC_BYTES];
        int tap;                        /* of tap_open(); -1 = none: the link is down */
};

/* o->tap is the device's from here on, also on failure. */
int virtio_net_new(const struct virtio_net_options *o, struct virtio_device **ret,
                   struct err *e);

/* The cable: what is sent or comes while it is out is dropped. A device without a tap, or that
 * has lost it, stays down. */
void virtio_net_set_link(struct virtio_device *dev, bool up);
/* An advice: drivers read the address when they start. -EINVAL: of a group, or zero. */
int virtio_net_set_mac(struct virtio_device *dev, const uint8_t mac[VIRTIO_NET_MAC_BYTES],
                       struct err *e);
/* Asks the guest to tell its peers where it is; false: its driver cannot. */
bool virtio_net_announce(struct virtio_device *dev);

struct virtio_net_stats {
        bool link_up;
        int tap_error;                  /* negative errno with which the tap was lost; 0 */
        /* rx: to the guest. Bytes are those of frames, without the header. */
        uint64_t rx_packets, rx_bytes;
        uint64_t rx_dropped;            /* too large for the guest's buffers, or damaged */
        uint64_t tx_packets, tx_bytes;
        uint64_t tx_malformed;          /* the guest's fault: header or length is wrong */
        uint64_t tx_dropped;            /* the host's: link or interface down, no memory */
        uint64_t tx_waits;              /* times the tap was full */
        uint64_t control_refused;       /* orders on the control queue that were wrong */
};

void virtio_net_stats(const struct virtio_device *dev, struct virtio_net_stats *ret);

#endif
