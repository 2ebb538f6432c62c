/* SPDX-License-Identifier: Apache-2.0 */
/* Theory of operation
 *
 * Guest to host: a packet's payload goes straight into the socket; what that does not take
 * waits in the buffer, and the socket is watched until it does. The guest may send what fits
 * into the buffer (it knows taken and forwarded from our packets), so its requests are always
 * done at once, and a host that does not read holds up its own stream alone.
 *
 * Host to guest: bytes stay in the socket until there is a buffer of the guest's and credit for
 * them, and go straight into it. So nothing of the host's is ever in our hands, a device that
 * stands still loses none, and a guest that does not read holds up its own stream alone.
 *
 * Ends. Each side has two: it sends no more, it takes no more (SHUTDOWN with SEND, RCV). What
 * the guest says is passed on once all its bytes are forwarded; what the host does is found out
 * by reading (end of file) and writing (EPIPE). When we have told the guest both, the socket is
 * closed and the stream waits for the guest's RST; when the guest has told us both, we answer
 * RST and what is left to forward lingers.
 */
#include "vmm/virtio/vsock-conn.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "common/auto.h"
#include "common/check.h"

#define BOTH_ENDED (VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)
/* Told when so much room was made since the guest knew: not with each write of the host's, and
 * long before a guest that has used all of it could wait for ever. */
#define CREDIT_STEP_BYTES (VSOCK_BUFFER_BYTES / 2)

static_assert((VSOCK_BUFFER_BYTES & (VSOCK_BUFFER_BYTES - 1)) == 0, "counters wrap with it");

/* In the order in which the guest hears them. Bytes of the host's come in front of the last
 * two: a packet with bytes says the first of them too, and shows that the other is not due. */
enum news {
        NEWS_REQUEST = 1, NEWS_RESPONSE = 2, NEWS_SHUTDOWN = 4,
        NEWS_CREDIT = 8, NEWS_CREDIT_REQUEST = 16,
};
#define NEWS_FIRST (NEWS_REQUEST | NEWS_RESPONSE | NEWS_SHUTDOWN)

static const struct {
        enum news news;
        enum virtio_vsock_op op;
} sayings[] = {
        { NEWS_REQUEST, VIRTIO_VSOCK_OP_REQUEST },
        { NEWS_RESPONSE, VIRTIO_VSOCK_OP_RESPONSE },
        { NEWS_SHUTDOWN, VIRTIO_VSOCK_OP_SHUTDOWN },
        { NEWS_CREDIT, VIRTIO_VSOCK_OP_CREDIT_UPDATE },
        { NEWS_CREDIT_REQUEST, VIRTIO_VSOCK_OP_CREDIT_REQUEST },
};

static void on_readable(void *ctx);
static void on_writable(void *ctx);

/* ---- credit ----------------------------------------------------------------- */

/* What we may send. A guest may take room back, or lie: then it is nothing. */
static uint32_t credit(const struct vsock_conn *c)
{
        uint32_t flying = c->sent - c->peer_forwarded;

        return flying < c->peer_room ? c->peer_room - flying : 0;
}

static void take_credit(struct vsock_conn *c, const struct vsock_packet *p)
{
        c->peer_room = p->buf_alloc;
        c->peer_forwarded = p->fwd_cnt;
        if (credit(c) == 0)
                return;
        c->asked_credit = false;
        c->news &= ~(unsigned)NEWS_CREDIT_REQUEST;
}

/* ---- life ------------------------------------------------------------------- */

static void close_host(struct vsock_conn *c)
{
        virtio_watch_free(c->readable);
        virtio_watch_free(c->writable);
        c->readable = c->writable = NULL;
        fd_close(&c->fd);
}

void vsock_conn_free(struct vsock_conn *c)
{
        if (!c)
                return;
        close_host(c);
        free(c->buffer);
        free(c);
}

