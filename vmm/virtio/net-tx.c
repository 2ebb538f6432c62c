/* SPDX-License-Identifier: Apache-2.0 */
/* Frames from the guest to the tap. See net-priv.h for the whole. */
#include <errno.h>
#include <sys/uio.h>

#include "common/check.h"
#include "vmm/virtio/net-priv.h"

/* What a step came to. */
enum step {
        STEP_DONE,                      /* a frame is out, or dropped */
        STEP_NO_FRAME,
        STEP_TAP_FULL,
        STEP_STOP,                      /* the ring is broken */
};

static bool link_down(const struct net *n)
{
        return n->tap < 0 || n->lost || !atomic_load_explicit(&n->link_up, memory_order_relaxed);
}

/* 0, or an errno of a frame that is not out. */
static int write_frame(struct net *n, const struct virtio_net_hdr_v1 *h, const struct vq_chain *c)
{
        struct iovec piece[1 + VQ_IOV_MAX] = {
                { .iov_base = (void *)h, .iov_len = sizeof(*h) },
        };
        unsigned pieces = vq_out_pieces(c, NET_HEADER_BYTES, c->out_bytes - NET_HEADER_BYTES,
                                        piece + 1, VQ_IOV_MAX);
        ssize_t rc;

        do {
                rc = writev(n->tap, piece, (int)(1 + pieces));
        } while (rc < 0 && errno == EINTR);
        return rc < 0 ? errno : 0;
}

static enum step sent(struct net *n, size_t frame_bytes, int errnum)
{
        switch (errnum) {
        case 0:
                net_count(n, NET_TX_PACKETS, 1);
                net_count(n, NET_TX_BYTES, frame_bytes);
                return STEP_DONE;
        case EAGAIN:
                net_count(n, NET_TX_WAITS, 1);
                return STEP_TAP_FULL;
        case EBADFD:                    /* the interface was deleted */
        case EPIPE:
                net_tap_lost(n, errnum);
                break;
        default:                        /* EIO: it is down; EINVAL: it does not like the frame */
                break;
        }
        net_count(n, NET_TX_DROPPED, 1);
        return STEP_DONE;
}

static enum step send_chain(struct net *n, const struct vq_chain *c)
{
        struct virtio_net_hdr_v1 raw, h;

        if (c->nin > 0 || vq_read(c, 0, &raw, sizeof(raw)) < sizeof(raw) ||
            !net_header_from_guest(&raw, c->out_bytes - sizeof(raw), n->dev.features, &h)) {
                net_count(n, NET_TX_MALFORMED, 1);
                return STEP_DONE;
        }
        if (link_down(n)) {
                net_count(n, NET_TX_DROPPED, 1);
                return STEP_DONE;
        }
        return sent(n, c->out_bytes - sizeof(raw), write_frame(n, &h, c));
}

static enum step one_frame(struct net *n)
{
        struct virtqueue *q = &n->dev.queue[NET_TX];
        struct vq_chain c;
        struct err e;
        int rc = net_pop(n, NET_TX, &c, &e);

        if (rc < 0) {
                net_broken(n, &e);
                return STEP_STOP;
        }
        if (rc == 0)
                return STEP_NO_FRAME;

        enum step s = send_chain(n, &c);

        if (s == STEP_TAP_FULL)
                vq_unpop(q);
        else
                vq_push(q, c.head, 0);
        return s;
}

void net_tx_run(struct net *n)
{
        struct virtqueue *q = &n->dev.queue[NET_TX];
        uint16_t used_before = q->s.next_used;
        enum step s = STEP_DONE;

        if (n->broken)
                return;
        vq_kicks_off(q);
        for (unsigned i = 0; i < NET_ROUND_FRAMES && s == STEP_DONE; i++)
                s = one_frame(n);
        if (n->tx_ready && s == STEP_TAP_FULL)
                virtio_watch_on(n->tx_ready);
        else if (n->tx_ready)
                virtio_watch_off(n->tx_ready);
        if (s == STEP_DONE)
                virtio_watch_after(n->again, 0);
        if (q->s.next_used != used_before)
                virtio_signal(&n->dev, NET_TX);
}
