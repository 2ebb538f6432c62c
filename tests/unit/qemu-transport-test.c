/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: each transport gives two directions that carry bytes, are blocking and are not
 *       inherited; addresses are what they say or refused; a socket in the file system
 *       is the user's alone and is gone after one connection, or after the time; a
 *       refused stream gets one byte, and only if nothing was written.
 * Method: tables of addresses; children and threads are the other side. */
#include <CUnit/CUnit.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/io.h"
#include "pageserver/adapters/qemu/transport.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

#define TEST_SECONDS 120

/* ---- what the user says ----------------------------------------------------------- */

static void uris(void)
{
        static const struct {
                const char *text;
                int rc, in, out;
        } rows[] = {
                { "fd:3", 0, 3, 3 }, { "fd:0,1", 0, 0, 1 }, { "fd:12,7", 0, 12, 7 },
                { "", -EINVAL, 0, 0 }, { "3", -EINVAL, 0, 0 }, { "fd:", -EINVAL, 0, 0 },
                { "fd:x", -EINVAL, 0, 0 }, { "fd:3x", -EINVAL, 0, 0 },
                { "fd:-1", -EINVAL, 0, 0 }, { "fd: 3", -EINVAL, 0, 0 },
                { "fd:+3", -EINVAL, 0, 0 }, { "fd:3,", -EINVAL, 0, 0 },
                { "fd:3,4,5", -EINVAL, 0, 0 }, { "fd:99999999999999999999", -EINVAL, 0, 0 },
                { "unix:x", -EINVAL, 0, 0 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct transport_options o = { .kind = TRANSPORT_STDIO };
                struct err e;

                EXPECT_EQUAL(rows[i].text, transport_parse_uri(rows[i].text, &o, &e), rows[i].rc);
                EXPECT_EQUAL(rows[i].text, o.in, rows[i].in);
                EXPECT_EQUAL(rows[i].text, o.out, rows[i].out);
        }
}

static void addresses(void)
{
        static const struct {
                const char *text;
                int rc;
        } rows[] = {
                { "unix:s", 0 }, { "unix:/tmp/a:b", 0 }, { "tcp:localhost:1", 0 },
                { "tcp:127.0.0.1:65535", 0 }, { "tcp:[::1]:4444", 0 },
                { "", -EINVAL }, { "unix:", -EINVAL }, { "s", -EINVAL }, { "tcp:", -EINVAL },
                { "tcp:localhost", -EINVAL }, { "tcp::4444", -EINVAL },
                { "tcp:localhost:", -EINVAL }, { "tcp:localhost:0", -EINVAL },
                { "tcp:localhost:65536", -EINVAL }, { "tcp:localhost:http", -EINVAL },
                { "tcp:localhost:-1", -EINVAL }, { "tcp:localhost:+1", -EINVAL },
                { "tcp:localhost:000001", -EINVAL }, { "tcp:::1:4444", -EINVAL },
                { "tcp:[]:4444", -EINVAL }, { "tcp:[::1]4444", -EINVAL },
                { "tcp:[::1:4444", -EINVAL }, { "fd:3", -EINVAL },
        };
        char *text = NULL;
        struct err e;

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct transport_options o = { .kind = TRANSPORT_STDIO };

                EXPECT_EQUAL(rows[i].text,
                             transport_parse_address(rows[i].text, TRANSPORT_LISTEN, &o, &e),
                             rows[i].rc);
        }
        for (int n = 255; n <= 256; n++) {
                struct transport_options o = { .kind = TRANSPORT_STDIO };

                if (asprintf(&text, "tcp:%0*d:1", n, 0) < 0)
                        abort();
                EXPECT_EQUAL("a long host", transport_parse_address(text, TRANSPORT_CONNECT, &o,
                                                                    &e), n > 255 ? -EINVAL : 0);
                free(text);
        }
        if (asprintf(&text, "unix:%0108d", 0) < 0)
                abort();

        struct transport_options o = { .kind = TRANSPORT_STDIO };

        EXPECT_EQUAL("a long path", transport_parse_address(text, TRANSPORT_LISTEN, &o, &e),
                     -EINVAL);
        free(text);
}

