/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: streams begin from both sides, go both ways, whole and in order, hold up nobody else, and
 *   end as their ends say.
 * Method: a driver by hand (vsock-guest.h) and real unix sockets (vsock-peer.h). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/check.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"
#include "tests/unit/vsock-peer.h"

#define SHUT_RCV VIRTIO_VSOCK_SHUTDOWN_RCV
#define SHUT_SEND VIRTIO_VSOCK_SHUTDOWN_SEND
#define ROUNDS_MAX 2000000

static struct vsock_guest g;

static void up(uint32_t room, bool event_idx)
{
        vsock_guest_up(&g, room, event_idx);
}

static void down(void)
{
        CU_ASSERT_EQUAL(g.wrong, 0);
        CU_ASSERT_EQUAL(g.broken, 0);
        vsock_guest_down(&g);
}

static const char *guest_heard(struct vsock_stream *s)
{
        static char text[256];
        uint32_t n = vsock_stream_read(&g, s, text, sizeof(text) - 1);

        text[n] = '\0';
        return text;
}

static void guest_says(struct vsock_stream *s, const char *text)
{
        CU_ASSERT_EQUAL(vsock_stream_write(&g, s, text, (uint32_t)strlen(text)), strlen(text));
        vsock_guest_run(&g);
}

/* ---- beginnings -------------------------------------------------------------------- */

static void host_connects(void)
{
        up(STREAM_BYTES, true);

        int fd = peer_connect(g.path);

        CU_ASSERT_FATAL(fd >= 0);
        CU_ASSERT(peer_say(fd, "CONN"));
        vsock_guest_run(&g);
        CU_ASSERT_EQUAL(g.nstreams, 0);
        CU_ASSERT(peer_say(fd, "ECT 1234\nearly"));     /* before the answer */
        vsock_guest_run(&g);
        CU_ASSERT_EQUAL_FATAL(g.nstreams, 1);
        EXPECT_TEXT("answer", peer_heard(fd), "OK 1073741824\n");
        EXPECT_TEXT("early bytes", guest_heard(g.stream[0]), "early");
        guest_says(g.stream[0], "hello host");
        EXPECT_TEXT("to the host", peer_heard(fd), "hello host");
        CU_ASSERT(peer_say(fd, "hello guest"));
        vsock_guest_run(&g);
        EXPECT_TEXT("to the guest", guest_heard(g.stream[0]), "hello guest");
        close(fd);
        down();
}

static void guest_connects(void)
{
        struct vsock_stream *s;

        up(STREAM_BYTES, false);

        int fd = peer_serve(&g, 77, &s);

        CU_ASSERT_FATAL(fd >= 0);
        guest_says(s, "hello host");
        EXPECT_TEXT("to the host", peer_heard(fd), "hello host");
        CU_ASSERT(peer_say(fd, "hello guest"));
        vsock_guest_run(&g);
        EXPECT_TEXT("to the guest", guest_heard(s), "hello guest");
        close(fd);
        down();
}

static void nobody_listens(void)
{
        up(STREAM_BYTES, true);

        struct vsock_stream *s = vsock_guest_connect(&g, 78);

        vsock_guest_run(&g);
        CU_ASSERT(s->reset && !s->open);

        g.accepts = false;

        int fd = peer_connect(g.path);

        CU_ASSERT(peer_say(fd, "CONNECT 5\n"));
        vsock_guest_run(&g);
        EXPECT_TEXT("the guest said no", peer_heard(fd), "EOF");
        close(fd);
        down();
}

static void two_hundred(void)
{
        enum { N = 200 };
        struct vsock_stream *s[N];
        int fd[N];

        up(4096, true);
        for (unsigned i = 0; i < N; i++) {
                fd[i] = i % 2 ? peer_join(&g, 100 + i, &s[i]) : peer_serve(&g, 100 + i, &s[i]);
                CU_ASSERT_FATAL(fd[i] >= 0);
        }
        for (unsigned i = 0; i < N; i++) {
                char text[16];

                snprintf(text, sizeof(text), "%u", i);
                guest_says(s[i], text);
                EXPECT_TEXT("its own", peer_heard(fd[i]), text);
                CU_ASSERT(peer_say(fd[i], text));
        }
        vsock_guest_run(&g);
        for (unsigned i = 0; i < N; i++) {
                CU_ASSERT_EQUAL(atoi(guest_heard(s[i])), (int)i);
                close(fd[i]);
        }
        vsock_guest_run(&g);
        for (unsigned i = 0; i < N; i++)
                CU_ASSERT(s[i]->reset);
        down();
}

