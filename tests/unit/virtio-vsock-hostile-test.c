/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: whatever a guest or a host client sends, the device answers as it should, keeps its limits
 *   and serves the others.
 * Method: packets that break a rule each, in a table; limits driven to their ends. */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"
#include "tests/unit/vsock-loop.h"
#include "tests/unit/vsock-peer.h"
#include "vmm/virtio/vsock-conn.h"
#include "vmm/virtio/vsock-table.h"

static struct vsock_guest g;

/* The device still serves: a new stream works. */
static void still_serves(const char *row)
{
        struct vsock_stream *s;
        int fd = peer_join(&g, 4321, &s);

        EXPECT_TRUE(row, fd >= 0);
        if (fd >= 0) {
                EXPECT_TRUE(row, vsock_stream_write(&g, s, "ping", 4) == 4);
                vsock_guest_run(&g);
                EXPECT_TEXT(row, peer_heard(fd), "ping");
                close(fd);
                vsock_guest_run(&g);
        }
}

enum stream { NONE, OPEN_STREAM, ASKING };

struct hostile {
        const char *row;
        enum stream stream;             /* whose ports it has; NONE: ports of nobody */
        uint16_t op, type;
        uint32_t len, bytes;            /* said, and there */
        uint64_t src_cid, dst_cid;
        unsigned refused;               /* RST answered */
        bool ends;                      /* the host's side of the stream */
};

#define OP(name) VIRTIO_VSOCK_OP_##name
#define CIDS GUEST_CID, VSOCK_CID_HOST

static const struct hostile packets[] = {
        { "bytes for nobody", NONE, OP(RW), 1, 10, 10, CIDS, 1, false },
        { "answer to nobody", NONE, OP(RESPONSE), 1, 0, 0, CIDS, 1, false },
        { "end of nobody's", NONE, OP(SHUTDOWN), 1, 0, 0, CIDS, 1, false },
        { "credit of nobody's", NONE, OP(CREDIT_REQUEST), 1, 0, 0, CIDS, 1, false },
        { "reset of nobody's", NONE, OP(RST), 1, 0, 0, CIDS, 0, false },
        { "request of another type", NONE, OP(REQUEST), 2, 0, 0, CIDS, 1, false },
        { "unknown op for nobody", NONE, 99, 1, 0, 0, CIDS, 1, false },
        { "another's cid", OPEN_STREAM, OP(RST), 1, 0, 0, 43, 2, 0, false },
        { "the host's cid", OPEN_STREAM, OP(RST), 1, 0, 0, 2, 2, 0, false },
        { "for another guest", OPEN_STREAM, OP(RST), 1, 0, 0, GUEST_CID, 43, 0, false },
        { "another type", OPEN_STREAM, OP(RW), 2, 4, 4, CIDS, 1, false },
        { "unknown op", OPEN_STREAM, 99, 1, 0, 0, CIDS, 1, true },
        { "op 0", OPEN_STREAM, 0, 1, 0, 0, CIDS, 1, true },
        { "length beyond the packet", OPEN_STREAM, OP(RW), 1, 5000, 4, CIDS, 1, true },
        { "length of 4 GiB", OPEN_STREAM, OP(RW), 1, UINT32_MAX, 4, CIDS, 1, true },
        { "more than credit", OPEN_STREAM, OP(RW), 1, 65537, 65537, CIDS, 1, true },
        { "request again", OPEN_STREAM, OP(REQUEST), 1, 0, 0, CIDS, 1, true },
        { "answer again", OPEN_STREAM, OP(RESPONSE), 1, 0, 0, CIDS, 1, true },
        { "no bytes at all", OPEN_STREAM, OP(RW), 1, 0, 0, CIDS, 0, false },
        { "less than there is", OPEN_STREAM, OP(RW), 1, 2, 4000, CIDS, 0, false },
        { "bytes before the answer", ASKING, OP(RW), 1, 4, 4, CIDS, 1, true },
        { "end before the answer", ASKING, OP(SHUTDOWN), 1, 0, 0, CIDS, 1, true },
        { "request for an answer", ASKING, OP(REQUEST), 1, 0, 0, CIDS, 1, true },
        { "credit before the answer", ASKING, OP(CREDIT_UPDATE), 1, 0, 0, CIDS, 0, false },
        { "no", ASKING, OP(RST), 1, 0, 0, CIDS, 0, true },
};

