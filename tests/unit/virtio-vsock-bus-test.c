/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: on the real bus, with its thread, streams stay whole however often the device is held;
 *   a state that was captured meanwhile makes a guest without streams.
 * Method: the guest is this thread, which polls the rings and writes registers; a host program
 *   and whoever holds the bus are threads of their own, also under TSan. The guest echoes. */
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/io.h"
#include "common/json.h"
#include "tests/unit/suite.h"
#include "tests/unit/vqguest.h"
#include "vmm/starter.h"
#include "vmm/unixsock.h"
#include "vmm/virtio/bus.h"
#include "vmm/virtio/vsock-packet.h"
#include "vmm/virtio/vsock.h"

#define CID 9
#define RING 64
#define RING_GPA(q) (0x10000u * (1 + (q)))
#define RX_GPA 0x100000u
#define TX_GPA 0x200000u
#define EVENT_GPA 0x90000u
#define SLOT_BYTES 4096u
#define RAM_BYTES (4u << 20)
#define PORT 7
#define CLIENTS 3
#define CLIENT_BYTES (1u << 20)
#define PATIENCE_NS (60 * NS_PER_SEC)
/* what hangs ends */
#define TEST_SECONDS 120

enum { RX, TX, EVENT };

struct guest {
        struct ram ram;
        struct virtio_bus *bus;
        struct starter *starter;        /* its thread is confined as in a VM */
        char path[64];
        struct vqguest queue[3];
        uint32_t rx_slot[RING], tx_slot[RING];  /* by head */
        uint32_t free_tx[RING], nfree_tx;
        unsigned events, resets, wrong;
        uint32_t host_port[CLIENTS], taken[CLIENTS];    /* of echo streams, by their order */
        unsigned nstreams;
        _Atomic unsigned broken;
};

static void on_broken(void *ctx, const char *name, const char *why)
{
        struct guest *g = ctx;

        fprintf(stderr, "%s: %s\n", name, why);
        g->broken++;
}

static void put(struct guest *g, uint32_t offset, uint32_t value)
{
        ASSERT(virtio_bus_mmio(g->bus, virtio_window_gpa(0) + offset, &value, 4, true));
}

static uint32_t get(struct guest *g, uint32_t offset)
{
        uint32_t value = 0;

        ASSERT(virtio_bus_mmio(g->bus, virtio_window_gpa(0) + offset, &value, 4, false));
        return value;
}

static void make_bus(struct guest *g)
{
        const struct virtio_bus_ops ops = {
                .broken = on_broken, .ctx = g, .starter = g->starter,
        };
        const struct virtio_vsock_options o = { .name = "vsock0", .cid = CID, .path = g->path };
        struct virtio_device *dev;
        struct err e = { 0 };

        CU_ASSERT_EQUAL_FATAL(virtio_bus_new(NULL, &g->ram, &ops, &g->bus, &e), 0);
        CU_ASSERT_EQUAL_FATAL(virtio_vsock_new(&o, &dev, &e), 0);
        CU_ASSERT_EQUAL_FATAL(virtio_bus_add(g->bus, dev, &e), 0);
}

/* ---- the driver --------------------------------------------------------------------- */

static void kick(struct guest *g, unsigned q)
{
        if (vqguest_wants_kick(&g->queue[q]))
                put(g, VIRTIO_MMIO_QUEUE_NOTIFY, q);
}

static void give(struct guest *g, unsigned q, uint32_t slot)
{
        uint64_t gpa = q == RX ? RX_GPA + slot * SLOT_BYTES : EVENT_GPA;
        const struct vqguest_buf buf = { gpa, q == RX ? SLOT_BYTES : 4, true };
        uint16_t head = vqguest_add(&g->queue[q], &buf, 1);

        if (q == RX)
                g->rx_slot[head] = slot;
        kick(g, q);
}