/* ---- bytes --------------------------------------------------------------------------- */

/* The guest sends back what it gets. */
static void echo(struct vsock_stream *s, struct peer_flow *there, struct peer_flow *back,
                 uint64_t total, int fd)
{
        bool any = true;

        for (unsigned i = 0; i < ROUNDS_MAX && any && back->heard < total; i++) {
                any = peer_push(fd, there, total);
                any |= vsock_guest_turn(&g, 0);
                any |= vsock_guest_look(&g);
                any |= peer_guest_pull(&g, s, there);
                any |= peer_guest_push(&g, s, back, there->heard);
                any |= vsock_guest_turn(&g, 0);
                any |= peer_pull(fd, back, SIZE_MAX);
                if (!any)
                        any = vsock_guest_turn(&g, 20);
        }
}

static void echo_ten_megabytes(void)
{
        static const uint32_t rooms[] = { 1500, 8192, STREAM_BYTES };
        const uint64_t total = 10u << 20;

        for (size_t i = 0; i < ARRAY_SIZE(rooms); i++) {
                struct peer_flow there = { .seed = 3 }, back = { .seed = 3 };
                struct vsock_stream *s;

                up(rooms[i], i % 2);

                int fd = peer_join(&g, 9, &s);

                CU_ASSERT_FATAL(fd >= 0);
                echo(s, &there, &back, total, fd);
                CU_ASSERT_EQUAL(there.heard, total);
                CU_ASSERT_EQUAL(back.heard, total);
                CU_ASSERT(!there.wrong && !back.wrong);
                close(fd);
                down();
        }
}

/* INV-CREDIT */
static void slow_reader(void)
{
        struct peer_flow slow = { .seed = 1 }, quick = { .seed = 2 };
        const uint64_t total = 4u << 20;
        struct vsock_stream *a, *b;

        up(STREAM_BYTES, true);

        int fda = peer_join(&g, 1, &a), fdb = peer_join(&g, 2, &b);

        CU_ASSERT_FATAL(fda >= 0 && fdb >= 0);
        for (unsigned i = 0; i < ROUNDS_MAX && (quick.heard < total || slow.sent < 256u << 10);
             i++) {
                peer_guest_push(&g, a, &slow, total);
                peer_guest_push(&g, b, &quick, total);
                vsock_guest_run(&g);
                peer_pull(fdb, &quick, SIZE_MAX);
        }
        CU_ASSERT_EQUAL(quick.heard, total);
        CU_ASSERT(slow.sent < 1u << 20);        /* what sockets and the buffer hold */
        CU_ASSERT_FALSE(peer_guest_push(&g, a, &slow, total));
        CU_ASSERT(slow.sent - a->peer_taken <= 64u << 10);

        for (unsigned i = 0; i < ROUNDS_MAX && slow.heard < total; i++) {
                peer_pull(fda, &slow, 1000);
                peer_guest_push(&g, a, &slow, total);
                vsock_guest_turn(&g, 0);
                vsock_guest_look(&g);
        }
        CU_ASSERT_EQUAL(slow.heard, total);
        CU_ASSERT(!slow.wrong && !quick.wrong && a->credit_updates > 0);
        close(fda);
        close(fdb);
        down();
}

/* A guest that does not read stops its own stream alone; the device asks for credit once. */
static void slow_guest(void)
{
        struct peer_flow f = { .seed = 5 };
        struct vsock_stream *a, *b;

        up(4096, true);

        int fda = peer_join(&g, 1, &a), fdb = peer_join(&g, 2, &b);

        CU_ASSERT_FATAL(fda >= 0 && fdb >= 0);
        while (peer_push(fda, &f, 8u << 20))
                vsock_guest_run(&g);
        CU_ASSERT_EQUAL(a->heard, 4096);
        CU_ASSERT_EQUAL(a->credit_requests, 1);
        CU_ASSERT(peer_say(fdb, "other"));
        vsock_guest_run(&g);
        EXPECT_TEXT("the other", guest_heard(b), "other");
        do
                vsock_guest_run(&g);
        while (peer_guest_pull(&g, a, &f));
        CU_ASSERT_EQUAL(f.heard, f.sent);
        CU_ASSERT(!f.wrong);
        close(fda);
        close(fdb);
        down();
}

