/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: taps are opened, or refused with a sentence that helps; and a network device on a real
 *   tap gets and gives frames, with exactly the offloads that its driver negotiated.
 * Method: a network namespace of the test's own; a packet socket is the host's end. */
#include "vmm/virtio/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "tests/unit/expect.h"
#include "tests/unit/net-kit.h"
#include "tests/unit/suite.h"
#include "tests/unit/tap-kit.h"

#define MERGE F(VIRTIO_NET_F_MRG_RXBUF)
#define OUT (F(VIRTIO_NET_F_CSUM) | F(VIRTIO_NET_F_HOST_TSO4))
#define CSUM F(VIRTIO_NET_F_GUEST_CSUM)
#define TSO4 F(VIRTIO_NET_F_GUEST_TSO4)
#define OFFLOADS F(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS)
#define TUN_ALL (TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN)

static uint8_t frame[NET_KIT_FRAME_MAX], got[NET_KIT_FRAME_MAX];

/* ---- opening ---- */

static void opened(void)
{
        AUTO_FD fd = -1;
        struct ifreq ifr;
        struct err e;
        int bytes = 0;

        tap_kit_add("tap0", false);
        CU_ASSERT_EQUAL_FATAL(tap_open("tap0", &fd, &e), 0);
        CU_ASSERT(fcntl(fd, F_GETFL) & O_NONBLOCK);
        CU_ASSERT(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        CU_ASSERT_EQUAL(ioctl(fd, TUNGETVNETHDRSZ, &bytes), 0);
        CU_ASSERT_EQUAL(bytes, 12);
        CU_ASSERT_EQUAL(ioctl(fd, TUNGETIFF, &ifr), 0);
        CU_ASSERT_STRING_EQUAL(ifr.ifr_name, "tap0");
        CU_ASSERT_EQUAL(read(fd, got, sizeof(got)) < 0 ? errno : 0, EAGAIN);
        CU_ASSERT_EQUAL(tap_offloads(fd), TUN_ALL);
        CU_ASSERT_EQUAL(tap_set_offloads(fd, TUN_F_CSUM | TUN_F_TSO6, &e), 0);
        CU_ASSERT(tap_set_offloads(fd, TUN_F_TSO4, &e) < 0);

        /* as another program would have left it to us */
        char name[32];
        int again = -1, inherited = fcntl(fd, F_DUPFD, 50);

        CU_ASSERT(fcntl(inherited, F_SETFL, 0) == 0);
        snprintf(name, sizeof(name), "fd:%d", inherited);
        CU_ASSERT_EQUAL(tap_open(name, &again, &e), 0);
        CU_ASSERT_EQUAL(again, inherited);
        CU_ASSERT(fcntl(again, F_GETFL) & O_NONBLOCK);
        CU_ASSERT(fcntl(again, F_GETFD) & FD_CLOEXEC);
        fd_close(&again);
        tap_kit_delete("tap0");
}

static int tun_without_header(void)
{
        int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
        struct ifreq ifr = { .ifr_name = "plain", .ifr_flags = IFF_TAP | IFF_NO_PI };

        ASSERT(fd >= 0 && ioctl(fd, TUNSETIFF, &ifr) == 0);
        return fd;
}

static void refused(void)
{
        AUTO_FD busy = -1, null = open("/dev/null", O_RDWR | O_CLOEXEC);
        AUTO_FD plain = tun_without_header();
        char of_null[16], of_plain[16];
        const struct {
                const char *name;
                int rc;
                const char *says;
        } t[] = {
                { "tap9", -ENODEV, "ip tuntap add dev tap9 mode tap user $USER" },
                { "", -EINVAL, "name" },
                { "a-name-too-long-for-it", -EINVAL, "a-name-too-long-for-it" },
                { "lo", -EINVAL, "'lo' is not a tap" },
                { "busy0", -EBUSY, "in use by another program" },
                { "many0", -EINVAL, "of one queue" },
                { "/dev/null", -EINVAL, "macvtap" },
                { "/nowhere/tap7", -ENOENT, "/nowhere/tap7" },
                { "fd:", -EINVAL, "fd:N" },
                { "fd:-1", -EINVAL, "fd:N" },
                { "fd:7x", -EINVAL, "fd:N" },
                { "fd:99999999999999999999", -EINVAL, "fd:N" },
                { "fd:987", -EBADF, "close-on-exec" },
                { of_null, -EINVAL, "not a tap's" },
                { of_plain, -EINVAL, "IFF_VNET_HDR" },
        };
        unsigned fds;
        struct err e;

        snprintf(of_null, sizeof(of_null), "fd:%d", null);
        snprintf(of_plain, sizeof(of_plain), "fd:%d", plain);
        tap_kit_add("busy0", false);
        tap_kit_add("many0", true);
        CU_ASSERT_EQUAL(tap_open("busy0", &busy, &e), 0);
        fds = expect_open_fds();
        for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
                int fd = -7;

                EXPECT_EQUAL(t[i].name, tap_open(t[i].name, &fd, &e), t[i].rc);
                EXPECT_TRUE(t[i].name, strstr(e.text, t[i].says) != NULL);
                EXPECT_EQUAL(t[i].name, fd, -7);
                EXPECT_EQUAL(t[i].name, expect_open_fds(), fds);
        }
        CU_ASSERT_EQUAL(if_nametoindex("tap9"), 0);
        CU_ASSERT_EQUAL(tap_offloads(null), 0);
        tap_kit_delete("busy0");
        tap_kit_delete("many0");
}

