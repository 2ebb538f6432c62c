/* SPDX-License-Identifier: Apache-2.0 */
/* vsock-packet.h - what the two sides of a vsock device say, as checked values: a guest its
 * packets (virtio 1.2, 5.10.6), a host client the line that it begins with.
 *
 * Pure functions. What they take is trusted behind them: addresses are the guest's and the
 * host's, the payload is there. Ports and counters are any.
 */
#ifndef VMM_VIRTIO_VSOCK_PACKET_H
#define VMM_VIRTIO_VSOCK_PACKET_H

#include <linux/virtio_vsock.h>
#include <stddef.h>
#include <stdint.h>

#define VSOCK_HEADER_BYTES 44
#define VSOCK_CID_HOST 2u
/* those below are reserved or the host, the last means any */
#define VSOCK_CID_MIN 3u
#define VSOCK_CID_MAX (UINT32_MAX - 1)
/* the longest: "CONNECT 4294967295\n", with some blanks */
#define VSOCK_CONNECT_BYTES_MAX 32

/* Of a stream; type is that of a refused packet, else VIRTIO_VSOCK_TYPE_STREAM. */
struct vsock_packet {
        uint64_t src_cid, dst_cid;
        uint32_t src_port, dst_port;
        uint32_t len;                   /* payload bytes behind the header */
        uint16_t type;                  /* enum virtio_vsock_type */
        uint16_t op;                    /* enum virtio_vsock_op */
        uint32_t flags;                 /* enum virtio_vsock_shutdown */
        uint32_t buf_alloc, fwd_cnt;
};

enum vsock_verdict {
        VSOCK_TAKE,
        VSOCK_REFUSE,                   /* no such type or op, less payload than said: answer RST */
        VSOCK_DROP,                     /* not from this guest to the host, or not a packet */
};

/* header: bytes of it, VSOCK_HEADER_BYTES unless the packet is shorter. payload_bytes: what
 * the packet has behind it. *ret is filled unless it is dropped. */
enum vsock_verdict vsock_packet_decode(const void *header, size_t bytes, size_t payload_bytes,
                                       uint64_t guest_cid, struct vsock_packet *ret);
void vsock_packet_encode(const struct vsock_packet *p, void *ret_header);

/* "CONNECT PORT" and what ends the line, which is the last of bytes. 0 or -EBADMSG. */
int vsock_connect_parse(const char *line, size_t bytes, uint32_t *ret_port);

#endif
