/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/tap-kit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/check.h"

bool tap_kit_enter(void)
{
        AUTO_FD tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

        if (tun < 0) {
                printf("skipped: cannot open /dev/net/tun: %s\n", strerror(errno));
                return false;
        }
        if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) {
                printf("skipped: cannot make a network namespace: %s\n", strerror(errno));
                return false;
        }
        return true;
}

void tap_kit_add(const char *name, bool multi_queue)
{
        AUTO_FD tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
        struct ifreq ifr = { .ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR |
                                                  (multi_queue ? IFF_MULTI_QUEUE : 0)) };

        snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);

        int rc = ioctl(tun, TUNSETIFF, &ifr) | ioctl(tun, TUNSETPERSIST, 1ul);

        ASSERT(rc == 0);
        tap_kit_set_up(name, true);
}

void tap_kit_delete(const char *name)
{
        struct {
                struct nlmsghdr head;
                struct ifinfomsg link;
                char answer[256];
        } m = {
                .head = { .nlmsg_len = sizeof(m.head) + sizeof(m.link), .nlmsg_type = RTM_DELLINK,
                          .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK },
                .link = { .ifi_family = AF_UNSPEC, .ifi_index = (int)if_nametoindex(name) },
        };
        AUTO_FD s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
        ssize_t rc = send(s, &m, m.head.nlmsg_len, 0);

        ASSERT(rc > 0);
        rc = recv(s, &m, sizeof(m), 0);
        ASSERT(rc > 0 && if_nametoindex(name) == 0);
}

void tap_kit_set_up(const char *name, bool up)
{
        AUTO_FD s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct ifreq ifr = { .ifr_flags = (short)(up ? IFF_UP : 0) };

        snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);

        int rc = ioctl(s, SIOCSIFFLAGS, &ifr);

        ASSERT(rc == 0);
}

int tap_kit_socket(const char *name)
{
        struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL),
                                  .sll_ifindex = (int)if_nametoindex(name) };
        int s = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(ETH_P_ALL));
        int on = 1;
        int rc = setsockopt(s, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)) |
                 bind(s, (struct sockaddr *)&at, sizeof(at));

        ASSERT(s >= 0 && rc == 0);
        return s;
}

static uint16_t ip_checksum(const uint8_t *ip)
{
        uint32_t sum = 0;

        for (unsigned i = 0; i < 20; i += 2)
                sum += get_be16(ip + i);
        while (sum >> 16)
                sum = (sum & 0xffff) + (sum >> 16);
        return (uint16_t)~sum;
}

void tap_kit_tcp(uint8_t *header, uint8_t *frame, size_t bytes, uint16_t segment_bytes)
{
        static const uint8_t to[] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56, 2, 0, 0, 0, 0, 9, 8, 0 };
        struct virtio_net_hdr h = {
                .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 34, .csum_offset = 16,
        };
        uint8_t *ip = frame + 14, *tcp = ip + 20;

        ASSERT(bytes >= TAP_KIT_TCP_BYTES && bytes < 65536);
        if (segment_bytes) {
                h.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
                h.hdr_len = TAP_KIT_TCP_BYTES;
                h.gso_size = segment_bytes;
        }
        memcpy(header, &h, TAP_KIT_HEADER);
        memset(frame, 0, TAP_KIT_TCP_BYTES);
        memset(frame + TAP_KIT_TCP_BYTES, 0x5a, bytes - TAP_KIT_TCP_BYTES);
        memcpy(frame, to, sizeof(to));
        ip[0] = 0x45;
        put_be16(ip + 2, (uint16_t)(bytes - 14));
        ip[8] = 64;
        ip[9] = IPPROTO_TCP;
        put_be32(ip + 12, 0x0a000001);
        put_be32(ip + 16, 0x0a000002);
        put_be16(ip + 10, ip_checksum(ip));
        put_be16(tcp, 1000);
        put_be16(tcp + 2, 2000);
        tcp[12] = 5 << 4;
        tcp[13] = 0x10;
        put_be16(tcp + 14, 0xffff);
}