/* ---- a device on it ---- */

struct net {
        struct net_kit k;
        int host;                       /* packet socket */
        int tap;                        /* the device's */
};

static void begin(struct net *n, uint64_t features)
{
        struct err e;

        tap_kit_add("tap0", false);
        n->host = tap_kit_socket("tap0");
        if (tap_open("tap0", &n->tap, &e) < 0)
                ASSERT(!"tap_open");
        net_kit_init(&n->k, &(struct net_kit_setup){ .tap = n->tap, .features = features,
                                                     .ring_size = 256, .event_idx = true });
        net_kit_post(&n->k, 200, 2048);
}

static void finish(struct net *n)
{
        net_kit_fini(&n->k);
        close(n->host);
        if (if_nametoindex("tap0"))
                tap_kit_delete("tap0");
}

static bool ours(const uint8_t *f)
{
        return f[12] == 8 && f[13] == 0 && f[23] == IPPROTO_TCP;
}

/* The next of our frames that the guest sees; the host's own (IPv6) are left out. 0 = none. */
static int guest_gets(struct net *n, struct virtio_net_hdr_v1 *h)
{
        for (unsigned i = 0; i < 200; i++) {
                int bytes = net_kit_receive(&n->k, h, got);

                if (bytes < 0 || (bytes > 0 && ours(got)))
                        return bytes;
                if (bytes == 0 && net_kit_run(&n->k, 20) == 0 && i > 2)
                        return 0;
        }
        return 0;
}

static int host_gets(struct net *n, struct virtio_net_hdr *h)
{
        for (;;) {
                ssize_t bytes = recv(n->host, got, sizeof(got), 0);

                if (bytes < TAP_KIT_HEADER)
                        return 0;
                if (!ours(got + TAP_KIT_HEADER))
                        continue;
                memcpy(h, got, sizeof(*h));
                return (int)bytes - TAP_KIT_HEADER;
        }
}

static void host_sends(struct net *n, size_t bytes, uint16_t segment_bytes)
{
        uint8_t data[TAP_KIT_HEADER + 16000];

        tap_kit_tcp(data, data + TAP_KIT_HEADER, bytes, segment_bytes);
        CU_ASSERT(send(n->host, data, TAP_KIT_HEADER + bytes, 0) ==
                  (ssize_t)(TAP_KIT_HEADER + bytes));
}

static void guest_sends(struct net *n, size_t bytes, uint16_t segment_bytes)
{
        struct virtio_net_hdr_v1 h = { .flags = 0 };

        tap_kit_tcp((uint8_t *)&h, frame, bytes, segment_bytes);
        net_kit_send(&n->k, &h, frame, bytes, 1000);
        CU_ASSERT(net_kit_settle(&n->k));
        CU_ASSERT_EQUAL(net_kit_sent(&n->k), 1);
}