int vsock_conn_new(struct virtio_loop *loop, const struct vsock_conn_ops *ops, int *fd,
                   uint32_t guest_port, uint32_t host_port, struct vsock_conn **ret)
{
        struct vsock_conn *c = calloc(1, sizeof(*c));

        if (!c)
                return -ENOMEM;
        c->guest_port = guest_port;
        c->host_port = host_port;
        c->ops = ops;
        c->state = VSOCK_ASKING;
        c->news = NEWS_REQUEST;
        c->fd = -1;

        int rc = virtio_watch_readable(loop, *fd, on_readable, c, &c->readable, NULL);

        if (rc == 0)
                rc = virtio_watch_writable(loop, *fd, on_writable, c, &c->writable, NULL);
        if (rc < 0) {
                vsock_conn_free(c);
                return rc;
        }
        c->fd = fd_take(fd);
        *ret = c;
        return 0;
}

int vsock_conn_accept(struct virtio_loop *loop, const struct vsock_conn_ops *ops, int *fd,
                      const struct vsock_packet *p, struct vsock_conn **ret)
{
        struct vsock_conn *c;
        int rc = vsock_conn_new(loop, ops, fd, p->src_port, p->dst_port, &c);

        if (rc < 0)
                return rc;
        c->state = VSOCK_OPEN;
        c->news = NEWS_RESPONSE;
        c->maybe_readable = true;
        take_credit(c, p);
        *ret = c;
        return 0;
}

/* ---- ends -------------------------------------------------------------------- */

static uint32_t buffered(const struct vsock_conn *c)
{
        return c->taken - c->forwarded;         /* INV-CREDIT */
}

/* What we have to tell the guest of the host's ends. */
static unsigned ended_here(const struct vsock_conn *c)
{
        bool deaf = c->host_deaf || (c->host_ended && c->host_told);

        return (c->host_ended ? VIRTIO_VSOCK_SHUTDOWN_SEND : 0u) |
               (deaf ? VIRTIO_VSOCK_SHUTDOWN_RCV : 0u);
}

/* After bytes were forwarded and whenever a side has ended something. */
static void settle(struct vsock_conn *c)
{
        bool all = buffered(c) == 0;

        if (c->fd >= 0 && all && (c->guest_ended & VIRTIO_VSOCK_SHUTDOWN_SEND) && !c->host_told) {
                (void)shutdown(c->fd, SHUT_WR);
                c->host_told = true;
        }
        if (ended_here(c) & ~c->told_ended)
                c->news |= NEWS_SHUTDOWN;
        if (c->forwarded - c->told_forwarded >= CREDIT_STEP_BYTES)
                c->news |= NEWS_CREDIT;
}

static void host_went_deaf(struct vsock_conn *c)
{
        c->host_deaf = true;
        c->forwarded = c->taken;
        virtio_watch_off(c->writable);
}

/* ---- guest to host ------------------------------------------------------------ */

