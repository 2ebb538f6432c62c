/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a message and its descriptors arrive whole or not at all, and no
 *       descriptor that a peer sends is ever leaked.
 * Method: socket pairs within the process; peers that send too much, too little
 *         or something else; /proc/self/fd counted before and after each case. */
#include <CUnit/CUnit.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/fdpass.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

/* what a hostile peer may attach: the kernel's cap */
#define KERNEL_FDS_MAX 253

struct pair {
        int near, far;
};

static struct pair pair_open(void)
{
        int s[2];

        CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s), 0);
        return (struct pair){ s[0], s[1] };
}

static void pair_close(struct pair *p)
{
        fd_close(&p->near);
        fd_close(&p->far);
}

/* n times the same file, sent without our own limits. */
static void send_unchecked(int sock, const char *msg, size_t bytes, int fd, size_t n)
{
        union {
                struct cmsghdr align;
                char room[CMSG_SPACE(sizeof(int) * KERNEL_FDS_MAX)];
        } control;
        struct iovec iov = { .iov_base = (void *)msg, .iov_len = bytes };
        struct msghdr mh = {
                .msg_iov = &iov, .msg_iovlen = 1,
                .msg_control = &control, .msg_controllen = CMSG_SPACE(sizeof(int) * n),
        };

        memset(&control, 0, sizeof(control));

        struct cmsghdr *c = CMSG_FIRSTHDR(&mh);

        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * n);
        for (size_t i = 0; i < n; i++)
                memcpy(CMSG_DATA(c) + i * sizeof(int), &fd, sizeof(int));
        CU_ASSERT_EQUAL(sendmsg(sock, &mh, 0), (ssize_t)bytes);
}

static bool same_file(int a, int b)
{
        struct stat sa, sb;

        return fstat(a, &sa) == 0 && fstat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
               sa.st_ino == sb.st_ino;
}

static void whole_messages(void)
{
        static const struct {
                const char *row;
                size_t nfds;
        } rows[] = {
                { "no descriptor", 0 }, { "one", 1 }, { "as many as allowed", FDPASS_FDS_MAX },
        };
        static const char *const files[] = { "/", "/proc", "/dev/null" };
        unsigned before = expect_open_fds();

        for (size_t r = 0; r < ARRAY_SIZE(rows); r++) {
                struct pair p = pair_open();
                int sent[FDPASS_FDS_MAX], got[FDPASS_FDS_MAX];
                size_t n = 99;
                char msg[16] = "";

                for (size_t i = 0; i < rows[r].nfds; i++)
                        sent[i] = open(files[i % ARRAY_SIZE(files)], O_RDONLY);
                EXPECT_EQUAL(rows[r].row, fdpass_send(p.near, "hello", 5, sent, rows[r].nfds), 0);
                EXPECT_EQUAL(rows[r].row, fdpass_recv(p.far, msg, sizeof(msg), got,
                                                      FDPASS_FDS_MAX, &n), 5);
                EXPECT_TEXT(rows[r].row, msg, "hello");
                EXPECT_EQUAL(rows[r].row, n, rows[r].nfds);
                for (size_t i = 0; i < n; i++) {
                        EXPECT_TRUE(rows[r].row, same_file(sent[i], got[i]));
                        EXPECT_EQUAL(rows[r].row, fcntl(got[i], F_GETFD), FD_CLOEXEC);
                        close(got[i]);
                        close(sent[i]);
                }
                pair_close(&p);
        }
        CU_ASSERT_EQUAL(expect_open_fds(), before);
}

/* Messages that do not fit are refused whole. */
static void refused_messages(void)
{
        static const struct {
                const char *row;
                size_t bytes, room;     /* of the text */
                size_t nfds, max_fds;
        } rows[] = {
                { "more descriptors than the caller takes", 8, 16, 3, 2 },
                { "a descriptor where none is taken", 8, 16, 1, 0 },
                { "one more than any message may have", 8, 16, FDPASS_FDS_MAX + 1, FDPASS_FDS_MAX },
                { "truncated control data", 8, 16, KERNEL_FDS_MAX, FDPASS_FDS_MAX },
                { "text longer than the room", 8, 7, 1, 4 },
                { "long text and too many descriptors", 8, 7, KERNEL_FDS_MAX, 4 },
        };
        unsigned before = expect_open_fds();

        for (size_t r = 0; r < ARRAY_SIZE(rows); r++) {
                struct pair p = pair_open();
                int fds[FDPASS_FDS_MAX];
                size_t n = 99;
                char msg[16];

                send_unchecked(p.near, "abcdefgh", rows[r].bytes, STDIN_FILENO, rows[r].nfds);
                EXPECT_EQUAL(rows[r].row, fdpass_recv(p.far, msg, rows[r].room, fds,
                                                      rows[r].max_fds, &n), -EMSGSIZE);
                EXPECT_EQUAL(rows[r].row, n, 0);
                EXPECT_EQUAL(rows[r].row, expect_open_fds(), before + 2);

                /* the next message is not disturbed */
                EXPECT_EQUAL(rows[r].row, fdpass_send(p.near, "next", 4, NULL, 0), 0);
                EXPECT_EQUAL(rows[r].row, fdpass_recv(p.far, msg, sizeof(msg), fds,
                                                      FDPASS_FDS_MAX, &n), 4);
                pair_close(&p);
        }
        CU_ASSERT_EQUAL(expect_open_fds(), before);
}

