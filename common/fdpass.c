/* SPDX-License-Identifier: Apache-2.0 */
#include "common/fdpass.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/check.h"

union control {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int) * FDPASS_FDS_MAX)];
};

int fdpass_send(int sock, const void *msg, size_t bytes, const int *fds, size_t nfds)
{
        union control control;
        struct iovec iov = { .iov_base = (void *)msg, .iov_len = bytes };
        struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

        ASSERT(nfds <= FDPASS_FDS_MAX);
        if (nfds > 0) {
                memset(&control, 0, sizeof(control));
                mh.msg_control = &control;
                mh.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);

                struct cmsghdr *c = CMSG_FIRSTHDR(&mh);

                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
                memcpy(CMSG_DATA(c), fds, sizeof(int) * nfds);
        }

        ssize_t n;

        do
                n = sendmsg(sock, &mh, MSG_NOSIGNAL);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;
        return (size_t)n == bytes ? 0 : -EMSGSIZE;
}

/* Copies out what fits; the rest is closed. False when something was closed. */
static bool take_fds(struct msghdr *mh, int *fds, size_t max_fds, size_t *n)
{
        bool whole = !(mh->msg_flags & MSG_CTRUNC);

        *n = 0;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

                for (size_t i = 0; i < count; i++) {
                        int fd;

                        memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
                        if (*n < max_fds) {
                                fds[(*n)++] = fd;
                        } else {
                                close(fd);
                                whole = false;
                        }
                }
        }
        return whole;
}

/* Why descriptors were left out the kernel does not say: because there is no number
 * left for any, or because the sender sent too many. */
static bool has_room(int sock)
{
        int fd = fcntl(sock, F_DUPFD_CLOEXEC, 0);

        if (fd < 0)
                return errno != EMFILE;
        close(fd);
        return true;
}

ssize_t fdpass_recv(int sock, void *msg, size_t room, int *fds, size_t max_fds,
                    size_t *ret_nfds)
{
        union control control;
        struct iovec iov = { .iov_base = msg, .iov_len = room };
        struct msghdr mh = {
                .msg_iov = &iov, .msg_iovlen = 1,
                .msg_control = &control, .msg_controllen = sizeof(control),
        };
        ssize_t n;

        *ret_nfds = 0;
        do
                n = recvmsg(sock, &mh, MSG_CMSG_CLOEXEC);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;

        bool whole = take_fds(&mh, fds, max_fds, ret_nfds);
        bool no_room = !whole && !has_room(sock);

        whole = whole && !(mh.msg_flags & MSG_TRUNC);
        /* an empty message reads as "gone": nobody would look for descriptors */
        if (!whole || n == 0) {
                for (size_t i = 0; i < *ret_nfds; i++)
                        close(fds[i]);
                *ret_nfds = 0;
        }
        if (no_room)
                return -EMFILE;
        return whole ? n : -EMSGSIZE;
}
