/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/fdstore.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/notify.h"

/* where given descriptors begin */
#define LISTEN_FDS_START 3
/* More than any limit of descriptors allows: a number beyond it is no count. */
#define GIVEN_MAX (1 << 20)
/* what a service may say in one datagram; systemd reads no more */
#define NOTE_BYTES_MAX 4096

/* ---- notes -------------------------------------------------------------------- */

union control {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
};

int fdstore_send(int sock, const struct fdnote *note, int fd)
{
        char text[FDNOTE_BYTES_MAX];
        union control control;
        struct iovec iov = { .iov_base = text, .iov_len = fdnote_format(note, text) };
        struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

        if (fd >= 0) {
                memset(&control, 0, sizeof(control));
                mh.msg_control = &control;
                mh.msg_controllen = CMSG_SPACE(sizeof(int));

                struct cmsghdr *c = CMSG_FIRSTHDR(&mh);

                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(sizeof(int));
                memcpy(CMSG_DATA(c), &fd, sizeof(fd));
        }

        ssize_t n;

        do
                n = sendmsg(sock, &mh, MSG_NOSIGNAL);
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : 0;
}

/* At most one descriptor and one sender fit the control buffer: the kernel closes
 * what does not. */
static void take_control(struct msghdr *mh, int *ret_fd, int *ret_pid)
{
        *ret_fd = -1;
        *ret_pid = 0;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
                if (c->cmsg_level != SOL_SOCKET)
                        continue;
                if (c->cmsg_type == SCM_RIGHTS && c->cmsg_len >= CMSG_LEN(sizeof(int))) {
                        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

                        for (size_t i = 0; i < n; i++) {
                                fd_close(ret_fd);
                                memcpy(ret_fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
                        }
                } else if (c->cmsg_type == SCM_CREDENTIALS) {
                        struct ucred cred;

                        memcpy(&cred, CMSG_DATA(c), sizeof(cred));
                        *ret_pid = cred.pid;
                }
        }
}

int fdstore_receive(int sock, struct fdnote *ret, int *ret_fd, int *ret_pid)
{
        char text[NOTE_BYTES_MAX];
        union control control;
        struct iovec iov = { .iov_base = text, .iov_len = sizeof(text) };
        struct msghdr mh = {
                .msg_iov = &iov, .msg_iovlen = 1,
                .msg_control = &control, .msg_controllen = sizeof(control),
        };
        ssize_t n;

        do
                n = recvmsg(sock, &mh, MSG_CMSG_CLOEXEC);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return errno == ECONNRESET ? -EPIPE : -errno;

        AUTO_FD fd = -1;
        int pid;

        take_control(&mh, &fd, &pid);
        if (n == 0 && fd < 0)
                return -EPIPE;          /* of a connected pair; nobody sends nothing */
        if (mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
                return -EBADMSG;

        struct fdnote note;
        int rc = fdnote_parse(text, (size_t)n, &note);

        if (rc < 0)
                return rc;
        *ret = note;
        *ret_fd = fd_take(&fd);
        if (ret_pid)
                *ret_pid = pid;
        return 0;
}

/* ---- the service's end ------------------------------------------------------------ */

int fdstore_open(struct fdstore *store, const char *address, struct err *e)
{
        return notify_connect(address, &store->sock, e);
}

void fdstore_close(struct fdstore *store)
{
        fd_close(&store->sock);
}

static struct fdnote named(const char *name)
{
        struct fdnote note = { .ready = false };

        ASSERT(fdnote_name_ok(name, strlen(name)));
        strcpy(note.name, name);
        return note;
}

int fdstore_put(struct fdstore *store, const char *name, int fd, struct err *e)
{
        struct fdnote note = named(name);

        if (store->sock < 0)
                return 0;
        note.store = true;

        int rc = fdstore_send(store->sock, &note, fd);

        return rc < 0 ? err_set(e, -rc, "the service manager does not take '%s'", name) : 0;
}

/* Whether or not it arrives: a manager that is gone keeps nothing. */
void fdstore_drop(struct fdstore *store, const char *name)
{
        struct fdnote note = named(name);

        note.remove = true;
        if (store->sock >= 0)
                (void)fdstore_send(store->sock, &note, -1);
}

void fdstore_ready(struct fdstore *store)
{
        struct fdnote note = { .ready = true };

        if (store->sock >= 0)
                (void)fdstore_send(store->sock, &note, -1);
}

/* ---- what came back ------------------------------------------------------------------ */

static bool parse_count(const char *text, long max, long *ret)
{
        char *end;

        if (!text || !*text)
                return false;
        *ret = strtol(text, &end, 10);
        return !*end && *ret >= 0 && *ret <= max;
}

/* how many are for us; 0 also when they are another's */
static size_t count_given(void)
{
        long pid, n;

        if (!parse_count(getenv("LISTEN_PID"), LONG_MAX, &pid) || pid != getpid() ||
            !parse_count(getenv("LISTEN_FDS"), GIVEN_MAX, &n))
                return 0;
        return (size_t)n;
}

static void forget_variables(void)
{
        unsetenv("LISTEN_PID");
        unsetenv("LISTEN_FDS");
        unsetenv("LISTEN_FDNAMES");
}

int fdstore_given(struct fdgivens *ret, struct err *e)
{
        size_t n = count_given();
        const char *names = getenv("LISTEN_FDNAMES");
        struct fdgivens g = { .given = calloc(n + 1, sizeof(*g.given)), .n = n };

        if (!g.given)
                return err_set(e, ENOMEM, "given descriptors");
        for (size_t i = 0; i < n; i++) {
                g.given[i].fd = LISTEN_FDS_START + (int)i;
                if (names)
                        names = fdnote_next_name(names, g.given[i].name);
                if (fcntl(g.given[i].fd, F_SETFD, FD_CLOEXEC) < 0)
                        g.given[i].fd = -1;     /* a manager that cannot count */
        }
        forget_variables();
        *ret = g;
        return 0;
}

void fdgivens_free(struct fdgivens *g)
{
        for (size_t i = 0; i < g->n; i++)
                fd_close(&g->given[i].fd);
        free(g->given);
        *g = (struct fdgivens){ .given = NULL };
}

int fdgivens_take(struct fdgivens *g, const char *name)
{
        for (size_t i = 0; i < g->n; i++) {
                if (g->given[i].fd >= 0 && !strcmp(g->given[i].name, name))
                        return fd_take(&g->given[i].fd);
        }
        return -1;
}