/* Bytes that the socket took, 0 when it is full or gone. */
static size_t send_pieces(struct vsock_conn *c, struct iovec *iov, unsigned n)
{
        const struct msghdr msg = { .msg_iov = iov, .msg_iovlen = n };
        ssize_t sent;

        do
                sent = sendmsg(c->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        while (sent < 0 && errno == EINTR);
        if (sent < 0 && errno != EAGAIN && errno != ENOBUFS)
                host_went_deaf(c);
        return sent < 0 ? 0 : (size_t)sent;
}

static size_t send_buffered(struct vsock_conn *c)
{
        uint32_t at = c->forwarded % VSOCK_BUFFER_BYTES;
        uint32_t first = MIN(buffered(c), VSOCK_BUFFER_BYTES - at);
        struct iovec iov[2] = {
                { .iov_base = c->buffer + at, .iov_len = first },
                { .iov_base = c->buffer, .iov_len = buffered(c) - first },
        };

        return send_pieces(c, iov, iov[1].iov_len ? 2 : 1);
}

static void forward(struct vsock_conn *c)
{
        size_t sent = 1;

        while (!c->host_deaf && buffered(c) > 0 && sent > 0) {
                sent = send_buffered(c);
                if (!c->host_deaf)
                        c->forwarded += (uint32_t)sent;
        }
        if (!c->host_deaf && buffered(c) > 0)
                virtio_watch_on(c->writable);
        else
                virtio_watch_off(c->writable);
        settle(c);
}

static void on_writable(void *ctx)
{
        struct vsock_conn *c = ctx;

        forward(c);
        if (c->state != VSOCK_LINGERING)
                c->ops->ready(c->ops->ctx, c);
        else if (buffered(c) == 0)
                c->ops->finished(c->ops->ctx, c);
}

static bool keep(struct vsock_conn *c, const struct vq_chain *request, size_t offset,
                 uint32_t bytes)
{
        if (!c->buffer)
                c->buffer = malloc(VSOCK_BUFFER_BYTES);
        if (!c->buffer)
                return false;

        uint32_t at = c->taken % VSOCK_BUFFER_BYTES;
        uint32_t first = MIN(bytes, VSOCK_BUFFER_BYTES - at);

        vq_read(request, offset, c->buffer + at, first);
        vq_read(request, offset + first, c->buffer, bytes - first);
        c->taken += bytes;
        return true;
}

static enum vsock_outcome take_bytes(struct vsock_conn *c, const struct vsock_packet *p,
                                     const struct vq_chain *request)
{
        struct iovec iov[VQ_IOV_MAX];
        unsigned n = vq_out_pieces(request, VSOCK_HEADER_BYTES, p->len, iov, VQ_IOV_MAX);
        uint32_t sent = 0;

        if (p->len > VSOCK_BUFFER_BYTES - buffered(c) ||        /* INV-CREDIT */
            (c->guest_ended & VIRTIO_VSOCK_SHUTDOWN_SEND))
                return VSOCK_RESETS;
        if (!c->host_deaf && buffered(c) == 0 && n > 0)
                sent = (uint32_t)send_pieces(c, iov, n);
        c->taken += sent;
        c->forwarded += sent;
        if (c->host_deaf) {
                c->taken += p->len;
                c->forwarded += p->len;
        } else if (sent < p->len) {
                if (!keep(c, request, VSOCK_HEADER_BYTES + sent, p->len - sent))
                        return VSOCK_RESETS;
                virtio_watch_on(c->writable);
        }
        settle(c);
        return VSOCK_STAYS;
}

/* ---- what the guest says ---------------------------------------------------------- */

/* The guest accepts: the host client is told its own port. */
static enum vsock_outcome open_it(struct vsock_conn *c)
{
        char text[sizeof("OK 4294967295\n")];
        int n = snprintf(text, sizeof(text), "OK %u\n", c->host_port);

        if (c->state != VSOCK_ASKING)
                return VSOCK_RESETS;
        /* the first bytes of all: a socket that has no room for them is no good */
        if (send(c->fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) != n)
                return VSOCK_RESETS;
        c->state = VSOCK_OPEN;
        c->maybe_readable = true;
        return VSOCK_STAYS;
}

static enum vsock_outcome take_ends(struct vsock_conn *c, unsigned ends)
{
        c->guest_ended |= ends & BOTH_ENDED;
        if (c->guest_ended == BOTH_ENDED)
                return buffered(c) > 0 ? VSOCK_LINGERS : VSOCK_RESETS;
        if ((c->guest_ended & VIRTIO_VSOCK_SHUTDOWN_RCV) && c->fd >= 0) {
                (void)shutdown(c->fd, SHUT_RD);
                virtio_watch_off(c->readable);
                c->host_ended = true;
        }
        settle(c);
        return VSOCK_STAYS;
}

enum vsock_outcome vsock_conn_hear(struct vsock_conn *c, const struct vsock_packet *p,
                                   const struct vq_chain *request)
{
        bool open = c->state == VSOCK_OPEN;

        ASSERT(c->state != VSOCK_LINGERING);
        take_credit(c, p);
        switch (p->op) {
        case VIRTIO_VSOCK_OP_RESPONSE:
                return open_it(c);
        case VIRTIO_VSOCK_OP_RST:
                return VSOCK_ENDS;
        case VIRTIO_VSOCK_OP_SHUTDOWN:
                return open ? take_ends(c, p->flags) : VSOCK_RESETS;
        case VIRTIO_VSOCK_OP_RW:
                return open ? take_bytes(c, p, request) : VSOCK_RESETS;
        case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
                return VSOCK_STAYS;
        case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
                c->news |= NEWS_CREDIT;
                return VSOCK_STAYS;
        default:
                /* a request for what is there: the guest has forgotten the old one */
                ASSERT(p->op == VIRTIO_VSOCK_OP_REQUEST);
                return VSOCK_RESETS;
        }
}

void vsock_conn_linger(struct vsock_conn *c)
{
        ASSERT(c->state == VSOCK_OPEN && c->fd >= 0);
        c->state = VSOCK_LINGERING;
        c->news = 0;
        virtio_watch_off(c->readable);
}

/* ---- host to guest ------------------------------------------------------------------ */

static void on_readable(void *ctx)
{
        struct vsock_conn *c = ctx;

        virtio_watch_off(c->readable);
        c->maybe_readable = true;
        c->ops->ready(c->ops->ctx, c);
}

static bool may_read(const struct vsock_conn *c)
{
        return c->state == VSOCK_OPEN && c->maybe_readable && !c->host_ended;
}

bool vsock_conn_has_news(const struct vsock_conn *c)
{
        return c->news || (may_read(c) && (credit(c) > 0 || !c->asked_credit));
}

/* The end of file, or an error. Is it the end of both directions? A client that only ended its
 * own has not hung up. */
static void host_ends(struct vsock_conn *c, bool failed)
{
        struct pollfd p = { .fd = c->fd };

        c->host_ended = true;
        if (failed || (poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR))))
                host_went_deaf(c);
        settle(c);
}