/* rx runs dry and comes again: nothing is lost, nobody sleeps for ever */
static void no_buffers(void)
{
        struct peer_flow f = { .seed = 6 };
        struct vsock_stream *s;

        up(STREAM_BYTES, true);

        int fd = peer_join(&g, 1, &s);

        CU_ASSERT_FATAL(fd >= 0);
        for (unsigned i = 0; i < 50; i++) {
                g.hold_rx = true;
                while (peer_push(fd, &f, f.sent + 3000))
                        vsock_guest_run(&g);
                g.hold_rx = false;
                do
                        vsock_guest_run(&g);
                while (peer_guest_pull(&g, s, &f));
        }
        CU_ASSERT_EQUAL(f.heard, f.sent);
        CU_ASSERT(f.sent > 50 * (64u << 10) && !f.wrong);
        close(fd);
        down();
}

/* ---- ends ---------------------------------------------------------------------------- */

static void host_ends_its_half(void)
{
        struct vsock_stream *s;

        up(STREAM_BYTES, true);

        int fd = peer_join(&g, 1, &s);

        CU_ASSERT_FATAL(fd >= 0 && peer_say(fd, "question"));
        shutdown(fd, SHUT_WR);
        vsock_guest_run(&g);
        EXPECT_TEXT("bytes first", guest_heard(s), "question");
        CU_ASSERT_EQUAL(s->ended, SHUT_SEND);
        guest_says(s, "answer");
        vsock_guest_say(&g, s, VIRTIO_VSOCK_OP_SHUTDOWN, SHUT_SEND);
        vsock_guest_run(&g);
        EXPECT_TEXT("the other half", peer_heard(fd), "answer");
        EXPECT_TEXT("its end", peer_heard(fd), "EOF");
        CU_ASSERT(s->reset);                    /* both are through: a clean end */
        close(fd);
        down();
}

static void guest_ends_its_half(void)
{
        struct vsock_stream *s;

        up(STREAM_BYTES, true);

        int fd = peer_serve(&g, 1, &s);

        CU_ASSERT_FATAL(fd >= 0);
        guest_says(s, "question");
        vsock_guest_say(&g, s, VIRTIO_VSOCK_OP_SHUTDOWN, SHUT_SEND);
        vsock_guest_run(&g);
        EXPECT_TEXT("bytes first", peer_heard(fd), "question");
        EXPECT_TEXT("the end", peer_heard(fd), "EOF");
        CU_ASSERT(peer_say(fd, "answer"));
        vsock_guest_run(&g);
        EXPECT_TEXT("the other half", guest_heard(s), "answer");
        CU_ASSERT(!s->reset && !s->ended);
        close(fd);
        vsock_guest_run(&g);
        CU_ASSERT(s->reset);
        down();
}