static void both_ways(void)
{
        struct virtio_net_hdr_v1 v1;
        struct virtio_net_hdr h;
        struct net n;

        begin(&n, MERGE | OUT);
        for (int i = 0; i < 20; i++) {
                guest_sends(&n, 100u + (unsigned)i, 0);
                CU_ASSERT_EQUAL(host_gets(&n, &h), 100 + i);
                CU_ASSERT_EQUAL(memcmp(got + TAP_KIT_HEADER + TAP_KIT_TCP_BYTES,
                                       frame + TAP_KIT_TCP_BYTES, 46), 0);
                host_sends(&n, 1000u + (unsigned)i, 0);
                CU_ASSERT_EQUAL(guest_gets(&n, &v1), 1000 + i);
                CU_ASSERT_EQUAL(got[999], 0x5a);
        }
        guest_sends(&n, 9000, 1448);
        CU_ASSERT_EQUAL(host_gets(&n, &h), 9000);
        CU_ASSERT_EQUAL(h.gso_type, VIRTIO_NET_HDR_GSO_TCPV4);
        CU_ASSERT_EQUAL(h.gso_size, 1448);
        CU_ASSERT_EQUAL(net_kit_stats(&n.k).tx_packets, 21);
        CU_ASSERT_EQUAL(net_kit_stats(&n.k).tx_dropped + net_kit_stats(&n.k).tx_malformed, 0);
        finish(&n);
}

/* How a frame comes of which everything was left undone. */
enum shape { WHOLE, CHECKSUM_LEFT, FINISHED };

static enum shape shape_of_big(struct net *n)
{
        struct virtio_net_hdr_v1 h;
        int bytes;

        host_sends(n, 5054, 1000);
        bytes = guest_gets(n, &h);
        if (bytes == 5054 && h.gso_type == VIRTIO_NET_HDR_GSO_TCPV4 && h.gso_size == 1000)
                return WHOLE;
        for (unsigned i = 0; i < 5; i++) {
                CU_ASSERT_EQUAL(bytes, 1054);
                CU_ASSERT_EQUAL(h.gso_type, 0);
                if (i < 4)
                        bytes = guest_gets(n, &h);
        }
        CU_ASSERT_EQUAL(guest_gets(n, &h), 0);
        return FINISHED;
}

static enum shape shape_of_small(struct net *n)
{
        struct virtio_net_hdr_v1 h;

        host_sends(n, 500, 0);
        CU_ASSERT_EQUAL(guest_gets(n, &h), 500);
        CU_ASSERT_EQUAL(got[34 + 16] == 0 && got[34 + 17] == 0,
                        (h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) != 0);
        return h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM ? CHECKSUM_LEFT : FINISHED;
}

static void offloads(void)
{
        static const struct {
                const char *name;
                uint64_t features;
                enum shape big, small;
        } t[] = {
                { "none", 0, FINISHED, FINISHED },
                { "csum", CSUM, FINISHED, CHECKSUM_LEFT },
                { "tso4", CSUM | TSO4, WHOLE, CHECKSUM_LEFT },
                { "tso4 without csum", TSO4, FINISHED, FINISHED },
        };
        static const uint64_t none, all = CSUM | TSO4;
        struct net n;

        for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
                begin(&n, MERGE | t[i].features);
                EXPECT_EQUAL(t[i].name, shape_of_big(&n), t[i].big);
                EXPECT_EQUAL(t[i].name, shape_of_small(&n), t[i].small);
                finish(&n);
        }

        /* and as the driver orders later; a new driver begins with what it negotiated */
        begin(&n, MERGE | CSUM | TSO4 | OFFLOADS);
        CU_ASSERT_EQUAL(net_kit_order(&n.k, 5, 0, &none, 8), VIRTIO_NET_OK);
        CU_ASSERT_EQUAL(shape_of_big(&n), FINISHED);
        CU_ASSERT_EQUAL(shape_of_small(&n), FINISHED);
        CU_ASSERT_EQUAL(net_kit_order(&n.k, 5, 0, &all, 8), VIRTIO_NET_OK);
        CU_ASSERT_EQUAL(shape_of_big(&n), WHOLE);
        finish(&n);
}

