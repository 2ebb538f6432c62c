/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/clone-door.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/fdpass.h"
#include "vmm/rundir.h"
#include "vmm/unixsock.h"

#define SUFFIX "clone"
/* A message: this byte, and one for each file with a disk, which of the machine's it is. Its
 * descriptors: RAM, state, the files in the same order. */
#define WORD 'c'
#define WORDS_MAX (1 + MACHINE_DISKS_MAX)
#define MEMFDS 2
#define PARTS_MAX (MEMFDS + MACHINE_DISKS_MAX)

/* ---- the VM's side --------------------------------------------------------------- */

static int peer_of(int sock, struct ucred *ret, struct err *e)
{
        socklen_t bytes = sizeof(*ret);

        if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, ret, &bytes) < 0)
                return err_set(e, errno, "ask who wants to clone this VM");
        if (ret->uid != geteuid())
                return err_msg(e, EPERM, "only the user of this VM can clone it: that is user "
                               "%u, not %u", geteuid(), ret->uid);
        return 0;
}

int clone_door_open(int sock, struct clone_door *ret, struct err *e)
{
        struct clone_door d = { .sock = fcntl(sock, F_DUPFD_CLOEXEC, 0), .to = -1 };
        struct ucred peer;
        int rc = d.sock < 0 ? err_set(e, errno, "keep the connection") : peer_of(sock, &peer, e);

        if (rc == 0 && clone_door_gone(&d))
                rc = err_msg(e, ECANCELED, "who wanted to clone this VM is gone");
        if (rc < 0) {
                clone_door_close(&d);
                return rc;
        }
        d.pid = peer.pid;
        *ret = d;
        return 0;
}

void clone_door_close(struct clone_door *d)
{
        fd_close(&d->sock);
        fd_close(&d->to);
}

bool clone_door_gone(const struct clone_door *d)
{
        struct pollfd p = { .fd = d->sock, .events = POLLRDHUP };

        return poll(&p, 1, 0) > 0;      /* also POLLHUP and POLLERR */
}

int clone_door_connect(struct clone_door *d, const char *name, struct err *e)
{
        struct rundir_path path;
        struct ucred peer;
        AUTO_FD fd = -1;
        int rc = rundir_check_name(name, e);

        if (rc == 0)
                rc = rundir_path(&path, name, SUFFIX, e);
        if (rc == 0)
                rc = unixsock_connect(path.text, SOCK_SEQPACKET | SOCK_NONBLOCK, &fd, e);
        if (rc == 0)
                rc = peer_of(fd, &peer, e);
        if (rc == 0 && peer.pid != d->pid)
                rc = err_msg(e, EPERM, "at '%s' another process listens than the one that wants "
                             "to clone this VM", path.text);
        if (rc == 0)
                d->to = fd_take(&fd);
        return rc;
}

int clone_door_give(const struct clone_door *d, const struct clone_parts *parts, struct err *e)
{
        int fds[PARTS_MAX] = { parts->ram_fd, parts->state_fd };
        char words[WORDS_MAX] = { WORD };
        size_t n = MEMFDS, bytes = 1;

        for (unsigned i = 0; i < MACHINE_DISKS_MAX; i++) {
                if (parts->disks.fd[i] < 0)
                        continue;
                fds[n++] = parts->disks.fd[i];
                words[bytes++] = (char)i;
        }

        int rc = fdpass_send(d->to, words, bytes, fds, n);

        return rc < 0 ? err_set(e, -rc, "hand out a copy of this VM") : 0;
}

/* ---- the client's ---------------------------------------------------------------- */

int clone_door_listen(const char *name, int *ret_fd, struct err *e)
{
        struct rundir_path path;
        int rc = rundir_path(&path, name, SUFFIX, e);

        if (rc < 0)
                return rc;
        unlink(path.text);              /* of a command that was killed */
        return unixsock_listen(path.text, SOCK_SEQPACKET, ret_fd, e);
}

/* Each descriptor is given to the one part that it is, or stays. */
static bool sort_out(const char *words, size_t bytes, int *fds, size_t n, struct clone_parts *ret)
{
        if (bytes == 0 || words[0] != WORD || n != MEMFDS + bytes - 1)
                return false;
        for (size_t i = 1; i < bytes; i++) {
                unsigned disk = (unsigned char)words[i];

                if (disk >= MACHINE_DISKS_MAX || ret->disks.fd[disk] >= 0)
                        return false;
                ret->disks.fd[disk] = fd_take(&fds[MEMFDS + i - 1]);
        }
        ret->ram_fd = fd_take(&fds[0]);
        ret->state_fd = fd_take(&fds[1]);
        return true;
}

int clone_door_take(int fd, struct clone_parts *ret, struct err *e)
{
        AUTO_FD from = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        int fds[PARTS_MAX];
        char words[WORDS_MAX];
        size_t n = 0;
        ssize_t got = from < 0 ? -errno
                               : fdpass_recv(from, words, sizeof(words), fds, PARTS_MAX, &n);

        clone_parts_init(ret);
        if (got > 0 && sort_out(words, (size_t)got, fds, n, ret))
                return 0;
        while (got > 0 && n > 0)
                fd_close(&fds[--n]);
        clone_parts_fini(ret);
        return err_msg(e, EBADMSG, "the VM answers, and hands out nothing");
}

void clone_door_end(const char *name, int *fd)
{
        struct rundir_path path;

        if (*fd >= 0 && rundir_path(&path, name, SUFFIX, NULL) == 0)
                unlink(path.text);
        fd_close(fd);
}
