/* SPDX-License-Identifier: Apache-2.0 */
/* net-header.h - the 12 bytes in front of each frame: what of them is believed.
 *
 * Pure functions, no I/O. `features` and `offloads` are sets of VIRTIO_NET_F_* bits.
 */
#ifndef VMM_VIRTIO_NET_HEADER_H
#define VMM_VIRTIO_NET_HEADER_H

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/virtio/tap.h"

#define NET_HEADER_BYTES TAP_HEADER_BYTES
/* an Ethernet header: shorter than that is no frame */
#define NET_FRAME_BYTES_MIN 14u
/* The largest IP packet, with two VLAN tags. */
#define NET_FRAME_BYTES_MAX (65535u + 14 + 2 * 4)

/* What a guest wrote in front of a frame of frame_bytes that it sends, under these negotiated
 * features. true: *ret is what of it the tap shall see. */
bool net_header_from_guest(const struct virtio_net_hdr_v1 *raw, size_t frame_bytes,
                           uint64_t features, struct virtio_net_hdr_v1 *ret);
/* The same for a frame that the tap gave, for a guest that takes these offloads
 * (VIRTIO_NET_F_GUEST_*). num_buffers is 1. */
bool net_header_from_tap(const struct virtio_net_hdr_v1 *raw, size_t frame_bytes,
                         uint64_t offloads, struct virtio_net_hdr_v1 *ret);

#endif
