/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: packets and lines are taken exactly when the device can do something with them.
 * Method: a good packet with one thing changed in each row; lines with what clients send. */
#include "vmm/virtio/vsock-packet.h"

#include <errno.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

#define CID 0x89u
#define PAYLOAD 100u

static const struct vsock_packet good = {
        .src_cid = CID, .dst_cid = 2, .src_port = 0x01020304, .dst_port = 0x05060708, .len = 100,
        .type = 1, .op = VIRTIO_VSOCK_OP_RW, .flags = 0x11, .buf_alloc = 0x21222324,
        .fwd_cnt = 0x31323334,
};

static void layout_is_the_specification_s(void)
{
        uint8_t h[VSOCK_HEADER_BYTES];

        vsock_packet_encode(&good, h);
        CU_ASSERT_EQUAL(get_le64(h), CID);
        CU_ASSERT_EQUAL(get_le64(h + 8), 2);
        CU_ASSERT_EQUAL(get_le32(h + 16), 0x01020304);
        CU_ASSERT_EQUAL(get_le32(h + 20), 0x05060708);
        CU_ASSERT_EQUAL(get_le32(h + 24), 100);
        CU_ASSERT_EQUAL(get_le16(h + 28), 1);
        CU_ASSERT_EQUAL(get_le16(h + 30), 5);
        CU_ASSERT_EQUAL(get_le32(h + 32), 0x11);
        CU_ASSERT_EQUAL(get_le32(h + 36), 0x21222324);
        CU_ASSERT_EQUAL(get_le32(h + 40), 0x31323334);
}

struct change {
        const char *row;
        size_t offset, bytes;
        uint64_t value;
        enum vsock_verdict want;
};

static const struct change changes[] = {
        { "nothing", 0, 0, 0, VSOCK_TAKE },
        { "another guest's", 0, 8, CID + 1, VSOCK_DROP },
        { "the host's own", 0, 8, 2, VSOCK_DROP },
        { "cid of 64 bits", 0, 8, 1ull << 32 | CID, VSOCK_DROP },
        { "to another guest", 8, 8, 3, VSOCK_DROP },
        { "to cid 1", 8, 8, 1, VSOCK_DROP },
        { "less than the payload", 24, 4, 99, VSOCK_TAKE },
        { "one more than the payload", 24, 4, 101, VSOCK_REFUSE },
        { "4 GiB of payload", 24, 4, UINT32_MAX, VSOCK_REFUSE },
        { "seqpacket", 28, 2, 2, VSOCK_REFUSE },
        { "type 0", 28, 2, 0, VSOCK_REFUSE },
        { "op 0", 30, 2, 0, VSOCK_REFUSE },
        { "last op", 30, 2, 7, VSOCK_TAKE },
        { "op 8", 30, 2, 8, VSOCK_REFUSE },
        { "op of 16 bits", 30, 2, 0x0105, VSOCK_REFUSE },
        { "any flags", 32, 4, UINT32_MAX, VSOCK_TAKE },
};

static void each_field(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
                const struct change *c = &changes[i];
                uint8_t h[VSOCK_HEADER_BYTES], value[8];
                struct vsock_packet p;

                vsock_packet_encode(&good, h);
                put_le64(value, c->value);
                memcpy(h + c->offset, value, c->bytes);
                EXPECT_EQUAL(c->row, vsock_packet_decode(h, sizeof(h), PAYLOAD, CID, &p), c->want);
        }
}

static void a_reset_is_never_refused(void)
{
        struct vsock_packet odd = good, p;
        uint8_t h[VSOCK_HEADER_BYTES];

        odd.op = VIRTIO_VSOCK_OP_RST;
        odd.type = 2;
        vsock_packet_encode(&odd, h);
        CU_ASSERT_EQUAL(vsock_packet_decode(h, sizeof(h), PAYLOAD, CID, &p), VSOCK_DROP);
        odd.type = 1;
        odd.len = PAYLOAD + 1;
        vsock_packet_encode(&odd, h);
        CU_ASSERT_EQUAL(vsock_packet_decode(h, sizeof(h), PAYLOAD, CID, &p), VSOCK_DROP);
}

static void short_ones_are_dropped(void)
{
        uint8_t h[VSOCK_HEADER_BYTES];
        struct vsock_packet p;

        vsock_packet_encode(&good, h);
        for (size_t bytes = 0; bytes < sizeof(h); bytes++)
                CU_ASSERT_EQUAL(vsock_packet_decode(h, bytes, PAYLOAD, CID, &p), VSOCK_DROP);
}

static const struct {
        const char *line;
        int rc;
        uint32_t port;
} lines[] = {
        { "CONNECT 52\n", 0, 52 },
        { "connect 52\n", 0, 52 },
        { "CONNECT \t 52 \r\n", 0, 52 },
        { "CONNECT 0\n", 0, 0 },
        { "CONNECT 0000000052\n", 0, 52 },
        { "CONNECT 4294967294\n", 0, 4294967294u },
        { "CONNECT 4294967295\n", -EBADMSG, 0 },
        { "CONNECT 4294967296\n", -EBADMSG, 0 },
        { "CONNECT 18446744073709551668\n", -EBADMSG, 0 },
        { "CONNECT -1\n", -EBADMSG, 0 },
        { "CONNECT +1\n", -EBADMSG, 0 },
        { "CONNECT 0x10\n", -EBADMSG, 0 },
        { "CONNECT 52", -EBADMSG, 0 },
        { "CONNECT 52 53\n", -EBADMSG, 0 },
        { "CONNECT52\n", -EBADMSG, 0 },
        { "CONNECT\n", -EBADMSG, 0 },
        { "CONNECT \n", -EBADMSG, 0 },
        { " CONNECT 52\n", -EBADMSG, 0 },
        { "CONNECT 52\n\n", -EBADMSG, 0 },
        { "GET / HTTP/1.1\n", -EBADMSG, 0 },
        { "\n", -EBADMSG, 0 },
        { "", -EBADMSG, 0 },
};

static void lines_of_clients(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
                uint32_t port = 0;

                EXPECT_EQUAL(lines[i].line,
                             vsock_connect_parse(lines[i].line, strlen(lines[i].line), &port),
                             lines[i].rc);
                EXPECT_EQUAL(lines[i].line, port, lines[i].port);
        }
        CU_ASSERT_EQUAL(vsock_connect_parse("CONNECT 5\0\n", 11, &(uint32_t){ 0 }), -EBADMSG);
}

static const CU_TestInfo cases[] = {
        { "the layout is the specification's", layout_is_the_specification_s },
        { "each field, changed", each_field },
        { "a reset is never refused", a_reset_is_never_refused },
        { "short ones are dropped", short_ones_are_dropped },
        { "lines of clients", lines_of_clients },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("vsock-packet", cases);
}
