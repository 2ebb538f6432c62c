/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/adapters/qemu/outflow.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"

int outflow_init(struct outflow *o, int fd, struct err *e)
{
        struct stat st;

        *o = (struct outflow){ .fd = -1, .stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
        if (o->stop_fd < 0)
                return err_set(e, errno, "make an event descriptor");
        o->flags = fcntl(fd, F_GETFL);
        if (o->flags < 0 || fstat(fd, &st) < 0 ||
            fcntl(fd, F_SETFL, o->flags | O_NONBLOCK) < 0)
                return err_set(e, errno, "write to QEMU");
        o->queue_ioctl = S_ISFIFO(st.st_mode) ? FIONREAD : S_ISSOCK(st.st_mode) ? SIOCOUTQ : 0;
        o->fd = fd;
        return 0;
}

void outflow_fini(struct outflow *o)
{
        if (o->fd >= 0)
                fcntl(o->fd, F_SETFL, o->flags);
        fd_close(&o->stop_fd);
        o->fd = -1;
}

/* until there is room: INV-END */
static int wait_room(struct outflow *o)
{
        struct pollfd p[] = {
                { .fd = o->fd, .events = POLLOUT },
                { .fd = o->stop_fd, .events = POLLIN },
        };
        int n = poll(p, ARRAY_SIZE(p), -1);

        if (n < 0)
                return errno == EINTR ? 0 : -errno;
        return p[1].revents ? -ECANCELED : 0;
}

/* Takes bytes off the front. Returns the first entry of which something is left. */
static size_t advance(struct iovec *iov, size_t at, size_t n, size_t bytes)
{
        while (at < n && bytes >= iov[at].iov_len)
                bytes -= iov[at++].iov_len;
        if (bytes > 0) {
                iov[at].iov_base = (char *)iov[at].iov_base + bytes;
                iov[at].iov_len -= bytes;
        }
        return at;
}

static int say(const struct outflow *o, int rc, struct err *e)
{
        if (rc == -EPIPE || rc == -ECONNRESET)
                return err_msg(e, EPIPE, "QEMU has closed the stream after %llu bytes of it",
                               (unsigned long long)o->written_bytes);
        if (rc == -ECANCELED)
                return err_msg(e, ECANCELED, "QEMU has ended the conversation");
        return err_set(e, -rc, "write to QEMU");
}

int outflow_writev(struct outflow *o, struct iovec *iov, size_t n, struct err *e)
{
        size_t at = 0;
        int rc = 0;

        while (rc == 0 && at < n) {
                ssize_t w = writev(o->fd, iov + at, (int)MIN(n - at, (size_t)IOV_MAX));

                if (w >= 0) {
                        o->written_bytes += (uint64_t)w;
                        at = advance(iov, at, n, (size_t)w);
                } else if (errno == EAGAIN) {
                        rc = wait_room(o);
                } else if (errno != EINTR) {
                        rc = -errno;
                }
        }
        return rc < 0 ? say(o, rc, e) : 0;
}

int outflow_write(struct outflow *o, const void *data, size_t bytes, struct err *e)
{
        struct iovec iov = { .iov_base = (void *)data, .iov_len = bytes };

        return outflow_writev(o, &iov, 1, e);
}

uint64_t outflow_queued(const struct outflow *o)
{
        int bytes = 0;

        if (o->queue_ioctl == 0 || ioctl(o->fd, o->queue_ioctl, &bytes) < 0 || bytes < 0)
                return 0;
        return (uint64_t)bytes;
}

void outflow_stop(struct outflow *o)
{
        eventfd_write(o->stop_fd, 1);
}
