/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/vsock-guest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/check.h"
#include "tests/unit/vsock-loop.h"
#include "vmm/virtio/vsock.h"

/* where things are in the guest */
#define RING_GPA(q) (0x10000u * (1 + (unsigned)(q)))
#define EVENT_GPA 0x80000u
#define RX_GPA (1u << 20)
#define TX_GPA (4u << 20)
#define GUEST_RAM_BYTES (16u << 20)
#define EVENT_BUFFERS 8
/* what hangs ends: a machine under load needs a tenth of it */
#define TEST_SECONDS 120

static_assert(TX_GPA + GUEST_RING / 2 * GUEST_TX_BYTES <= GUEST_RAM_BYTES, "it fits");

/* ---- rings --------------------------------------------------------------------- */

void vsock_guest_kick(struct vsock_guest *g, unsigned queue)
{
        if (vqguest_wants_kick(&g->queue[queue]) && vsock_loop_started(g->loop))
                g->dev->class->kick(g->dev, queue);
}

static void give_rx(struct vsock_guest *g, uint64_t gpa)
{
        const struct vqguest_buf buf = { .gpa = gpa, .bytes = GUEST_RX_BYTES,
                                         .device_writes = true };

        g->rx_gpa[vqguest_add(&g->queue[GUEST_RX], &buf, 1)] = gpa;
}

static void give_event(struct vsock_guest *g)
{
        const struct vqguest_buf buf = { .gpa = EVENT_GPA, .bytes = 4, .device_writes = true };

        vqguest_add(&g->queue[GUEST_EVENT], &buf, 1);
}

void vsock_guest_drive(struct vsock_guest *g, bool event_idx)
{
        for (unsigned q = 0; q < 3; q++) {
                if (event_idx)
                        vqguest_init_event_idx(&g->queue[q], &g->ram, RING_GPA(q), GUEST_RING,
                                               &g->dev->queue[q]);
                else
                        vqguest_init(&g->queue[q], &g->ram, RING_GPA(q), GUEST_RING,
                                     &g->dev->queue[q]);
        }
        for (unsigned i = 0; i < GUEST_RING; i++)
                give_rx(g, RX_GPA + i * GUEST_RX_BYTES);
        for (unsigned i = 0; i < EVENT_BUFFERS; i++)
                give_event(g);
        g->nfree_slots = 0;
        while (g->nfree_slots < GUEST_RING / 2) {
                g->free_slot[g->nfree_slots] = (uint8_t)g->nfree_slots;
                g->nfree_slots++;
        }
}

bool vsock_guest_send_raw(struct vsock_guest *g, const struct vsock_packet *p, const void *data,
                          uint32_t bytes)
{
        if (g->nfree_slots == 0)
                return false;

        uint8_t slot = g->free_slot[--g->nfree_slots];
        uint64_t gpa = TX_GPA + (uint64_t)slot * GUEST_TX_BYTES;
        uint8_t *to = ram_at(&g->ram, gpa, GUEST_TX_BYTES);
        /* the payload is cut in two, to be a scattered one */
        const struct vqguest_buf bufs[] = {
                { .gpa = gpa, .bytes = VSOCK_HEADER_BYTES },
                { .gpa = gpa + 64, .bytes = bytes / 2 ? bytes / 2 : bytes },
                { .gpa = gpa + 64 + bytes / 2, .bytes = bytes - bytes / 2 },
        };
        unsigned n = bytes == 0 ? 1 : bytes == 1 ? 2 : 3;

        ASSERT(bytes + 64 <= GUEST_TX_BYTES);
        vsock_packet_encode(p, to);
        if (bytes > 0)
                memcpy(to + 64, data, bytes);
        if (g->queue[GUEST_TX].nfree < n) {
                g->nfree_slots++;
                return false;
        }
        g->tx_slot[vqguest_add(&g->queue[GUEST_TX], bufs, n)] = slot;
        vsock_guest_kick(g, GUEST_TX);
        return true;
}

static void take_tx(struct vsock_guest *g)
{
        uint32_t written;
        uint16_t head;

        while (vqguest_used(&g->queue[GUEST_TX], &head, &written)) {
                g->free_slot[g->nfree_slots++] = g->tx_slot[head];
                g->wrong += written != 0;
        }
}

/* ---- streams --------------------------------------------------------------------- */

static struct vsock_stream *stream_new(struct vsock_guest *g, uint32_t guest_port,
                                       uint32_t host_port)
{
        struct vsock_stream *s = calloc(1, sizeof(*s));

        ASSERT(s && g->nstreams < GUEST_STREAMS);
        s->guest_port = guest_port;
        s->host_port = host_port;
        s->room = g->room;
        g->stream[g->nstreams++] = s;
        return s;
}