/* A client whose request the guest has in its ring, unread. */
static int ask(struct vsock_stream *s)
{
        int fd = peer_connect(g.path);

        g.hold_rx = true;
        CU_ASSERT_FATAL(fd >= 0 && peer_say(fd, "CONNECT 6\n"));
        for (unsigned i = 0; i < 5; i++)
                vsock_guest_turn(&g, 1);
        g.hold_rx = false;
        *s = (struct vsock_stream){ .guest_port = 6, .host_port = 1u << 30 };
        return fd;
}

static void hostile_packet(const struct hostile *h)
{
        static uint8_t bytes[65537];
        struct vsock_stream *s, mine = { .guest_port = 99, .host_port = 98 };
        struct vsock_packet p;
        int fd = -1;

        vsock_guest_up(&g, 4096, true);
        if (h->stream == OPEN_STREAM) {
                fd = peer_join(&g, 6, &s);
                mine = *s;
                s->reset = true;        /* answers are counted as nobody's */
        } else if (h->stream == ASKING) {
                fd = ask(&mine);
        }
        p = vsock_guest_packet(&mine, h->op);
        p.type = h->type;
        p.len = h->len;
        p.src_cid = h->src_cid;
        p.dst_cid = h->dst_cid;
        g.hold_rx = h->stream == ASKING;
        EXPECT_TRUE(h->row, vsock_guest_send_raw(&g, &p, bytes, h->bytes));
        for (unsigned i = 0; i < 5; i++)
                vsock_guest_turn(&g, 1);
        if (h->stream == ASKING) {
                EXPECT_EQUAL(h->row, g.dev->queue[GUEST_RX].used->idx, 1 + h->refused);
        } else {
                vsock_guest_look(&g);
                EXPECT_EQUAL(h->row, g.refused, h->refused);
        }
        if (g.refused)
                EXPECT_EQUAL(h->row, g.last.type, h->type);
        if (fd >= 0 && h->ends)
                EXPECT_TEXT(h->row, peer_heard(fd), "EOF");
        else if (fd >= 0)
                EXPECT_TRUE(h->row, strcmp(peer_heard(fd), "EOF") != 0);
        EXPECT_EQUAL(h->row, g.wrong, 0);
        if (fd >= 0)
                close(fd);
        vsock_guest_down(&g);
}

static void hostile_packets(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(packets); i++)
                hostile_packet(&packets[i]);
}

static void short_packets(void)
{
        const struct vqguest_buf tiny = { .gpa = 0x90000, .bytes = 43 };
        const struct vqguest_buf wrong_way = { .gpa = 0x90000, .bytes = 44, .device_writes = true };
        uint32_t written;
        uint16_t head;

        vsock_guest_up(&g, 4096, false);
        vqguest_add(&g.queue[GUEST_TX], &tiny, 1);
        vqguest_add(&g.queue[GUEST_TX], &wrong_way, 1);
        vsock_guest_kick(&g, GUEST_TX);
        for (unsigned i = 0; i < 2; i++)
                CU_ASSERT(vqguest_used(&g.queue[GUEST_TX], &head, &written) && written == 0);
        still_serves("after them");
        CU_ASSERT_EQUAL(g.broken, 0);
        vsock_guest_down(&g);
}