static void guest_hears_no_more(void)
{
        struct vsock_stream *s;

        up(STREAM_BYTES, true);

        int fd = peer_serve(&g, 1, &s);

        CU_ASSERT_FATAL(fd >= 0);
        vsock_guest_say(&g, s, VIRTIO_VSOCK_OP_SHUTDOWN, SHUT_RCV);
        vsock_guest_run(&g);
        CU_ASSERT(send(fd, "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
        guest_says(s, "still");
        EXPECT_TEXT("the other half", peer_heard(fd), "still");
        close(fd);
        down();
}

static void host_closes(void)
{
        struct vsock_stream *s;

        up(STREAM_BYTES, true);

        unsigned fds = expect_open_fds();
        int fd = peer_join(&g, 1, &s);

        CU_ASSERT_FATAL(fd >= 0 && peer_say(fd, "last words"));
        close(fd);
        vsock_guest_run(&g);
        CU_ASSERT_EQUAL(s->ended, SHUT_SEND | SHUT_RCV);
        EXPECT_TEXT("bytes first", guest_heard(s), "last words");
        CU_ASSERT_EQUAL(expect_open_fds(), fds);        /* also before the guest's RST */
        vsock_guest_say(&g, s, VIRTIO_VSOCK_OP_RST, 0);
        vsock_guest_run(&g);
        CU_ASSERT_EQUAL(g.refused, 0);
        down();
}

/* The host hangs up without a look at what comes; found out by writing. */
static void host_hangs_up(void)
{
        struct peer_flow f = { .seed = 1 };
        struct vsock_stream *s;

        up(STREAM_BYTES, true);

        int fd = peer_join(&g, 1, &s);

        CU_ASSERT_FATAL(fd >= 0);
        do
                vsock_guest_run(&g);
        while (peer_guest_push(&g, s, &f, 8u << 20));
        close(fd);
        vsock_guest_run(&g);
        CU_ASSERT(s->reset);
        down();
}

static void guest_closes(void)
{
        struct vsock_stream *s;

        up(STREAM_BYTES, true);

        unsigned fds = expect_open_fds();
        int fd = peer_join(&g, 1, &s);

        CU_ASSERT_FATAL(fd >= 0);
        guest_says(s, "last words");
        vsock_guest_say(&g, s, VIRTIO_VSOCK_OP_SHUTDOWN, SHUT_SEND | SHUT_RCV);
        vsock_guest_run(&g);
        CU_ASSERT(s->reset);
        EXPECT_TEXT("bytes first", peer_heard(fd), "last words");
        EXPECT_TEXT("the end", peer_heard(fd), "EOF");
        close(fd);
        CU_ASSERT_EQUAL(expect_open_fds(), fds);
        down();
}

/* What a slow host has not taken lingers; the guest is done with it, and may use its ports. */
static void guest_closes_before_the_host_has_all(void)
{
        struct peer_flow f = { .seed = 9 };
        struct vsock_stream *s, *t;

        up(STREAM_BYTES, true);

        int fd = peer_serve(&g, 7, &s);

        CU_ASSERT_FATAL(fd >= 0);
        do
                vsock_guest_run(&g);
        while (peer_guest_push(&g, s, &f, 8u << 20));
        vsock_guest_say(&g, s, VIRTIO_VSOCK_OP_SHUTDOWN, SHUT_SEND | SHUT_RCV);
        vsock_guest_run(&g);
        CU_ASSERT(s->reset);
        g.next_port = s->guest_port;

        int fd2 = peer_serve(&g, 7, &t);

        CU_ASSERT_FATAL(fd2 >= 0);
        guest_says(t, "new");
        EXPECT_TEXT("its ports again", peer_heard(fd2), "new");
        while (peer_pull(fd, &f, 5000))
                vsock_guest_run(&g);
        CU_ASSERT_EQUAL(f.heard, f.sent);
        CU_ASSERT(!f.wrong);
        EXPECT_TEXT("then the end", peer_heard(fd), "EOF");
        close(fd);
        close(fd2);
        down();
}

static void guest_resets(void)
{
        struct vsock_stream *s;

        up(STREAM_BYTES, true);

        int fd = peer_join(&g, 1, &s);

        CU_ASSERT_FATAL(fd >= 0);
        vsock_guest_say(&g, s, VIRTIO_VSOCK_OP_RST, 0);
        s->reset = true;
        vsock_guest_run(&g);
        EXPECT_TEXT("the host", peer_heard(fd), "EOF");
        CU_ASSERT_EQUAL(g.refused, 0);
        close(fd);
        down();
}

static const CU_TestInfo cases[] = {
        { "a host program connects", host_connects },
        { "a guest program connects", guest_connects },
        { "nobody listens", nobody_listens },
        { "two hundred streams", two_hundred },
        { "echo of ten megabytes, little credit", echo_ten_megabytes },
        { "a host that reads slowly", slow_reader },
        { "a guest that reads slowly", slow_guest },
        { "a guest without buffers", no_buffers },
        { "the host ends its half", host_ends_its_half },
        { "the guest ends its half", guest_ends_its_half },
        { "the guest hears no more", guest_hears_no_more },
        { "the host closes", host_closes },
        { "the host hangs up", host_hangs_up },
        { "the guest closes", guest_closes },
        { "the guest closes early", guest_closes_before_the_host_has_all },
        { "the guest resets", guest_resets },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("virtio-vsock", cases);
}