/* Bytes that are in request now; 0 = none, for whatever reason. */
static uint32_t read_host(struct vsock_conn *c, const struct vq_chain *request)
{
        struct iovec iov[VQ_IOV_MAX];

        if (!may_read(c))
                return 0;
        if (credit(c) == 0) {
                if (!c->asked_credit)
                        c->news |= NEWS_CREDIT_REQUEST;
                c->asked_credit = true;
                return 0;
        }

        unsigned n = vq_in_pieces(request, VSOCK_HEADER_BYTES,
                                  MIN(credit(c), VSOCK_PAYLOAD_BYTES_MAX), iov, VQ_IOV_MAX);
        ssize_t got = readv(c->fd, iov, (int)n);

        if (got > 0)
                return (uint32_t)got;
        if (got < 0 && errno == EINTR)
                return 0;
        c->maybe_readable = false;
        if (got < 0 && errno == EAGAIN)
                virtio_watch_on(c->readable);
        else
                host_ends(c, got < 0);
        return 0;
}

/* What of the news goes first; 0 = there are none. */
static uint16_t take_news(struct vsock_conn *c)
{
        for (size_t i = 0; i < ARRAY_SIZE(sayings); i++) {
                if (c->news & sayings[i].news) {
                        c->news &= ~(unsigned)sayings[i].news;
                        return (uint16_t)sayings[i].op;
                }
        }
        return 0;
}

bool vsock_conn_say(struct vsock_conn *c, const struct vq_chain *request,
                    struct vsock_packet *ret)
{
        uint32_t bytes = c->news & NEWS_FIRST ? 0 : read_host(c, request);
        uint16_t op = bytes > 0 ? VIRTIO_VSOCK_OP_RW : take_news(c);

        if (!op)
                return false;
        *ret = (struct vsock_packet){
                .src_port = c->host_port, .dst_port = c->guest_port, .len = bytes,
                .type = VIRTIO_VSOCK_TYPE_STREAM, .op = op,
                .buf_alloc = VSOCK_BUFFER_BYTES, .fwd_cnt = c->forwarded,
        };
        c->sent += bytes;
        c->told_forwarded = c->forwarded;       /* each packet says it */
        c->news &= ~(unsigned)NEWS_CREDIT;
        if (op == VIRTIO_VSOCK_OP_SHUTDOWN) {
                ret->flags = c->told_ended = ended_here(c);
                if (c->told_ended == BOTH_ENDED)
                        close_host(c);
        }
        return true;
}