/* Bytes beyond credit over several packets, after which the host reads: all or nothing. */
static void credit_is_counted_over_packets(void)
{
        static uint8_t bytes[60000];
        struct vsock_stream *s;
        struct vsock_packet p;

        vsock_guest_up(&g, 4096, true);

        int fd = peer_join(&g, 1, &s);

        CU_ASSERT_FATAL(fd >= 0);
        for (unsigned i = 0; i < 10 && !s->reset; i++) {
                p = vsock_guest_packet(s, VIRTIO_VSOCK_OP_RW);
                p.len = sizeof(bytes);
                CU_ASSERT(vsock_guest_send_raw(&g, &p, bytes, sizeof(bytes)));
                vsock_guest_run(&g);
        }
        CU_ASSERT(s->reset);
        close(fd);
        still_serves("after it");
        CU_ASSERT_EQUAL(g.wrong, 0);
        vsock_guest_down(&g);
}

/* What a guest says of its own credit hurts itself alone. */
static void credit_that_lies(void)
{
        static const struct { const char *row; uint32_t room, taken; } lies[] = {
                { "took what was never sent", 4096, 1u << 20 },
                { "took half of all numbers", 4096, 1u << 31 },
                { "no room", 0, 0 },
        };

        vsock_guest_up(&g, 4096, true);
        for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
                struct vsock_stream *s;
                int fd = peer_join(&g, 1 + (uint32_t)i, &s);

                EXPECT_TRUE(lies[i].row, fd >= 0);
                s->room = lies[i].room;
                s->taken = lies[i].taken;
                vsock_guest_say(&g, s, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0);
                CU_ASSERT(peer_say(fd, "bytes"));
                vsock_guest_run(&g);
                EXPECT_EQUAL(lies[i].row, s->heard, 0);
                still_serves(lies[i].row);
                close(fd);
        }
        vsock_guest_down(&g);
}

static void too_small_a_buffer(void)
{
        struct vqguest_buf small = { .gpa = 0x90000, .bytes = VSOCK_HEADER_BYTES,
                                     .device_writes = true };
        const struct vsock_packet p = { .src_cid = GUEST_CID, .dst_cid = VSOCK_CID_HOST,
                                        .type = 1, .op = VIRTIO_VSOCK_OP_RW };

        vsock_guest_up(&g, 4096, true);
        vqguest_init(&g.queue[GUEST_RX], &g.ram, 0xa0000, 16, &g.dev->queue[GUEST_RX]);
        vqguest_add(&g.queue[GUEST_RX], &small, 1);
        CU_ASSERT(vsock_guest_send_raw(&g, &p, NULL, 0));
        CU_ASSERT_EQUAL(g.broken, 1);
        for (unsigned i = 0; i < 5; i++)
                vsock_guest_turn(&g, 1);
        CU_ASSERT_EQUAL(g.broken, 1);           /* said once */
        vsock_guest_down(&g);
}

static void a_broken_ring(void)
{
        struct vsock_stream *s;

        vsock_guest_up(&g, 4096, true);

        int fd = peer_join(&g, 1, &s);

        g.queue[GUEST_TX].ring.avail->idx = (uint16_t)(g.queue[GUEST_TX].avail_idx + 1000);
        g.dev->class->kick(g.dev, GUEST_TX);
        CU_ASSERT_EQUAL(g.broken, 1);
        CU_ASSERT(peer_say(fd, "bytes"));
        for (unsigned i = 0; i < 5; i++)
                vsock_guest_turn(&g, 1);
        CU_ASSERT_EQUAL(g.broken, 1);
        close(fd);
        vsock_guest_down(&g);
}

