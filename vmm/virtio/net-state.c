/* SPDX-License-Identifier: Apache-2.0 */
/* What is saved of a network device beyond its queues. Frames are not: whoever sent them
 * sends them again. */
#include <errno.h>
#include <string.h>

#include "common/json.h"
#include "vmm/hex.h"
#include "vmm/virtio/net-priv.h"

void net_capture(struct virtio_device *dev, void *state)
{
        struct net *n = net_of(dev);
        struct net_state *s = state;

        /* restored: saved again before it ran */
        *s = (struct net_state){ .running = n->running || n->restored, .offloads = n->offloads };
        lock_acquire(&n->lock);
        memcpy(s->mac, n->mac, sizeof(s->mac));
        s->wanted_up = n->wanted_up;
        lock_release(&n->lock);
}

int net_encode(const void *state, struct json_object *into, struct err *e)
{
        const struct net_state *s = state;

        if (hex_put(into, "mac", s->mac, sizeof(s->mac)) < 0)
                return err_msg(e, ENOMEM, "no memory to save a network device");
        json_put_bool(into, "link", s->wanted_up);
        json_put_bool(into, "running", s->running);
        json_put_u64(into, "offloads", s->offloads);
        return 0;
}

int net_decode(struct json_object *from, void *ret_state, struct err *e)
{
        struct net_state s = { .running = false };
        size_t mac_bytes = 0;
        int rc = hex_take(from, "mac", sizeof(s.mac), s.mac, &mac_bytes, e);

        if (rc == 0)
                rc = json_take_bool(from, "link", &s.wanted_up, e);
        if (rc == 0)
                rc = json_take_bool(from, "running", &s.running, e);
        if (rc == 0)
                rc = json_take_u64(from, "offloads", UINT64_MAX, &s.offloads, e);
        if (rc < 0)
                return rc;
        if (mac_bytes != sizeof(s.mac) || !net_mac_ok(s.mac))
                return err_msg(e, EBADMSG, "'mac' is no device's address");
        if (s.offloads & ~NET_OFFLOADS)
                return err_msg(e, EBADMSG, "'offloads' %#llx has some that are not known: was it "
                               "saved by a newer version?", (unsigned long long)s.offloads);
        *(struct net_state *)ret_state = s;
        return 0;
}

int net_apply(struct virtio_device *dev, const void *state, struct err *e)
{
        struct net *n = net_of(dev);
        const struct net_state *s = state;
        int rc = net_offloads_set(n, s->running ? s->offloads : 0, e);

        if (rc < 0)
                return rc;
        n->restored = n->announce_due = s->running;
        net_rx_forget(n);
        net_mac_set(n, s->mac);
        net_link_set(n, s->wanted_up);
        return 0;
}
