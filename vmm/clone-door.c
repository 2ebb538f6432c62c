/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/clone-door.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
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

static int check_lent(int fd, int number, struct err *e)
{
        /* set at birth by newer kernels, and about execution only */
        const int harmless = 0x20;      /* F_SEAL_EXEC */
        int seals = fcntl(fd, F_GET_SEALS);
        struct stat st;

        if (seals < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (seals & ~harmless) ||
            st.st_size || st.st_blocks)
                return err_msg(e, EINVAL, "descriptor %d is not an empty memfd without seals",
                               number);
        return 0;
}

int clone_door_borrow(const struct clone_door *d, int number, int *ret_fd, struct err *e)
{
        char path[32];

        snprintf(path, sizeof(path), "fd/%d", number);

        AUTO_FD fd = openat(d->process, path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

        if (fd < 0)
                return err_set(e, errno, "open descriptor %d of who wants to clone this VM",
                               number);

        int rc = check_lent(fd, number, e);

        if (rc == 0)
                *ret_fd = fd_take(&fd);
        return rc;
}
