/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/clone-door.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/auto.h"

static int open_process(int sock, int *ret_fd, struct err *e)
{
        struct ucred peer;
        socklen_t bytes = sizeof(peer);
        char path[32];

        if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) < 0)
                return err_set(e, errno, "ask who wants to clone this VM");
        if (peer.uid != geteuid())
                return err_msg(e, EPERM, "only the user of this VM can clone it: that is user "
                               "%u, not %u", geteuid(), peer.uid);
        if (peer.pid == 0)
                return err_msg(e, EPERM, "who wants to clone this VM cannot be seen from here: "
                               "it must run in the same PID namespace");
        snprintf(path, sizeof(path), "/proc/%d", (int)peer.pid);
        *ret_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return *ret_fd < 0 ? err_set(e, errno, "open '%s' of who wants to clone this VM", path)
                           : 0;
}

int clone_door_open(int sock, struct clone_door *ret, struct err *e)
{
        struct clone_door d = { .sock = fcntl(sock, F_DUPFD_CLOEXEC, 0), .process = -1 };
        int rc = d.sock < 0 ? err_set(e, errno, "keep the connection")
                            : open_process(sock, &d.process, e);

        if (rc == 0 && clone_door_gone(&d))
                rc = err_msg(e, ECANCELED, "who wanted to clone this VM is gone");
        if (rc < 0)
                clone_door_close(&d);
        else
                *ret = d;
        return rc;
}

void clone_door_close(struct clone_door *d)
{
        fd_close(&d->sock);
        fd_close(&d->process);
}

bool clone_door_gone(const struct clone_door *d)
{
        struct pollfd p = { .fd = d->sock, .events = POLLRDHUP };

        return poll(&p, 1, 0) > 0;      /* also POLLHUP and POLLERR */
}

/* As what has not been opened (O_PATH) shows: a file in memory that has no name, and is empty. */
static bool may_be_memfd(int fd)
{
        struct statfs fs;
        struct stat st;

        return fstatfs(fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC && fstat(fd, &st) == 0 &&
               S_ISREG(st.st_mode) && st.st_nlink == 0 && !st.st_size && !st.st_blocks;
}

static bool has_no_seals(int fd)
{
        /* set at birth by newer kernels, and about execution only */
        const int harmless = 0x20;      /* F_SEAL_EXEC */
        int seals = fcntl(fd, F_GET_SEALS);

        return seals >= 0 && !(seals & ~harmless);
}

static int not_lent(int number, struct err *e)
{
        return err_msg(e, EINVAL, "descriptor %d is not an empty memfd without seals", number);
}

int clone_door_borrow(const struct clone_door *d, int number, int *ret_fd, struct err *e)
{
        char path[32];

        snprintf(path, sizeof(path), "fd/%d", number);

        AUTO_FD seen = openat(d->process, path, O_PATH | O_CLOEXEC);

        if (seen < 0)
                return err_set(e, errno, "open descriptor %d of who wants to clone this VM",
                               number);
        if (!may_be_memfd(seen))
                return not_lent(number, e);
        /* the very file that was looked at, whatever the client has there by now */
        snprintf(path, sizeof(path), "/proc/self/fd/%d", seen);

        AUTO_FD fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);

        if (fd < 0)
                return err_set(e, errno, "open a memfd of who wants to clone this VM");
        if (!has_no_seals(fd))
                return not_lent(number, e);
        *ret_fd = fd_take(&fd);
        return 0;
}