struct vsock_packet vsock_guest_packet(const struct vsock_stream *s, uint16_t op)
{
        return (struct vsock_packet){
                .src_cid = GUEST_CID, .dst_cid = VSOCK_CID_HOST,
                .src_port = s->guest_port, .dst_port = s->host_port,
                .type = VIRTIO_VSOCK_TYPE_STREAM, .op = op,
                .buf_alloc = s->room, .fwd_cnt = s->taken,
        };
}

void vsock_guest_say(struct vsock_guest *g, struct vsock_stream *s, uint16_t op, uint32_t flags)
{
        struct vsock_packet p = vsock_guest_packet(s, op);
        bool sent;

        p.flags = flags;
        s->told = s->taken;
        sent = vsock_guest_send_raw(g, &p, NULL, 0);
        ASSERT(sent);
}

struct vsock_stream *vsock_guest_connect(struct vsock_guest *g, uint32_t host_port)
{
        struct vsock_stream *s = stream_new(g, g->next_port++, host_port);

        vsock_guest_say(g, s, VIRTIO_VSOCK_OP_REQUEST, 0);
        return s;
}

struct vsock_stream *vsock_guest_newest(struct vsock_guest *g)
{
        ASSERT(g->nstreams > 0);
        return g->stream[g->nstreams - 1];
}

uint32_t vsock_stream_write(struct vsock_guest *g, struct vsock_stream *s, const void *data,
                            uint32_t bytes)
{
        struct vsock_packet p = vsock_guest_packet(s, VIRTIO_VSOCK_OP_RW);
        uint32_t credit = s->peer_room - (s->said - s->peer_taken);

        p.len = MIN(bytes, credit);
        if (!s->open || p.len == 0 || !vsock_guest_send_raw(g, &p, data, p.len))
                return 0;
        s->told = s->taken;
        s->said += p.len;
        return p.len;
}

uint32_t vsock_stream_read(struct vsock_guest *g, struct vsock_stream *s, void *data,
                           uint32_t bytes)
{
        uint32_t n = MIN(bytes, s->heard - s->taken);

        for (uint32_t i = 0; i < n; i++)
                ((uint8_t *)data)[i] = s->data[(s->taken + i) % STREAM_BYTES];
        s->taken += n;
        if (s->taken - s->told >= s->room / 2 && s->taken != s->told)
                vsock_guest_say(g, s, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0);
        return n;
}

/* ---- what the device says ----------------------------------------------------------- */

static struct vsock_stream *find(struct vsock_guest *g, const struct vsock_packet *p)
{
        for (unsigned i = g->nstreams; i-- > 0;) {
                struct vsock_stream *s = g->stream[i];

                if (s->guest_port == p->dst_port && s->host_port == p->src_port && !s->reset)
                        return s;
        }
        return NULL;
}

static void hear_bytes(struct vsock_guest *g, struct vsock_stream *s,
                       const struct vsock_packet *p, const uint8_t *data)
{
        g->wrong += !s->open || s->heard + p->len - s->taken > s->room;
        for (uint32_t i = 0; i < p->len; i++)
                s->data[(s->heard + i) % STREAM_BYTES] = data[i];
        s->heard += p->len;
}

static void hear_request(struct vsock_guest *g, const struct vsock_packet *p)
{
        struct vsock_stream *s = stream_new(g, p->dst_port, p->src_port);

        s->open = g->accepts;
        s->reset = !g->accepts;
        s->peer_room = p->buf_alloc;
        s->peer_taken = p->fwd_cnt;
        vsock_guest_say(g, s, g->accepts ? VIRTIO_VSOCK_OP_RESPONSE : VIRTIO_VSOCK_OP_RST, 0);
}

