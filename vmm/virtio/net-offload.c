/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest lets the host leave undone in frames that it receives, and how a tap calls it. */
#include <errno.h>

#include "common/check.h"
#include "vmm/virtio/net-priv.h"
#include "vmm/virtio/tap.h"

static const struct {
        unsigned feature;
        unsigned tun;
        const char *name;
} offloads_known[] = {
        { VIRTIO_NET_F_GUEST_CSUM, TUN_F_CSUM, "the tap's offload csum (checksums)" },
        { VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4, "the tap's offload tso4 (segments of IPv4)" },
        { VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6, "the tap's offload tso6 (segments of IPv6)" },
        { VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN, "the tap's offload tso-ecn (ECN in segments)" },
};

const char *net_feature_name(unsigned bit)
{
        for (size_t i = 0; i < ARRAY_SIZE(offloads_known); i++) {
                if (offloads_known[i].feature == bit)
                        return offloads_known[i].name;
        }
        return NULL;
}

uint64_t net_offloads_of_tap(unsigned tap_offloads)
{
        uint64_t features = 0;

        for (size_t i = 0; i < ARRAY_SIZE(offloads_known); i++) {
                if (tap_offloads & offloads_known[i].tun)
                        features |= NET_BIT(offloads_known[i].feature);
        }
        return features;
}

/* A tap takes no segmentation without checksums, and no ECN without segmentation. A driver may
 * ask for such a thing; it is not served. */
static uint64_t with_what_they_need(uint64_t offloads)
{
        uint64_t tso = NET_BIT(VIRTIO_NET_F_GUEST_TSO4) | NET_BIT(VIRTIO_NET_F_GUEST_TSO6);

        if (!(offloads & NET_BIT(VIRTIO_NET_F_GUEST_CSUM)))
                return 0;
        return offloads & tso ? offloads : offloads & ~NET_BIT(VIRTIO_NET_F_GUEST_ECN);
}

int net_offloads_set(struct net *n, uint64_t offloads, struct err *e)
{
        bool has_tap = n->tap >= 0 && !n->lost;
        unsigned tun = 0;

        ASSERT((offloads & ~NET_OFFLOADS) == 0);
        offloads = with_what_they_need(offloads);
        for (size_t i = 0; i < ARRAY_SIZE(offloads_known); i++) {
                if (!(offloads & NET_BIT(offloads_known[i].feature)))
                        continue;
                if (has_tap && !(n->tap_offloads & offloads_known[i].tun))
                        return err_msg(e, ENOTSUP, "%s: the guest uses %s, which this host does "
                                       "not have", n->dev.name, offloads_known[i].name);
                tun |= offloads_known[i].tun;
        }

        /* what is no tap has none, and knows no such order */
        int rc = has_tap && n->tap_offloads ? tap_set_offloads(n->tap, tun, e) : 0;

        if (rc < 0)
                return err_in(e, rc, "%s", n->dev.name);
        n->offloads = offloads;
        return 0;
}