/* The offloads in force are a saved device's, on another tap too. */
static void offloads_reverted(void)
{
        uint8_t state[VIRTIO_STATE_BYTES_MAX], back[VIRTIO_STATE_BYTES_MAX];
        AUTO_JSON *o = json_object_new_object();
        const struct virtio_class *class;
        static const uint64_t csum = CSUM;
        struct net n;

        begin(&n, MERGE | CSUM | TSO4 | OFFLOADS);
        class = n.k.dev->class;
        CU_ASSERT_EQUAL(net_kit_order(&n.k, 5, 0, &csum, 8), VIRTIO_NET_OK);
        class->drain(n.k.dev);
        class->capture(n.k.dev, state);
        CU_ASSERT_EQUAL(class->encode(state, o, NULL), 0);
        finish(&n);

        begin(&n, MERGE | CSUM | TSO4 | OFFLOADS);
        CU_ASSERT_EQUAL(shape_of_big(&n), WHOLE);
        class->drain(n.k.dev);
        CU_ASSERT_EQUAL(class->decode(o, back, NULL), 0);
        CU_ASSERT_EQUAL(class->apply(n.k.dev, back, NULL), 0);
        class->resume(n.k.dev);
        for (unsigned q = 0; q < NET_KIT_QUEUES; q++)
                class->kick(n.k.dev, q);
        CU_ASSERT_EQUAL(shape_of_big(&n), FINISHED);
        CU_ASSERT_EQUAL(shape_of_small(&n), CHECKSUM_LEFT);
        finish(&n);
}

static void down_and_up(void)
{
        struct virtio_net_hdr_v1 v1;
        struct virtio_net_hdr h;
        struct net n;

        begin(&n, MERGE | OUT);
        tap_kit_set_up("tap0", false);
        guest_sends(&n, 100, 0);
        CU_ASSERT_EQUAL(net_kit_stats(&n.k).tx_dropped, 1);
        CU_ASSERT_EQUAL(net_kit_stats(&n.k).tap_error, 0);
        tap_kit_set_up("tap0", true);
        CU_ASSERT_EQUAL(host_gets(&n, &h), 0);          /* its socket says once that it was down */
        guest_sends(&n, 101, 0);
        CU_ASSERT_EQUAL(host_gets(&n, &h), 101);
        host_sends(&n, 102, 0);
        CU_ASSERT_EQUAL(guest_gets(&n, &v1), 102);
        CU_ASSERT(net_kit_stats(&n.k).link_up);
        finish(&n);
}

static void deleted(void)
{
        struct net n;

        for (unsigned first_sends = 0; first_sends < 2; first_sends++) {
                begin(&n, MERGE | OUT);
                tap_kit_delete("tap0");
                if (first_sends)
                        guest_sends(&n, 100, 0);
                CU_ASSERT(net_kit_settle(&n.k));
                CU_ASSERT_EQUAL(net_kit_stats(&n.k).tap_error, -EBADFD);
                CU_ASSERT_EQUAL(net_kit_status(&n.k), 0);
                guest_sends(&n, 100, 0);
                CU_ASSERT_EQUAL(net_kit_stats(&n.k).tx_dropped, 1 + first_sends);
                finish(&n);
        }
}

/* A guest that takes nothing: the tap's own queue fills, we do not spin, and what is left
 * comes once there are buffers. */
static void no_buffers(void)
{
        struct virtio_net_hdr_v1 h;
        struct net n;
        unsigned came = 0;

        begin(&n, MERGE | OUT);
        for (unsigned i = 0; i < 1000 && n.k.guest[0].nfree < 256; i++) {
                host_sends(&n, 100, 0);
                net_kit_run(&n.k, 0);
                net_kit_receive(&n.k, &h, got);
        }
        CU_ASSERT_EQUAL(n.k.guest[0].nfree, 256);
        net_kit_settle(&n.k);
        for (unsigned i = 0; i < 2000; i++)
                host_sends(&n, 200, 0);
        CU_ASSERT_EQUAL(net_kit_run(&n.k, 0), 0);
        CU_ASSERT_EQUAL(net_kit_receive(&n.k, &h, got), 0);
        for (unsigned i = 0; i < 100; i++) {
                net_kit_post(&n.k, 1, 2048);
                CU_ASSERT(net_kit_settle(&n.k));
                came += net_kit_receive(&n.k, &h, got) > 0;
        }
        CU_ASSERT_EQUAL(came, 100);
        finish(&n);
}

static const CU_TestInfo cases[] = {
        { "a tap is opened, or inherited", opened },
        { "what is no tap is refused", refused },
        { "frames both ways", both_ways },
        { "offloads are those that were negotiated", offloads },
        { "offloads come back after a revert", offloads_reverted },
        { "an interface that is down, and up again", down_and_up },
        { "an interface that is deleted", deleted },
        { "a guest without buffers", no_buffers },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        if (!tap_kit_enter())
                return SUITE_SKIP;
        return suite_main("tap", cases);
}
