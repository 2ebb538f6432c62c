/* SPDX-License-Identifier: Apache-2.0 */
/* vsock-guest.h - a small driver of the vsock device, a loop for it without a thread, and
 * streams of the guest's that keep the rules of credit, for tests.
 *
 * The loop (virtio/loop.h by poll) and what the transport does for a device are here too, so
 * that a test decides when the device runs: vsock_guest_run().
 * What the device does wrong (a packet for nobody, more bytes than credit) is counted in
 * `wrong`. Threads: one.
 */
#ifndef TESTS_UNIT_VSOCK_GUEST_H
#define TESTS_UNIT_VSOCK_GUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/unit/vqguest.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/vsock-packet.h"

#define GUEST_CID 42u
#define GUEST_RING 128
#define GUEST_RX_BYTES 4096u
#define GUEST_TX_BYTES (68u << 10)
#define GUEST_STREAMS 400
#define STREAM_BYTES (64u << 10)

enum { GUEST_RX, GUEST_TX, GUEST_EVENT };

struct vsock_stream {
        uint32_t guest_port, host_port;
        bool open, reset;               /* RESPONSE said or heard; RST heard */
        unsigned ended;                 /* flags of SHUTDOWN heard */
        /* from the host: */
        uint32_t room;                  /* what we announce, up to STREAM_BYTES */
        uint32_t heard, taken, told;
        uint8_t data[STREAM_BYTES];
        /* to the host */
        uint32_t said, peer_room, peer_taken;
        unsigned credit_updates, credit_requests;       /* heard */
};

struct vsock_guest {
        char path[64];
        struct ram ram;
        struct virtio_device *dev;
        struct virtio_loop *loop;
        struct vqguest queue[3];
        uint64_t rx_gpa[GUEST_RING];            /* by head */
        uint8_t tx_slot[GUEST_RING];            /* by head */
        uint8_t free_slot[GUEST_RING];
        unsigned nfree_slots;
        unsigned rx_held;                       /* buffers not given back, see hold_rx */
        bool hold_rx;                           /* take nothing out of rx */
        uint32_t room;                          /* of streams that begin */
        bool accepts;                           /* requests of the host's */
        struct vsock_stream *stream[GUEST_STREAMS];
        unsigned nstreams;
        uint32_t next_port;
        unsigned wrong, broken, events, refused;        /* seen */
        struct vsock_packet last;               /* heard, of no stream or refused */
};

/* A running device with its driver; the socket is at g->path. */
void vsock_guest_up(struct vsock_guest *g, uint32_t room, bool event_idx);
void vsock_guest_down(struct vsock_guest *g);
/* The driver's part of start: rings are empty, buffers given. */
void vsock_guest_drive(struct vsock_guest *g, bool event_idx);

/* Both sides until nothing happens for 2 ms. */
void vsock_guest_run(struct vsock_guest *g);
/* Of the device alone: one look at its descriptors and timers; false: nothing was due. */
bool vsock_guest_turn(struct vsock_guest *g, int timeout_ms);
/* Of the driver alone: takes what is in the rings. false: nothing. */
bool vsock_guest_look(struct vsock_guest *g);
void vsock_guest_kick(struct vsock_guest *g, unsigned queue);

/* False: the ring is full. data: p->len bytes unless p->len lies, then bytes. */
bool vsock_guest_send_raw(struct vsock_guest *g, const struct vsock_packet *p, const void *data,
                          uint32_t bytes);
struct vsock_packet vsock_guest_packet(const struct vsock_stream *s, uint16_t op);
/* A packet without payload. */
void vsock_guest_say(struct vsock_guest *g, struct vsock_stream *s, uint16_t op, uint32_t flags);

/* A stream that the guest asks for. */
struct vsock_stream *vsock_guest_connect(struct vsock_guest *g, uint32_t host_port);
/* The one that came last. */
struct vsock_stream *vsock_guest_newest(struct vsock_guest *g);
/* Bytes that went; bounded by credit and the ring. */
uint32_t vsock_stream_write(struct vsock_guest *g, struct vsock_stream *s, const void *data,
                            uint32_t bytes);
/* Bytes taken, which is told when half of the room was. */
uint32_t vsock_stream_read(struct vsock_guest *g, struct vsock_stream *s, void *data,
                           uint32_t bytes);

#endif
