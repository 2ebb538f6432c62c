/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/vsock-packet.h"

#include <ctype.h>
#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "common/check.h"

static_assert(sizeof(struct virtio_vsock_hdr) == VSOCK_HEADER_BYTES, "the header is fixed");

static void take_header(const void *header, struct vsock_packet *ret)
{
        struct virtio_vsock_hdr h;

        memcpy(&h, header, sizeof(h));
        *ret = (struct vsock_packet){
                .src_cid = le64toh(h.src_cid), .dst_cid = le64toh(h.dst_cid),
                .src_port = le32toh(h.src_port), .dst_port = le32toh(h.dst_port),
                .len = le32toh(h.len), .type = le16toh(h.type), .op = le16toh(h.op),
                .flags = le32toh(h.flags),
                .buf_alloc = le32toh(h.buf_alloc), .fwd_cnt = le32toh(h.fwd_cnt),
        };
}

static bool known_op(uint16_t op)
{
        return op >= VIRTIO_VSOCK_OP_REQUEST && op <= VIRTIO_VSOCK_OP_CREDIT_REQUEST;
}

enum vsock_verdict vsock_packet_decode(const void *header, size_t bytes, size_t payload_bytes,
                                       uint64_t guest_cid, struct vsock_packet *ret)
{
        struct vsock_packet p;

        if (bytes < VSOCK_HEADER_BYTES)
                return VSOCK_DROP;
        take_header(header, &p);
        if (p.src_cid != guest_cid || p.dst_cid != VSOCK_CID_HOST)
                return VSOCK_DROP;

        bool good = p.type == VIRTIO_VSOCK_TYPE_STREAM && known_op(p.op) &&
                    p.len <= payload_bytes;

        /* nobody answers RST with RST: two that do would never end */
        if (!good && p.op == VIRTIO_VSOCK_OP_RST)
                return VSOCK_DROP;
        *ret = p;
        return good ? VSOCK_TAKE : VSOCK_REFUSE;
}

void vsock_packet_encode(const struct vsock_packet *p, void *ret_header)
{
        struct virtio_vsock_hdr h = {
                .src_cid = htole64(p->src_cid), .dst_cid = htole64(p->dst_cid),
                .src_port = htole32(p->src_port), .dst_port = htole32(p->dst_port),
                .len = htole32(p->len), .type = htole16(p->type), .op = htole16(p->op),
                .flags = htole32(p->flags),
                .buf_alloc = htole32(p->buf_alloc), .fwd_cnt = htole32(p->fwd_cnt),
        };

        memcpy(ret_header, &h, sizeof(h));
}

/* ---- the line of a host client --------------------------------------------- */

static size_t skip_blanks(const char *line, size_t at, size_t bytes)
{
        while (at < bytes && (line[at] == ' ' || line[at] == '\t' || line[at] == '\r'))
                at++;
        return at;
}

/* The number at *at, which is moved behind it; false: none, or too large. */
static bool take_port(const char *line, size_t bytes, size_t *at, uint32_t *ret)
{
        uint64_t v = 0;
        size_t i = *at;

        while (i < bytes && isdigit((unsigned char)line[i]) && v <= UINT32_MAX)
                v = v * 10 + (uint64_t)(line[i++] - '0');
        /* the last one means any port */
        if (i == *at || v >= UINT32_MAX)
                return false;
        *at = i;
        *ret = (uint32_t)v;
        return true;
}

int vsock_connect_parse(const char *line, size_t bytes, uint32_t *ret_port)
{
        static const char word[] = "CONNECT";
        const size_t word_bytes = sizeof(word) - 1;
        uint32_t port;

        if (bytes < word_bytes || strncasecmp(line, word, word_bytes) != 0)
                return -EBADMSG;

        size_t at = skip_blanks(line, word_bytes, bytes);

        if (at == word_bytes || !take_port(line, bytes, &at, &port))
                return -EBADMSG;
        at = skip_blanks(line, at, bytes);
        if (at + 1 != bytes || line[at] != '\n')
                return -EBADMSG;
        *ret_port = port;
        return 0;
}
