/* SPDX-License-Identifier: Apache-2.0 */
/* Frames from the tap to the guest. See net-priv.h for the whole. */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "common/check.h"
#include "vmm/virtio/net-priv.h"

/* What a step came to. */
enum step {
        STEP_DONE,                      /* a frame is with the guest, or dropped */
        STEP_TAP_EMPTY,
        STEP_NO_BUFFER,                 /* the guest kicks when there is one */
        STEP_STOP,                      /* the ring is broken, or the tap is gone */
};

/* Takes one of the guest's buffers. */
static enum step take(struct net *n, struct vq_chain *ret)
{
        struct net_rx *rx = &n->rx;
        struct err e;
        int rc = net_pop(n, NET_RX, ret, &e);

        if (rc == 0)
                return STEP_NO_BUFFER;
        if (rc > 0) {
                ASSERT(rx->ntaken < VQ_SIZE_MAX);
                rx->taken[rx->ntaken++] = (struct vq_done){ .head = ret->head };
        }
        if (rc > 0 && (ret->nout > 0 || ret->in_bytes < NET_HEADER_BYTES))
                rc = err_msg(&e, EBADMSG, "a buffer for frames has %zu bytes to write and %zu to "
                             "read: it needs %d to write, for a header, and none to read",
                             ret->in_bytes, ret->out_bytes, NET_HEADER_BYTES);
        if (rc < 0) {
                net_broken(n, &e);
                return STEP_STOP;
        }
        return STEP_DONE;
}

/* The last ones go back, until so many are left. */
static void give_back_to(struct net *n, unsigned left)
{
        struct net_rx *rx = &n->rx;

        for (; rx->ntaken > left; rx->ntaken--)
                vq_unpop(&n->dev.queue[NET_RX]);        /* INV-TAKEN-LAST */
        rx->placed_bytes = 0;
}

void net_rx_give_back(struct net *n)
{
        give_back_to(n, 0);
}

void net_rx_forget(struct net *n)
{
        n->rx.ntaken = 0;
        n->rx.frame_bytes = n->rx.placed_bytes = 0;
}

static enum step drop(struct net *n)
{
        n->rx.frame_bytes = 0;
        give_back_to(n, MIN(n->rx.ntaken, 1u));
        net_count(n, NET_RX_DROPPED, 1);
        return STEP_DONE;
}

static bool header_ok(struct net *n, size_t bytes)
{
        struct virtio_net_hdr_v1 raw, h;

        memcpy(&raw, n->rx.frame, sizeof(raw));
        if (!net_header_from_tap(&raw, bytes - NET_HEADER_BYTES, n->offloads, &h))
                return false;
        memcpy(n->rx.frame, &h, sizeof(h));
        return true;
}

/* STEP_DONE: there is a frame, or one was dropped. */
static enum step read_frame(struct net *n)
{
        struct net_rx *rx = &n->rx;
        ssize_t bytes = read(n->tap, rx->frame, sizeof(rx->frame));

        if (bytes < 0 && (errno == EAGAIN || errno == EINTR))
                return STEP_TAP_EMPTY;
        if (bytes <= 0) {
                net_tap_lost(n, bytes < 0 ? errno : ENOTCONN);
                return STEP_STOP;
        }
        if (!atomic_load_explicit(&n->link_up, memory_order_relaxed) ||
            bytes < NET_HEADER_BYTES || !header_ok(n, (size_t)bytes))
                return drop(n);
        rx->frame_bytes = (size_t)bytes;
        return STEP_DONE;
}

/* Into the buffer that was taken last. */
static void place(struct net_rx *rx, const struct vq_chain *c)
{
        size_t bytes = vq_write(c, 0, rx->frame + rx->placed_bytes,
                                rx->frame_bytes - rx->placed_bytes);

        ASSERT(bytes > 0 && c->head == rx->taken[rx->ntaken - 1].head);
        rx->taken[rx->ntaken - 1].written = (uint32_t)bytes;
        rx->placed_bytes += bytes;
}

static void hand_over(struct net *n)
{
        struct net_rx *rx = &n->rx;
        uint16_t buffers = (uint16_t)rx->ntaken;

        ASSERT(rx->placed_bytes == rx->frame_bytes);
        vq_write(&rx->first, offsetof(struct virtio_net_hdr_v1, num_buffers), &buffers,
                 sizeof(buffers));
        vq_push_all(&n->dev.queue[NET_RX], rx->taken, rx->ntaken);
        net_count(n, NET_RX_PACKETS, 1);
        net_count(n, NET_RX_BYTES, rx->frame_bytes - NET_HEADER_BYTES);
        net_rx_forget(n);
        rx->pushed = true;
}

/* The frame that waits. One that no number of buffers could hold is dropped. */
static enum step deliver(struct net *n)
{
        struct net_rx *rx = &n->rx;
        bool merge = virtio_has(&n->dev, VIRTIO_NET_F_MRG_RXBUF);
        struct vq_chain more;

        if (rx->placed_bytes == 0)
                place(rx, &rx->first);
        while (rx->placed_bytes < rx->frame_bytes) {
                if (!merge || rx->ntaken == n->dev.queue[NET_RX].s.size)
                        return drop(n);

                enum step s = take(n, &more);

                if (s != STEP_DONE)
                        return s;
                place(rx, &more);
        }
        hand_over(n);
        return STEP_DONE;
}

static enum step one_frame(struct net *n)
{
        struct net_rx *rx = &n->rx;
        enum step s = STEP_DONE;

        if (rx->ntaken == 0)
                s = take(n, &rx->first);
        if (s == STEP_DONE && rx->frame_bytes == 0)
                s = read_frame(n);
        if (s == STEP_DONE && rx->frame_bytes > 0)
                s = deliver(n);
        return s;
}

void net_rx_run(struct net *n)
{
        enum step s = STEP_DONE;

        if (n->tap < 0 || n->lost || n->broken)
                return;
        vq_kicks_off(&n->dev.queue[NET_RX]);
        for (unsigned i = 0; i < NET_ROUND_FRAMES && s == STEP_DONE; i++)
                s = one_frame(n);
        /* INV-BUFFER; a round that had its fill goes on at once if there is more */
        if (s == STEP_DONE || s == STEP_TAP_EMPTY)
                virtio_watch_on(n->rx_ready);
        else
                virtio_watch_off(n->rx_ready);
        if (n->rx.pushed)
                virtio_signal(&n->dev, NET_RX);
        n->rx.pushed = false;
}