static void empty_message_with_fds(void)
{
        unsigned before = expect_open_fds();
        struct pair p = pair_open();
        int fds[4];
        size_t n = 99;
        char msg[16];

        /* looks like the end of the connection, so nobody would close these */
        send_unchecked(p.near, "", 0, STDIN_FILENO, 3);
        CU_ASSERT_EQUAL(fdpass_recv(p.far, msg, sizeof(msg), fds, 4, &n), 0);
        CU_ASSERT_EQUAL(n, 0);
        pair_close(&p);
        CU_ASSERT_EQUAL(expect_open_fds(), before);
}

static void other_control_data(void)
{
        unsigned before = expect_open_fds();
        struct pair p = pair_open();
        int on = 1, fd = -1;
        size_t n = 99;
        char msg[16];

        /* credentials stand in front of the descriptors */
        CU_ASSERT_EQUAL(setsockopt(p.far, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)), 0);
        CU_ASSERT_EQUAL(fdpass_send(p.near, "hi", 2, (int[]){ STDIN_FILENO }, 1), 0);
        CU_ASSERT_EQUAL(fdpass_recv(p.far, msg, sizeof(msg), &fd, 1, &n), 2);
        CU_ASSERT_EQUAL(n, 1);
        CU_ASSERT_TRUE(same_file(fd, STDIN_FILENO));
        fd_close(&fd);
        pair_close(&p);
        CU_ASSERT_EQUAL(expect_open_fds(), before);
}

static void messages_keep_their_bounds(void)
{
        struct pair p = pair_open();
        int fds[2];
        size_t n;
        char msg[16];

        CU_ASSERT_EQUAL(fdpass_send(p.near, "one", 3, NULL, 0), 0);
        CU_ASSERT_EQUAL(fdpass_send(p.near, "three", 5, (int[]){ STDIN_FILENO }, 1), 0);
        CU_ASSERT_EQUAL(fdpass_recv(p.far, msg, sizeof(msg), fds, 2, &n), 3);
        CU_ASSERT_EQUAL(n, 0);
        CU_ASSERT_EQUAL(fdpass_recv(p.far, msg, sizeof(msg), fds, 2, &n), 5);
        CU_ASSERT_EQUAL(n, 1);
        close(fds[0]);
        pair_close(&p);
}

static void peer_is_gone(void)
{
        struct pair p = pair_open();
        size_t n = 99;
        char msg[16];

        fd_close(&p.far);
        /* no signal, whatever the parent left us */
        signal(SIGPIPE, SIG_DFL);
        CU_ASSERT_EQUAL(fdpass_send(p.near, "x", 1, NULL, 0), -EPIPE);
        CU_ASSERT_EQUAL(fdpass_recv(p.near, msg, sizeof(msg), NULL, 0, &n), 0);
        CU_ASSERT_EQUAL(n, 0);
        pair_close(&p);
}

static void errno_comes_back(void)
{
        static char huge[16 << 20];
        struct pair p = pair_open();
        size_t n = 99;
        char msg[16];

        CU_ASSERT_EQUAL(fdpass_send(-1, "x", 1, NULL, 0), -EBADF);
        CU_ASSERT_EQUAL(fdpass_send(p.near, "x", 1, (int[]){ -1 }, 1), -EBADF);
        CU_ASSERT_EQUAL(fdpass_send(p.near, huge, sizeof(huge), NULL, 0), -EMSGSIZE);
        CU_ASSERT_EQUAL(fdpass_recv(-1, msg, sizeof(msg), NULL, 0, &n), -EBADF);
        CU_ASSERT_EQUAL(n, 0);
        CU_ASSERT_EQUAL(fcntl(p.far, F_SETFL, O_NONBLOCK), 0);
        CU_ASSERT_EQUAL(fdpass_recv(p.far, msg, sizeof(msg), NULL, 0, &n), -EAGAIN);
        pair_close(&p);
}

static void send_too_many(void)
{
        int fds[FDPASS_FDS_MAX + 1] = { 0 };

        fdpass_send(-1, "x", 1, fds, FDPASS_FDS_MAX + 1);
}

static void own_limit_is_asserted(void)
{
        CU_ASSERT_TRUE(expect_abort(send_too_many));
}

static const CU_TestInfo cases[] = {
        { "messages with and without descriptors arrive", whole_messages },
        { "what does not fit is refused and closed", refused_messages },
        { "descriptors of an empty message are closed", empty_message_with_fds },
        { "other control data is skipped", other_control_data },
        { "messages keep their bounds", messages_keep_their_bounds },
        { "a peer that is gone", peer_is_gone },
        { "every other failure is its errno", errno_comes_back },
        { "sending too many is our bug", own_limit_is_asserted },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("fdpass", cases);
}