static void set_up_queue(struct guest *g, unsigned n)
{
        struct virtqueue q;

        vqguest_init_event_idx(&g->queue[n], &g->ram, RING_GPA(n), RING, &q);
        put(g, VIRTIO_MMIO_QUEUE_SEL, n);
        put(g, VIRTIO_MMIO_QUEUE_NUM, RING);
        put(g, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)q.s.desc_gpa);
        put(g, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)q.s.avail_gpa);
        put(g, VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)q.s.used_gpa);
        put(g, VIRTIO_MMIO_QUEUE_READY, 1);
}

static void set_up(struct guest *g)
{
        put(g, VIRTIO_MMIO_STATUS, 0);
        put(g, VIRTIO_MMIO_STATUS, 3);
        put(g, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
        put(g, VIRTIO_MMIO_DRIVER_FEATURES, 1u << VIRTIO_RING_F_EVENT_IDX);
        put(g, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
        put(g, VIRTIO_MMIO_DRIVER_FEATURES, 1);
        put(g, VIRTIO_MMIO_STATUS, 11);
        for (unsigned n = 0; n < 3; n++)
                set_up_queue(g, n);
        put(g, VIRTIO_MMIO_STATUS, 15);
        for (uint32_t i = 0; i < RING; i++)
                give(g, RX, i);
        for (uint32_t i = 0; i < 8; i++)
                give(g, EVENT, i);
        g->nfree_tx = 0;
        for (uint32_t i = 0; i < RING / 2; i++)
                g->free_tx[g->nfree_tx++] = i;
}

static void take_tx(struct guest *g)
{
        uint32_t written;
        uint16_t head;

        while (vqguest_used(&g->queue[TX], &head, &written))
                g->free_tx[g->nfree_tx++] = g->tx_slot[head];
}

/* The answer to p, with bytes of it. */
static void say(struct guest *g, const struct vsock_packet *p, uint16_t op, const void *data,
                uint32_t fwd_cnt)
{
        struct vsock_packet answer = {
                .src_cid = CID, .dst_cid = VSOCK_CID_HOST, .src_port = p->dst_port,
                .dst_port = p->src_port, .type = VIRTIO_VSOCK_TYPE_STREAM, .op = op,
                .len = data ? p->len : 0, .buf_alloc = 16384, .fwd_cnt = fwd_cnt,
        };
        uint32_t slot = g->free_tx[--g->nfree_tx];
        uint64_t gpa = TX_GPA + slot * SLOT_BYTES;
        const struct vqguest_buf buf = { gpa, VSOCK_HEADER_BYTES + answer.len, false };
        uint8_t *at = ram_at(&g->ram, gpa, SLOT_BYTES);

        vsock_packet_encode(&answer, at);
        if (data)
                memcpy(at + VSOCK_HEADER_BYTES, data, answer.len);
        g->tx_slot[vqguest_add(&g->queue[TX], &buf, 1)] = slot;
        kick(g, TX);
}

static void hear(struct guest *g, const struct vsock_packet *p, const uint8_t *data)
{
        unsigned i = 0;

        while (i < g->nstreams && g->host_port[i] != p->src_port)
                i++;
        if (p->op == VIRTIO_VSOCK_OP_REQUEST && i < CLIENTS) {
                g->host_port[i] = p->src_port;
                g->taken[i] = 0;
                g->nstreams = i + 1;
                say(g, p, VIRTIO_VSOCK_OP_RESPONSE, NULL, 0);
        } else if (p->op == VIRTIO_VSOCK_OP_RW && i < g->nstreams) {
                g->taken[i] += p->len;
                say(g, p, VIRTIO_VSOCK_OP_RW, data, g->taken[i]);
        } else if (p->op == VIRTIO_VSOCK_OP_SHUTDOWN) {
                say(g, p, VIRTIO_VSOCK_OP_RST, NULL, 0);
        } else {
                g->resets += p->op == VIRTIO_VSOCK_OP_RST;
        }
}

static struct vsock_packet packet_at(const uint8_t *at)
{
        return (struct vsock_packet){
                .src_port = get_le32(at + 16), .dst_port = get_le32(at + 20),
                .len = get_le32(at + 24), .op = get_le16(at + 30), .flags = get_le32(at + 32),
        };
}

/* One look at the rings. The device's credit is not looked at: the echo is never further ahead
 * than what its clients have sent and not read (CLIENT_WINDOW). */
static void look(struct guest *g)
{
        uint32_t written;
        uint16_t head;

        take_tx(g);
        while (g->nfree_tx > 0 && vqguest_used(&g->queue[RX], &head, &written)) {
                uint32_t slot = g->rx_slot[head];
                const uint8_t *at = ram_at(&g->ram, RX_GPA + slot * SLOT_BYTES, SLOT_BYTES);
                struct vsock_packet p = packet_at(at);

                g->wrong += written != VSOCK_HEADER_BYTES + p.len;
                hear(g, &p, at + VSOCK_HEADER_BYTES);
                give(g, RX, slot);
                take_tx(g);
        }
        while (vqguest_used(&g->queue[EVENT], &head, &written)) {
                g->events++;
                give(g, EVENT, 0);
        }
}

/* ---- the host ------------------------------------------------------------------------ */

/* in flight for a client, so that neither side of the echo runs out of credit */
#define CLIENT_WINDOW 8192u

struct client {
        const char *path;
        unsigned seed;
        bool ok;
        _Atomic bool done;
};

static bool greet(int fd)
{
        static const char hello[] = "CONNECT 7\n";
        char c = 0, first = 0;

        if (io_write_full(fd, hello, strlen(hello)) < 0 || io_read_full(fd, &first, 1) < 0)
                return false;
        while (c != '\n') {
                if (io_read_full(fd, &c, 1) < 0)
                        return false;
        }
        return first == 'O';
}

static bool exchange(int fd, unsigned seed)
{
        uint8_t out[CLIENT_WINDOW], in[CLIENT_WINDOW];

        for (uint32_t n = 0; n < CLIENT_BYTES; n += CLIENT_WINDOW) {
                for (uint32_t i = 0; i < CLIENT_WINDOW; i++)
                        out[i] = (uint8_t)((n + i) * 31 + (n >> 13) + seed);
                if (io_write_full(fd, out, sizeof(out)) < 0 ||
                    io_read_full(fd, in, sizeof(in)) < 0 || memcmp(in, out, sizeof(in)) != 0)
                        return false;
        }
        return true;
}

static void *client_thread(void *ctx)
{
        struct client *c = ctx;
        int fd;

        if (unixsock_connect(c->path, SOCK_STREAM, &fd, NULL) == 0) {
                const struct timeval patience = { .tv_sec = 60 };

                setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
                setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
                c->ok = greet(fd) && exchange(fd, c->seed);
                close(fd);
        }
        c->done = true;
        return NULL;
}

struct holder {
        struct guest *g;
        struct virtio_bus_state *state;
        unsigned holds, late;
        _Atomic bool end;
};

/* As a live save does, time and again. */
static void *holder_thread(void *ctx)
{
        struct holder *h = ctx;
        struct err e;

        while (!h->end) {
                virtio_bus_hold(h->g->bus);
                h->late += virtio_bus_wait_held(h->g->bus, clock_now_ns() + PATIENCE_NS, &e) < 0;
                virtio_bus_capture(h->g->bus, h->state);
                usleep(200);
                virtio_bus_release(h->g->bus);
                usleep(500);
                h->holds++;
        }
        return NULL;
}

/* ---- cases ----------------------------------------------------------------------------- */

static void up(struct guest *g)
{
        alarm(TEST_SECONDS);
        memset(g, 0, sizeof(*g));
        CU_ASSERT_EQUAL_FATAL(starter_new(SANDBOX_ON, &g->starter, NULL), 0);
        snprintf(g->path, sizeof(g->path), "/tmp/vsock-bus-test-%d", (int)getpid());
        vqguest_ram_init(&g->ram, RAM_BYTES);
        make_bus(g);
        virtio_bus_release(g->bus);
        set_up(g);
        CU_ASSERT_EQUAL(get(g, VIRTIO_MMIO_CONFIG), CID);
}

static void down(struct guest *g)
{
        CU_ASSERT_EQUAL(g->broken, 0);
        CU_ASSERT_EQUAL(g->wrong, 0);
        virtio_bus_free(g->bus);
        starter_free(g->starter);
        vqguest_ram_fini(&g->ram);
}

static bool all_done(const struct client *c)
{
        bool done = true;

        for (unsigned i = 0; i < CLIENTS; i++)
                done &= c[i].done;
        return done;
}

static void held_at_any_moment(void)
{
        struct client client[CLIENTS];
        pthread_t thread[CLIENTS], holding;
        struct guest g;
        struct holder h = { .g = &g };
        struct err e;

        up(&g);
        CU_ASSERT_EQUAL_FATAL(virtio_bus_state_new(g.bus, &h.state, &e), 0);
        CU_ASSERT_EQUAL_FATAL(pthread_create(&holding, NULL, holder_thread, &h), 0);
        for (unsigned i = 0; i < CLIENTS; i++) {
                client[i] = (struct client){ .path = g.path, .seed = i };
                CU_ASSERT_EQUAL_FATAL(pthread_create(&thread[i], NULL, client_thread,
                                                     &client[i]), 0);
        }
        while (!all_done(client))
                look(&g);
        h.end = true;
        pthread_join(holding, NULL);
        for (unsigned i = 0; i < CLIENTS; i++) {
                pthread_join(thread[i], NULL);
                CU_ASSERT(client[i].ok);
        }
        CU_ASSERT_EQUAL(h.late, 0);
        CU_ASSERT(h.holds > 10);
        CU_ASSERT_EQUAL(g.events, 0);           /* a save breaks nothing */
        virtio_bus_state_free(h.state);
        down(&g);
}

/* The state as it travels. */
static void roll_back(struct guest *g, struct virtio_bus_state *captured)
{
        struct virtio_bus_state *state;
        AUTO_JSON *doc = NULL;
        struct err e = { 0 };

        CU_ASSERT_EQUAL_FATAL(virtio_bus_encode(captured, &doc, &e), 0);
        virtio_bus_hold(g->bus);
        CU_ASSERT_EQUAL(virtio_bus_wait_held(g->bus, clock_now_ns() + PATIENCE_NS, &e), 0);
        CU_ASSERT_EQUAL_FATAL(virtio_bus_decode(g->bus, doc, &state, &e), 0);
        CU_ASSERT_EQUAL(virtio_bus_apply(g->bus, state, &e), 0);
        virtio_bus_release(g->bus);
        virtio_bus_state_free(state);
}

static void another_moment_has_no_streams(void)
{
        struct virtio_bus_state *state;
        struct client c = { 0 };
        pthread_t thread;
        struct guest g;
        struct err e;
        char byte;
        int fd;

        up(&g);
        CU_ASSERT_EQUAL_FATAL(virtio_bus_state_new(g.bus, &state, &e), 0);
        CU_ASSERT_EQUAL_FATAL(unixsock_connect(g.path, SOCK_STREAM, &fd, &e), 0);
        CU_ASSERT_EQUAL(write(fd, "CONNECT 7\n", 10), 10);
        while (recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0)
                look(&g);
        virtio_bus_hold(g.bus);
        CU_ASSERT_EQUAL(virtio_bus_wait_held(g.bus, clock_now_ns() + PATIENCE_NS, &e), 0);
        virtio_bus_capture(g.bus, state);
        roll_back(&g, state);

        char text[32];
        ssize_t n = read(fd, text, sizeof(text));       /* "OK ..." */

        CU_ASSERT(n > 0 && read(fd, text, sizeof(text)) == 0);
        close(fd);
        g.nstreams = 0;
        c.path = g.path;
        CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, client_thread, &c), 0);
        while (!c.done)
                look(&g);
        pthread_join(thread, NULL);
        CU_ASSERT(c.ok);
        CU_ASSERT_EQUAL(g.events, 1);
        virtio_bus_state_free(state);
        down(&g);
}

static const CU_TestInfo cases[] = {
        { "held at any moment", held_at_any_moment },
        { "another moment has no streams", another_moment_has_no_streams },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("virtio-vsock-bus", cases);
}
