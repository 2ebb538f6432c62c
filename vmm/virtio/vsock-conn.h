/* SPDX-License-Identifier: Apache-2.0 */
/* vsock-conn.h - one stream between a port of the guest and a unix socket of the host.
 *
 * It knows what was said by both, what is still to be said to the guest, and how much each
 * may send; it moves bytes between its socket and requests of the guest, and holds those of
 * the guest that the host has not taken yet. Who it is found by, and whose turn it is to be
 * heard by the guest, is its owner's (vsock-table.h).
 *
 * Ownership: the socket. Threads: the device's loop.
 * Errors: those of the socket are the stream's: the guest is told, its owner need not know.
 */
#ifndef VMM_VIRTIO_VSOCK_CONN_H
#define VMM_VIRTIO_VSOCK_CONN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "common/err.h"
#include "vmm/virtio/loop.h"
#include "vmm/virtio/queue.h"
#include "vmm/virtio/vsock-packet.h"

/* What the guest may send before the host has taken it, a power of two: as much as Linux puts
 * into one packet. Allocated when a host is slower than the guest, not before. */
#define VSOCK_BUFFER_BYTES (64u << 10)
/* In a packet to the guest; Linux gives buffers of 4 KiB, so this limits others. */
#define VSOCK_PAYLOAD_BYTES_MAX (64u << 10)

/* ASKING     a host client wants it; the guest has not answered yet. Nothing is read.
 *            -> OPEN       the guest's RESPONSE
 * OPEN       bytes go both ways, until each side has ended its own
 *            -> LINGERING  the guest has closed, and the host has not taken all it sent
 * LINGERING  the guest knows nothing of it any more; ends with the last byte, or when the
 *            host hangs up
 * All of them end with RST, and with whoever frees them. */
enum vsock_state { VSOCK_ASKING, VSOCK_OPEN, VSOCK_LINGERING };

/* What becomes of it by what the guest said. */
enum vsock_outcome {
        VSOCK_STAYS,
        VSOCK_LINGERS,                  /* answer RST, but keep it until ops->finished() */
        VSOCK_ENDS,                     /* free it */
        VSOCK_RESETS,                   /* answer RST and free it */
};

struct vsock_conn;

struct vsock_conn_ops {
        /* From the loop, not from within the functions below. */
        void (*ready)(void *ctx, struct vsock_conn *c);         /* look at vsock_conn_has_news() */
        void (*finished)(void *ctx, struct vsock_conn *c);      /* it lingered: free it */
        void *ctx;
};

struct vsock_conn {
        /* constant */
        uint32_t guest_port, host_port;
        const struct vsock_conn_ops *ops;

        /* vsock-table.c */
        LIST_ENTRY(vsock_conn) by_ports;
        TAILQ_ENTRY(vsock_conn) waiting;        /* asking, or lingering */
        TAILQ_ENTRY(vsock_conn) turn;
        bool has_turn;
        uint64_t deadline_ns;                   /* while asking */

        /* vsock-conn.c */
        enum vsock_state state;
        int fd;                                 /* -1: both sides have ended */
        struct virtio_watch *readable, *writable;
        unsigned news;                          /* bits of enum news: what the guest must be told */
        unsigned guest_ended, told_ended;       /* enum virtio_vsock_shutdown, by guest and us */
        bool host_ended;                        /* sends no more */
        bool host_deaf;                         /* takes no more */
        bool host_told;                         /* that the guest sends no more */
        bool maybe_readable;
        /* guest to host: counters of bytes, as in the packets. INV-CREDIT: taken - forwarded is
         * what the buffer holds, VSOCK_BUFFER_BYTES at most. */
        uint32_t taken, forwarded, told_forwarded;
        uint8_t *buffer;                        /* a byte with number n is at n % its size */
        /* host to guest */
        uint32_t sent, peer_forwarded, peer_room;
        bool asked_credit;
};

/* A host client's, which waits for the guest: *fd is taken. */
int vsock_conn_new(struct virtio_loop *loop, const struct vsock_conn_ops *ops, int *fd,
                   uint32_t guest_port, uint32_t host_port, struct vsock_conn **ret);
/* One that the guest asked for; p is its request. */
int vsock_conn_accept(struct virtio_loop *loop, const struct vsock_conn_ops *ops, int *fd,
                      const struct vsock_packet *p, struct vsock_conn **ret);
/* The host sees the end of the stream. NULL is fine. */
void vsock_conn_free(struct vsock_conn *c);

/* What the guest said: p is of this stream, its payload in request behind the header. */
enum vsock_outcome vsock_conn_hear(struct vsock_conn *c, const struct vsock_packet *p,
                                   const struct vq_chain *request);
/* After VSOCK_LINGERS. */
void vsock_conn_linger(struct vsock_conn *c);

bool vsock_conn_has_news(const struct vsock_conn *c);
/* What the guest is to hear next: the payload is written into request, behind the header's
 * place, *ret is the header but for the cids. false: nothing, after all. */
bool vsock_conn_say(struct vsock_conn *c, const struct vq_chain *request,
                    struct vsock_packet *ret);

#endif