/* ---- what is inherited ------------------------------------------------------------ */

static int open_fds(int in, int out, struct transport *ret)
{
        const struct transport_options o = { .kind = TRANSPORT_FD, .in = in, .out = out };

        return transport_open(&o, ret, NULL);
}

static void inherited(void)
{
        struct transport t = TRANSPORT_NONE;
        int p[2], s[2];

        if (pipe2(p, O_NONBLOCK) < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, s) < 0)
                abort();
        EXPECT_EQUAL("two ends", open_fds(p[0], p[1], &t), 0);
        EXPECT_EQUAL("blocking", fcntl(t.in, F_GETFL) & O_NONBLOCK, 0);
        EXPECT_EQUAL("close-on-exec", fcntl(t.out, F_GETFD), FD_CLOEXEC);
        EXPECT_EQUAL("the wrong way round", open_fds(p[1], p[0], &t), -EBADF);
        EXPECT_EQUAL("one end of a pipe", open_fds(p[0], p[0], &t), -EBADF);
        EXPECT_EQUAL("none", open_fds(987, 987, &t), -EBADF);
        transport_close(&t);
        EXPECT_EQUAL("closed", fcntl(p[0], F_GETFD), -1);
        EXPECT_EQUAL("closed", fcntl(p[1], F_GETFD), -1);
        EXPECT_EQUAL("a socket", open_fds(s[0], s[0], &t), 0);
        EXPECT_EQUAL("in and out", t.in, t.out);
        transport_close(&t);
        transport_close(&t);
        close(s[1]);
}

static void enlarged(void)
{
        struct transport t = TRANSPORT_NONE;
        int file = open("/dev/null", O_RDWR | O_CLOEXEC);
        int p[2];

        if (pipe2(p, O_CLOEXEC) < 0)
                abort();
        EXPECT_EQUAL("opened", open_fds(p[0], p[1], &t), 0);
        transport_enlarge(&t);
        EXPECT_TRUE("more than before", fcntl(p[0], F_GETPIPE_SZ) >= 128 << 10);
        transport_close(&t);
        EXPECT_EQUAL("what is neither pipe nor socket", open_fds(file, file, &t), 0);
        transport_enlarge(&t);
        transport_close(&t);
}

static void refused(void)
{
        struct transport t = TRANSPORT_NONE;
        uint8_t got[4];
        int p[2];

        transport_refuse(&t);                   /* nobody there */
        if (pipe2(p, O_CLOEXEC | O_NONBLOCK) < 0)
                abort();
        t.in = t.out = p[1];
        transport_refuse(&t);
        transport_refuse(&t);
        EXPECT_EQUAL("one byte", read(p[0], got, sizeof(got)), 1);
        EXPECT_TRUE("neither the end nor a beginning of a stream", got[0] > 8 && got[0] != 'Q');
        t.wrote = true;
        transport_refuse(&t);
        EXPECT_EQUAL("nothing behind what was written", read(p[0], got, sizeof(got)), -1);
        close(p[0]);
        close(p[1]);
}

/* ---- connections ------------------------------------------------------------------- */

struct side {
        struct transport_options o;
        struct transport t;
        struct err e;
        int rc;
};

static void *side_open(void *arg)
{
        struct side *s = arg;

        s->rc = transport_open(&s->o, &s->t, &s->e);
        return NULL;
}

/* Who connects before the other listens tries again: he cannot know. */
static void *side_insist(void *arg)
{
        struct side *s = arg;
        uint64_t end_ns = clock_now_ns() + TEST_SECONDS * NS_PER_SEC / 2;

        do {
                side_open(s);
        } while ((s->rc == -ENOENT || s->rc == -ECONNREFUSED) && clock_now_ns() < end_ns);
        return NULL;
}

