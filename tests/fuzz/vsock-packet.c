/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: no bytes of a guest or of a host client make the codecs of vsock misbehave, and what
 *   they take is what they promise.
 * Method: libFuzzer, or mutations of one good packet and one good line (mutate.h). */
#include "vmm/virtio/vsock-packet.h"

#include <string.h>

#include "common/check.h"
#include "tests/fuzz/mutate.h"

#define CID 42

static void take_packet(const uint8_t *data, size_t bytes)
{
        size_t header_bytes = bytes < VSOCK_HEADER_BYTES ? bytes : VSOCK_HEADER_BYTES;
        size_t payload_bytes = bytes - header_bytes;
        uint8_t again[VSOCK_HEADER_BYTES];
        struct vsock_packet p;
        enum vsock_verdict verdict = vsock_packet_decode(data, header_bytes, payload_bytes, CID,
                                                         &p);

        if (verdict == VSOCK_DROP)
                return;
        ASSERT(p.src_cid == CID && p.dst_cid == VSOCK_CID_HOST);
        vsock_packet_encode(&p, again);
        ASSERT(memcmp(again, data, sizeof(again)) == 0);
        if (verdict == VSOCK_REFUSE) {
                ASSERT(p.op != VIRTIO_VSOCK_OP_RST);
                return;
        }
        ASSERT(p.len <= payload_bytes && p.type == VIRTIO_VSOCK_TYPE_STREAM);
        ASSERT(p.op >= VIRTIO_VSOCK_OP_REQUEST && p.op <= VIRTIO_VSOCK_OP_CREDIT_REQUEST);
}

static void take_line(const uint8_t *data, size_t bytes)
{
        uint32_t port = 4711;
        int rc = vsock_connect_parse((const char *)data, bytes, &port);

        if (rc == 0)
                ASSERT(bytes > 9 && data[bytes - 1] == '\n' && port != UINT32_MAX);
        else
                ASSERT(port == 4711);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
        take_packet(data, bytes);
        take_line(data, bytes);
        return 0;
}

#ifndef FUZZ_WITH_LIBFUZZER

int main(int argc, char **argv)
{
        const struct vsock_packet good = {
                .src_cid = CID, .dst_cid = VSOCK_CID_HOST, .src_port = 1025, .dst_port = 80,
                .len = 4, .type = VIRTIO_VSOCK_TYPE_STREAM, .op = VIRTIO_VSOCK_OP_RW,
                .buf_alloc = 65536, .fwd_cnt = 4096,
        };
        uint8_t packet[VSOCK_HEADER_BYTES + 4] = { 0 };
        static const char line[] = "CONNECT 1024 \r\n";
        int rc;

        vsock_packet_encode(&good, packet);
        rc = mutate_main(argc, argv, packet, sizeof(packet));
        if (rc == 0 && argc < 2)
                rc = mutate_main(argc, argv, (const uint8_t *)line, strlen(line));
        return rc;
}

#endif
