/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: of a header only that is believed which was negotiated and lies inside its frame.
 * Method: tables of one good header with one thing wrong, in both directions. */
#include "vmm/virtio/net-header.h"

#include <string.h>

#include "common/check.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

#define F(feature) (1ull << (feature))
#define OUT (F(VIRTIO_NET_F_CSUM) | F(VIRTIO_NET_F_HOST_TSO4) | F(VIRTIO_NET_F_HOST_TSO6) | \
             F(VIRTIO_NET_F_HOST_ECN))
#define IN (F(VIRTIO_NET_F_GUEST_CSUM) | F(VIRTIO_NET_F_GUEST_TSO4) | \
            F(VIRTIO_NET_F_GUEST_TSO6) | F(VIRTIO_NET_F_GUEST_ECN))
#define FRAME 2000

enum { NEEDS_CSUM = VIRTIO_NET_HDR_F_NEEDS_CSUM, DATA_VALID = VIRTIO_NET_HDR_F_DATA_VALID };
enum { TSO4 = VIRTIO_NET_HDR_GSO_TCPV4, TSO6 = VIRTIO_NET_HDR_GSO_TCPV6,
       UFO = VIRTIO_NET_HDR_GSO_UDP, ECN = VIRTIO_NET_HDR_GSO_ECN };

struct row {
        const char *name;
        struct virtio_net_hdr_v1 h;     /* flags, type, header, segment, start, offset */
        uint64_t without;               /* of OUT or IN */
        bool ok;
};

static const struct row rows[] = {
        { "nothing asked", { 0, 0, 0, 0, { { 0, 0 } }, 0 }, OUT | IN, true },
        { "checksum", { NEEDS_CSUM, 0, 0, 0, { { 34, 16 } }, 0 }, 0, true },
        { "checksum at the end", { NEEDS_CSUM, 0, 0, 0, { { FRAME - 2, 0 } }, 0 }, 0, true },
        { "checksum a byte behind", { NEEDS_CSUM, 0, 0, 0, { { FRAME - 2, 1 } }, 0 }, 0, false },
        { "sum wraps", { NEEDS_CSUM, 0, 0, 0, { { 0xffff, 0xffff } }, 0 }, 0, false },
        { "no checksum negotiated", { NEEDS_CSUM, 0, 0, 0, { { 34, 16 } }, 0 },
          F(VIRTIO_NET_F_CSUM) | F(VIRTIO_NET_F_GUEST_CSUM), false },
        { "tso4", { NEEDS_CSUM, TSO4, 54, 1448, { { 34, 16 } }, 0 }, 0, true },
        { "tso6", { NEEDS_CSUM, TSO6, 74, 1428, { { 54, 16 } }, 0 }, 0, true },
        { "tso4 with ecn", { NEEDS_CSUM, TSO4 | ECN, 54, 1448, { { 34, 16 } }, 0 }, 0, true },
        { "no tso4 negotiated", { NEEDS_CSUM, TSO4, 54, 1448, { { 34, 16 } }, 0 },
          F(VIRTIO_NET_F_HOST_TSO4) | F(VIRTIO_NET_F_GUEST_TSO4), false },
        { "no tso6 negotiated", { NEEDS_CSUM, TSO6, 74, 1428, { { 54, 16 } }, 0 },
          F(VIRTIO_NET_F_HOST_TSO6) | F(VIRTIO_NET_F_GUEST_TSO6), false },
        { "no ecn negotiated", { NEEDS_CSUM, TSO4 | ECN, 54, 1448, { { 34, 16 } }, 0 },
          F(VIRTIO_NET_F_HOST_ECN) | F(VIRTIO_NET_F_GUEST_ECN), false },
        { "ufo", { NEEDS_CSUM, UFO, 42, 1480, { { 34, 6 } }, 0 }, 0, false },
        { "ecn of nothing", { NEEDS_CSUM, ECN, 54, 1448, { { 34, 16 } }, 0 }, 0, false },
        { "unknown type", { NEEDS_CSUM, 0x20, 54, 1448, { { 34, 16 } }, 0 }, 0, false },
        { "segments without checksum", { 0, TSO4, 54, 1448, { { 34, 16 } }, 0 }, 0, false },
        { "segments of nothing", { NEEDS_CSUM, TSO4, 54, 0, { { 34, 16 } }, 0 }, 0, false },
        { "headers longer than all", { NEEDS_CSUM, TSO4, FRAME + 1, 1448, { { 34, 16 } }, 0 }, 0,
          false },
        { "headers as long as all", { NEEDS_CSUM, TSO4, FRAME, 1448, { { 34, 16 } }, 0 }, 0, true },
};

static void table(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                const struct row *r = &rows[i];
                struct virtio_net_hdr_v1 got;

                memset(&got, 0x5a, sizeof(got));
                EXPECT_EQUAL(r->name, net_header_from_guest(&r->h, FRAME, OUT & ~r->without, &got),
                             r->ok);
                if (r->ok)
                        EXPECT_EQUAL(r->name, memcmp(&got, &r->h, sizeof(got)), 0);
                else
                        EXPECT_EQUAL(r->name, got.flags, 0x5a);
                EXPECT_EQUAL(r->name, net_header_from_tap(&r->h, FRAME, IN & ~r->without, &got),
                             r->ok);
                EXPECT_TRUE(r->name, !r->ok || got.num_buffers == 1);
        }
}

static void lengths(void)
{
        static const struct virtio_net_hdr_v1 none;
        static const struct {
                size_t bytes;
                bool ok;
        } t[] = {
                { 0, false }, { 13, false }, { 14, true }, { NET_FRAME_BYTES_MAX, true },
                { NET_FRAME_BYTES_MAX + 1, false }, { SIZE_MAX, false },
        };
        struct virtio_net_hdr_v1 h;

        for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
                CU_ASSERT_EQUAL(net_header_from_guest(&none, t[i].bytes, OUT, &h), t[i].ok);
                CU_ASSERT_EQUAL(net_header_from_tap(&none, t[i].bytes, IN, &h), t[i].ok);
        }
}

/* What means nothing is not passed on: fields without their flag, flags of the other side. */
static void cleaned(void)
{
        static const struct virtio_net_hdr_v1 junk = {
                .flags = 0xfe, .hdr_len = 1, .gso_size = 2, .csum_start = 3, .csum_offset = 4,
                .num_buffers = 5,
        };
        static const struct virtio_net_hdr_v1 none;
        struct virtio_net_hdr_v1 h;

        CU_ASSERT(net_header_from_guest(&junk, FRAME, OUT, &h));
        CU_ASSERT_EQUAL(memcmp(&h, &none, sizeof(h)), 0);
        CU_ASSERT(net_header_from_tap(&junk, FRAME, IN, &h));
        CU_ASSERT_EQUAL(h.flags, DATA_VALID);
        CU_ASSERT(net_header_from_tap(&junk, FRAME, 0, &h));
        CU_ASSERT_EQUAL(h.flags, 0);
        CU_ASSERT_EQUAL(h.gso_size | h.hdr_len | h.csum_start | h.csum_offset, 0);
}

static const CU_TestInfo cases[] = {
        { "each thing that can be wrong", table },
        { "frames have a shortest and a longest", lengths },
        { "what means nothing is left out", cleaned },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("net-header", cases);
}