/* A guest that sends what is refused and takes no answers. */
static void refusals_are_bounded(void)
{
        struct vsock_stream nobody = { .guest_port = 1, .host_port = 2 };
        unsigned sent = 0;

        vsock_guest_up(&g, 4096, true);
        g.hold_rx = true;
        for (unsigned i = 0; i < 2000; i++) {
                struct vsock_packet p = vsock_guest_packet(&nobody, VIRTIO_VSOCK_OP_RW);

                sent += vsock_guest_send_raw(&g, &p, NULL, 0);
                vsock_guest_turn(&g, 0);
                vsock_guest_look(&g);
        }
        CU_ASSERT_EQUAL(sent, 2000);
        g.hold_rx = false;
        vsock_guest_run(&g);
        CU_ASSERT_EQUAL(g.refused, 2 * GUEST_RING);
        still_serves("after it");
        vsock_guest_down(&g);
}

/* ---- host clients ------------------------------------------------------------------------ */

static void clients_that_say_nonsense(void)
{
        static const char *const said[] = {
                "\n", "GET / HTTP/1.1\r\n", "CONNECT\n", "CONNECT 4294967295\n", "CONNECT -1\n",
                "CONNECT 1                                       \n",
                "0123456789012345678901234567890123456789",
        };

        vsock_guest_up(&g, 4096, true);
        for (size_t i = 0; i < ARRAY_SIZE(said); i++) {
                int fd = peer_connect(g.path);
                const char *heard;

                EXPECT_TRUE(said[i], fd >= 0 && peer_say(fd, said[i]));
                vsock_guest_run(&g);
                heard = peer_heard(fd);
                /* what was not read makes an error of it */
                EXPECT_TRUE(said[i], strcmp(heard, "EOF") == 0 || strstr(heard, "reset"));
                close(fd);
        }
        CU_ASSERT_EQUAL(g.nstreams, 0);
        still_serves("after them");
        vsock_guest_down(&g);
}

/* A guest has so long to say yes or no, the time not counted in which it stands still. */
static void a_guest_that_does_not_answer(void)
{
        struct vsock_stream s;

        vsock_guest_up(&g, 4096, true);

        int fd = ask(&s);

        vsock_loop_skip(9 * NS_PER_SEC);
        vsock_guest_turn(&g, 1);
        vsock_loop_drain(g.loop, g.dev);
        vsock_loop_skip(60 * NS_PER_SEC);
        vsock_guest_turn(&g, 1);
        vsock_loop_resume(g.loop, g.dev);
        vsock_loop_skip(9 * NS_PER_SEC);
        vsock_guest_turn(&g, 1);
        EXPECT_TEXT("still waits", peer_heard(fd), "");
        vsock_loop_skip(2 * NS_PER_SEC);
        vsock_guest_turn(&g, 1);
        EXPECT_TEXT("no longer", peer_heard(fd), "EOF");
        CU_ASSERT_EQUAL(g.dev->queue[GUEST_RX].used->idx, 2);   /* the request, its end */
        vsock_guest_run(&g);                    /* a late yes is for nobody */
        CU_ASSERT_EQUAL(g.wrong, 0);
        close(fd);
        still_serves("after it");
        vsock_guest_down(&g);
}

/* Clients that connect and say nothing keep others waiting only for so long. */
static void clients_that_say_nothing(void)
{
        enum { IDLE = 64 };
        int fd[IDLE];

        vsock_guest_up(&g, 4096, true);
        for (unsigned i = 0; i < IDLE; i++) {
                fd[i] = peer_connect(g.path);
                CU_ASSERT_FATAL(fd[i] >= 0);
                vsock_guest_turn(&g, 0);
        }
        vsock_guest_run(&g);

        int late = peer_connect(g.path);

        CU_ASSERT_FATAL(late >= 0 && peer_say(late, "CONNECT 1\n"));
        vsock_loop_skip(4 * NS_PER_SEC);
        vsock_guest_run(&g);
        EXPECT_TEXT("waits", peer_heard(late), "");
        vsock_loop_skip(2 * NS_PER_SEC);
        vsock_guest_run(&g);
        CU_ASSERT(strncmp(peer_heard(late), "OK ", 3) == 0);
        for (unsigned i = 0; i < IDLE; i++) {
                EXPECT_TEXT("the idle", peer_heard(fd[i]), "EOF");
                close(fd[i]);
        }
        close(late);
        vsock_guest_down(&g);
}