static void meet(const char *address)
{
        struct side here = { .o = { TRANSPORT_LISTEN, -1, -1, address, TEST_SECONDS },
                             .t = TRANSPORT_NONE };
        struct side there = { .o = { TRANSPORT_CONNECT, -1, -1, address, 0 },
                              .t = TRANSPORT_NONE };
        char got[2] = "";
        pthread_t thread;

        pthread_create(&thread, NULL, side_insist, &there);
        side_open(&here);
        pthread_join(thread, NULL);
        EXPECT_EQUAL(address, here.rc, 0);
        EXPECT_EQUAL(address, there.rc, 0);
        if (here.rc == 0 && there.rc == 0) {
                EXPECT_EQUAL(address, fcntl(there.t.in, F_GETFL) & O_NONBLOCK, 0);
                EXPECT_EQUAL(address, fcntl(here.t.in, F_GETFL) & O_NONBLOCK, 0);
                transport_enlarge(&here.t);
                EXPECT_EQUAL(address, io_write_full(here.t.out, "a", 1), 0);
                EXPECT_EQUAL(address, io_read_full(there.t.in, got, 1), 0);
                EXPECT_EQUAL(address, io_write_full(there.t.out, "b", 1), 0);
                EXPECT_EQUAL(address, io_read_full(here.t.in, got + 1, 1), 0);
                EXPECT_TRUE(address, !memcmp(got, "ab", 2));
        }
        transport_close(&here.t);
        side_open(&there);
        EXPECT_TRUE("nobody listens any more", there.rc < 0);
        transport_close(&there.t);
}

static void unix_socket(void)
{
        char folder[] = "/tmp/qemu-transport.XXXXXX";
        char address[64];
        struct side late = { .o = { TRANSPORT_LISTEN, -1, -1, address, 1 },
                             .t = TRANSPORT_NONE };
        struct stat st;
        pthread_t thread;

        if (!mkdtemp(folder))
                abort();
        snprintf(address, sizeof(address), "unix:%s/s", folder);
        meet(address);
        EXPECT_EQUAL("it is gone", access(address + 5, F_OK), -1);

        pthread_create(&thread, NULL, side_open, &late);
        for (int i = 0; i < 1000 && stat(address + 5, &st) < 0; i++)
                usleep(1000);
        EXPECT_EQUAL("only for its user", st.st_mode & 0777, 0600);
        pthread_join(thread, NULL);
        EXPECT_EQUAL("nobody came", late.rc, -ETIMEDOUT);
        EXPECT_EQUAL("it is gone then too", rmdir(folder), 0);
}

/* a port that was free a moment ago */
static unsigned free_port(int family)
{
        union {
                struct sockaddr any;
                struct sockaddr_in v4;
                struct sockaddr_in6 v6;
        } a = { .v4.sin_family = AF_INET };
        AUTO_FD fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        socklen_t bytes = sizeof(a);

        if (family == AF_INET6)
                a.v6 = (struct sockaddr_in6){
                        .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT,
                };
        else
                a.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (fd < 0 || bind(fd, &a.any, sizeof(a)) < 0 || getsockname(fd, &a.any, &bytes) < 0)
                return 0;
        return ntohs(family == AF_INET6 ? a.v6.sin6_port : a.v4.sin_port);
}

static void tcp(void)
{
        unsigned v4 = free_port(AF_INET), v6 = free_port(AF_INET6);
        char address[64];

        snprintf(address, sizeof(address), "tcp:127.0.0.1:%u", v4);
        if (v4)
                meet(address);
        snprintf(address, sizeof(address), "tcp:[::1]:%u", v6);
        if (v6)
                meet(address);
}

static const CU_TestInfo cases[] = {
        { "--uri", uris },
        { "addresses", addresses },
        { "inherited descriptors", inherited },
        { "pipes get room", enlarged },
        { "a refused stream", refused },
        { "a socket in the file system", unix_socket },
        { "TCP", tcp },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        alarm(TEST_SECONDS);
        return suite_main("qemu-transport", cases);
}
