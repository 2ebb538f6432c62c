/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/net-header.h"

#include <assert.h>

/* All fields are little-endian, as we are. */
static_assert(sizeof(struct virtio_net_hdr_v1) == NET_HEADER_BYTES, "virtio 1.2, 5.1.6");

/* The features that allow each thing, in one direction. */
struct direction {
        unsigned csum, tso4, tso6, ecn;
};

static const struct direction from_guest = {
        VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_HOST_ECN,
};
static const struct direction from_tap = {
        VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6,
        VIRTIO_NET_F_GUEST_ECN,
};

static bool has(uint64_t features, unsigned bit)
{
        return features >> bit & 1;
}

static bool checksum_ok(const struct virtio_net_hdr_v1 *h, size_t frame_bytes)
{
        return (size_t)h->csum_start + h->csum_offset + sizeof(uint16_t) <= frame_bytes;
}

/* A segment's checksum is always left to be done too (5.1.6.2). */
static bool segments_ok(const struct virtio_net_hdr_v1 *h, size_t frame_bytes, uint64_t features,
                        const struct direction *d)
{
        unsigned ecn = h->gso_type & VIRTIO_NET_HDR_GSO_ECN;
        unsigned type = h->gso_type & ~(unsigned)VIRTIO_NET_HDR_GSO_ECN;

        if (type != VIRTIO_NET_HDR_GSO_TCPV4 && type != VIRTIO_NET_HDR_GSO_TCPV6)
                return false;
        return has(features, type == VIRTIO_NET_HDR_GSO_TCPV4 ? d->tso4 : d->tso6) &&
               (!ecn || has(features, d->ecn)) && (h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) &&
               h->gso_size > 0 && h->hdr_len <= frame_bytes;
}

/* Fields that mean nothing under these flags are zero in *ret. */
static bool check(const struct virtio_net_hdr_v1 *raw, size_t frame_bytes, uint64_t features,
                  const struct direction *d, struct virtio_net_hdr_v1 *ret)
{
        struct virtio_net_hdr_v1 h = { .flags = raw->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM };

        if (frame_bytes < NET_FRAME_BYTES_MIN || frame_bytes > NET_FRAME_BYTES_MAX)
                return false;
        if (h.flags) {
                if (!has(features, d->csum) || !checksum_ok(raw, frame_bytes))
                        return false;
                h.csum_start = raw->csum_start;
                h.csum_offset = raw->csum_offset;
        }
        if (raw->gso_type != VIRTIO_NET_HDR_GSO_NONE) {
                if (!segments_ok(raw, frame_bytes, features, d))
                        return false;
                h.gso_type = raw->gso_type;
                h.gso_size = raw->gso_size;
                h.hdr_len = raw->hdr_len;
        }
        *ret = h;
        return true;
}

bool net_header_from_guest(const struct virtio_net_hdr_v1 *raw, size_t frame_bytes,
                           uint64_t features, struct virtio_net_hdr_v1 *ret)
{
        return check(raw, frame_bytes, features, &from_guest, ret);
}

bool net_header_from_tap(const struct virtio_net_hdr_v1 *raw, size_t frame_bytes,
                         uint64_t offloads, struct virtio_net_hdr_v1 *ret)
{
        struct virtio_net_hdr_v1 h;

        if (!check(raw, frame_bytes, offloads, &from_tap, &h))
                return false;
        /* which says more, but only to who may be told at all (5.1.6.4.1) */
        if (has(offloads, VIRTIO_NET_F_GUEST_CSUM))
                h.flags |= raw->flags & VIRTIO_NET_HDR_F_DATA_VALID;
        h.num_buffers = 1;
        *ret = h;
        return true;
}
