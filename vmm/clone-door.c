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
#include "vmm/disk/disk-file.h"

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

/* What follows looks at what has not been opened (O_PATH). */
static bool is_empty_and_nameless(int fd)
{
        struct stat st;

        return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 0 && !st.st_size &&
               !st.st_blocks && st.st_uid == geteuid();
}

static bool is_in_memory(int fd)
{
        struct statfs fs;

        return fstatfs(fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

static bool has_no_seals(int fd)
{
        /* set at birth by newer kernels, and about execution only */
        const int harmless = 0x20;      /* F_SEAL_EXEC */
        int seals = fcntl(fd, F_GET_SEALS);

        return seals >= 0 && !(seals & ~harmless);
}

static int not_lent(int number, const char *what, struct err *e)
{
        return err_msg(e, EINVAL, "descriptor %d is not %s", number, what);
}

static int see(const struct clone_door *d, int number, int *ret_fd, struct err *e)
{
        char path[32];

        snprintf(path, sizeof(path), "fd/%d", number);
        *ret_fd = openat(d->process, path, O_PATH | O_CLOEXEC);
        return *ret_fd < 0 ? err_set(e, errno, "open descriptor %d of who wants to clone this VM",
                                     number) : 0;
}

/* The very file that was looked at, whatever the client has there by now. */
static int open_seen(int seen, int *ret_fd, struct err *e)
{
        int rc = disk_file_open(seen, O_RDWR, ret_fd);

        return rc < 0 ? err_set(e, -rc, "open a file of who wants to clone this VM") : 0;
}

int clone_door_borrow(const struct clone_door *d, int number, int *ret_fd, struct err *e)
{
        static const char what[] = "an empty memfd without seals";
        AUTO_FD seen = -1;
        AUTO_FD fd = -1;
        int rc = see(d, number, &seen, e);

        if (rc == 0 && !(is_empty_and_nameless(seen) && is_in_memory(seen)))
                rc = not_lent(number, what, e);
        if (rc == 0)
                rc = open_seen(seen, &fd, e);
        if (rc == 0 && !has_no_seals(fd))
                rc = not_lent(number, what, e);
        if (rc == 0)
                *ret_fd = fd_take(&fd);
        return rc;
}

int clone_door_borrow_file(const struct clone_door *d, int number, int *ret_fd, struct err *e)
{
        AUTO_FD seen = -1;
        int rc = see(d, number, &seen, e);

        if (rc == 0 && !is_empty_and_nameless(seen))
                rc = not_lent(number, "an empty file without a name", e);
        return rc == 0 ? open_seen(seen, ret_fd, e) : rc;
}