static void hear(struct vsock_guest *g, const struct vsock_packet *p, const uint8_t *data)
{
        struct vsock_stream *s = find(g, p);

        g->wrong += p->src_cid != VSOCK_CID_HOST || p->dst_cid != GUEST_CID;
        if (!s && p->op == VIRTIO_VSOCK_OP_REQUEST) {
                hear_request(g, p);
                return;
        }
        if (!s) {
                g->refused += p->op == VIRTIO_VSOCK_OP_RST;
                g->wrong += p->op != VIRTIO_VSOCK_OP_RST;
                g->last = *p;
                return;
        }
        if (p->op != VIRTIO_VSOCK_OP_RST) {
                s->peer_room = p->buf_alloc;
                s->peer_taken = p->fwd_cnt;
        }
        s->credit_updates += p->op == VIRTIO_VSOCK_OP_CREDIT_UPDATE;
        s->credit_requests += p->op == VIRTIO_VSOCK_OP_CREDIT_REQUEST;
        s->ended |= p->op == VIRTIO_VSOCK_OP_SHUTDOWN ? p->flags : 0;
        s->reset = p->op == VIRTIO_VSOCK_OP_RST;
        s->open |= p->op == VIRTIO_VSOCK_OP_RESPONSE;
        if (p->op == VIRTIO_VSOCK_OP_RW)
                hear_bytes(g, s, p, data);
        if (p->op == VIRTIO_VSOCK_OP_CREDIT_REQUEST)
                vsock_guest_say(g, s, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0);
        if (s->ended == 3 && s->heard == s->taken && !s->reset) {
                vsock_guest_say(g, s, VIRTIO_VSOCK_OP_RST, 0);
                s->reset = true;
        }
}

static void take_packet(struct vsock_guest *g, uint64_t gpa, uint32_t written)
{
        const uint8_t *at = ram_at(&g->ram, gpa, GUEST_RX_BYTES);
        struct vsock_packet p;

        /* the other way round: what the codec takes as the guest's is the host's here */
        ASSERT(written >= VSOCK_HEADER_BYTES);
        p = (struct vsock_packet){
                .src_cid = get_le64(at), .dst_cid = get_le64(at + 8),
                .src_port = get_le32(at + 16), .dst_port = get_le32(at + 20),
                .len = get_le32(at + 24), .type = get_le16(at + 28), .op = get_le16(at + 30),
                .flags = get_le32(at + 32), .buf_alloc = get_le32(at + 36),
                .fwd_cnt = get_le32(at + 40),
        };
        g->wrong += written != VSOCK_HEADER_BYTES + p.len;
        hear(g, &p, at + VSOCK_HEADER_BYTES);
}

bool vsock_guest_look(struct vsock_guest *g)
{
        bool any = false;
        uint32_t written;
        uint16_t head;

        take_tx(g);
        while (!g->hold_rx && g->nfree_slots > 2 &&
               vqguest_used(&g->queue[GUEST_RX], &head, &written)) {
                uint64_t gpa = g->rx_gpa[head];

                take_packet(g, gpa, written);
                give_rx(g, gpa);
                vsock_guest_kick(g, GUEST_RX);
                take_tx(g);
                any = true;
        }
        while (vqguest_used(&g->queue[GUEST_EVENT], &head, &written)) {
                g->events++;
                g->wrong += written != 4 || get_le32(ram_at(&g->ram, EVENT_GPA, 4)) != 0;
                give_event(g);
                vsock_guest_kick(g, GUEST_EVENT);
                any = true;
        }
        return any;
}

/* ---- both --------------------------------------------------------------------------- */

bool vsock_guest_turn(struct vsock_guest *g, int timeout_ms)
{
        return vsock_loop_turn(g->loop, timeout_ms);
}

void vsock_guest_run(struct vsock_guest *g)
{
        bool any = true;

        while (any) {
                any = vsock_guest_look(g);
                any |= vsock_guest_turn(g, any ? 0 : 2);
        }
}

void vsock_guest_up(struct vsock_guest *g, uint32_t room, bool event_idx)
{
        static unsigned serial;
        struct err e = { 0 };
        int rc;

        alarm(TEST_SECONDS);
        memset(g, 0, sizeof(*g));
        snprintf(g->path, sizeof(g->path), "/tmp/vsock-test-%d-%u", (int)getpid(), serial++);
        g->room = room;
        g->accepts = true;
        g->next_port = 5000;
        vqguest_ram_init(&g->ram, GUEST_RAM_BYTES);

        const struct virtio_vsock_options o = { .name = "vsock0", .cid = GUEST_CID,
                                                .path = g->path };

        rc = virtio_vsock_new(&o, &g->dev, &e);
        if (rc < 0)
                err_print("vsock-guest", &e);
        ASSERT(rc == 0);
        g->loop = vsock_loop_new(g);
        g->dev->loop = g->loop;
        g->dev->ram = &g->ram;
        vsock_guest_drive(g, event_idx);
        vsock_loop_start(g->loop, g->dev);
}

void vsock_guest_down(struct vsock_guest *g)
{
        vsock_loop_stop(g->loop, g->dev);
        g->dev->class->free(g->dev);
        vsock_loop_free(g->loop);
        for (unsigned i = 0; i < g->nstreams; i++)
                free(g->stream[i]);
        vqguest_ram_fini(&g->ram);
}