/* ---- the table ----------------------------------------------------------------------------- */

/* Streams that a server at one port accepts, n of them, by raw packets. */
static unsigned ask_for(unsigned n, uint32_t first_port, int listen_fd, int *fds)
{
        unsigned got = 0;

        for (unsigned i = 0; i < n; i++) {
                struct vsock_stream s = { .guest_port = first_port + i, .host_port = 5,
                                          .room = 4096 };
                struct vsock_packet p = vsock_guest_packet(&s, VIRTIO_VSOCK_OP_REQUEST);

                CU_ASSERT(vsock_guest_send_raw(&g, &p, NULL, 0));
                vsock_guest_turn(&g, 0);
                vsock_guest_look(&g);
                fds[got] = peer_accept(listen_fd);
                got += fds[got] >= 0;
        }
        return got;
}

/* A stream that the guest has closed, of which the host does not take the rest. */
static int let_one_linger(struct peer_flow *f)
{
        struct vsock_stream *s;
        int fd = peer_serve(&g, 6, &s);

        CU_ASSERT_FATAL(fd >= 0);
        do
                vsock_guest_run(&g);
        while (peer_guest_push(&g, s, f, 8u << 20));
        vsock_guest_say(&g, s, VIRTIO_VSOCK_OP_SHUTDOWN, 3);
        vsock_guest_run(&g);
        CU_ASSERT(s->reset);
        return fd;
}

static void the_table_is_full(void)
{
        static int fds[VSOCK_CONNS_MAX + 10];
        const struct rlimit enough = { .rlim_cur = 4096, .rlim_max = 4096 };

        if (setrlimit(RLIMIT_NOFILE, &enough) < 0) {
                printf("skipped: no 4096 descriptors\n");
                return;
        }
        vsock_guest_up(&g, 4096, true);

        struct peer_flow f = { .seed = 1 };
        int lingers = let_one_linger(&f), listen_fd = peer_listen(g.path, 5);
        unsigned got = ask_for(VSOCK_CONNS_MAX + 10, 1000, listen_fd, fds);

        CU_ASSERT_EQUAL(got, VSOCK_CONNS_MAX);
        while (peer_pull(lingers, &f, SIZE_MAX))
                vsock_guest_turn(&g, 0);
        CU_ASSERT(f.heard < f.sent && !f.wrong);        /* it went for the last of them */
        EXPECT_TEXT("and ended", peer_heard(lingers), "EOF");
        close(lingers);
        vsock_guest_run(&g);
        /* by number of packets for nobody: each of the ten was refused */
        CU_ASSERT_EQUAL(g.refused, 10);

        int late = peer_connect(g.path);

        CU_ASSERT(peer_say(late, "CONNECT 1\n"));
        vsock_guest_run(&g);
        EXPECT_TEXT("no room", peer_heard(late), "EOF");
        close(late);
        for (unsigned i = 0; i < got; i++)
                close(fds[i]);
        peer_unlisten(g.path, 5, listen_fd);
        vsock_guest_down(&g);
}

static const CU_TestInfo cases[] = {
        { "hostile packets", hostile_packets },
        { "short packets", short_packets },
        { "credit is counted over packets", credit_is_counted_over_packets },
        { "credit that lies", credit_that_lies },
        { "too small a buffer", too_small_a_buffer },
        { "a broken ring", a_broken_ring },
        { "refusals are bounded", refusals_are_bounded },
        { "clients that say nonsense", clients_that_say_nonsense },
        { "a guest that does not answer", a_guest_that_does_not_answer },
        { "clients that say nothing", clients_that_say_nothing },
        { "the table is full", the_table_is_full },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("virtio-vsock-hostile", cases);
}
