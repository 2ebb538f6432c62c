/* SPDX-License-Identifier: Apache-2.0 */
#include "common/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"

/* connections that wait for accept */
#define BACKLOG 64
/* For whom else starts there; who keeps the lock longer than that does not start. */
#define LOCK_TRIES 200
#define LOCK_REST_NS (10 * NS_PER_MS)

static int make_socket(int type, struct err *e)
{
        int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        return fd < 0 ? err_set(e, errno, "cannot make a socket") : fd;
}

/* Whoever may read the folder may lock it, and keep it locked. */
static int lock_in_time(int fd, const char *name, struct err *e)
{
        const struct timespec rest = { .tv_nsec = LOCK_REST_NS };

        for (unsigned i = 0; i < LOCK_TRIES; i++) {
                if (flock(fd, LOCK_EX | LOCK_NB) == 0)
                        return 0;
                if (errno != EWOULDBLOCK && errno != EINTR)
                        return err_set(e, errno, "cannot lock folder '%s'", name);
                nanosleep(&rest, NULL);
        }
        return err_msg(e, EBUSY, "another process keeps folder '%s' locked: end it (lslocks shows "
                       "who it is), or have the socket in a folder that others cannot open", name);
}

/* A lock on the folder, for as long as we look and bind: whoever else starts
 * there waits. It leaves nothing behind. */
static int lock_folder(const char *path, struct err *e)
{
        AUTO_FREE char *folder = strdup(path);

        if (!folder)
                return err_set(e, ENOMEM, "socket path");

        char *slash = strrchr(folder, '/');

        if (slash)
                slash[slash == folder] = '\0';

        const char *name = slash ? folder : ".";
        AUTO_FD fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0)
                return err_set(e, errno, "cannot open folder '%s'", name);

        int rc = lock_in_time(fd, name, e);

        return rc < 0 ? rc : fd_take(&fd);
}

/* INV-STALE; the folder is locked */
static int remove_stale(const struct sockaddr_un *sa, int type, struct err *e)
{
        struct stat st;

        if (lstat(sa->sun_path, &st) < 0)
                return errno == ENOENT ? 0 : err_set(e, errno, "cannot stat '%s'", sa->sun_path);
        if (!S_ISSOCK(st.st_mode))
                return err_msg(e, EEXIST, "'%s' exists and is no socket", sa->sun_path);

        AUTO_FD probe = make_socket(type, e);

        if (probe < 0)
                return probe;
        /* EAGAIN: busy; EPROTOTYPE: alive, of the other type */
        if (connect(probe, (const struct sockaddr *)sa, sizeof(*sa)) == 0 || errno == EAGAIN ||
            errno == EPROTOTYPE)
                return err_msg(e, EADDRINUSE, "somebody listens at '%s' already",
                               sa->sun_path);
        if (errno != ECONNREFUSED)
                return err_set(e, errno, "cannot tell who listens at '%s'", sa->sun_path);
        if (unlink(sa->sun_path) < 0)
                return err_set(e, errno, "cannot remove stale socket '%s'", sa->sun_path);
        return 0;
}

static int bind_there(int fd, const struct sockaddr_un *sa, struct err *e)
{
        /* the mode of a socket's inode is that of the file which bind() makes */
        if (fchmod(fd, 0600) < 0 || bind(fd, (const struct sockaddr *)sa, sizeof(*sa)) < 0)
                return err_set(e, errno, "cannot make socket '%s'", sa->sun_path);
        if (listen(fd, BACKLOG) < 0)
                return err_set(e, errno, "cannot listen at '%s'", sa->sun_path);
        return 0;
}

int listen_open(const char *path, int type, struct listen_socket *ret, struct err *e)
{
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        struct stat st;

        if (strlen(path) == 0 || strlen(path) >= sizeof(sa.sun_path))
                return err_msg(e, ENAMETOOLONG, "socket path '%s' must have 1 to %zu characters",
                               path, sizeof(sa.sun_path) - 1);
        memcpy(sa.sun_path, path, strlen(path));

        AUTO_FD folder = lock_folder(path, e);

        if (folder < 0)
                return folder;

        AUTO_FD fd = make_socket(type, e);

        if (fd < 0)
                return fd;

        int rc = remove_stale(&sa, type, e);

        if (rc == 0)
                rc = bind_there(fd, &sa, e);
        if (rc < 0)
                return rc;
        if (lstat(path, &st) < 0)
                return err_set(e, errno, "cannot stat '%s'", path);
        *ret = (struct listen_socket){
                .fd = fd_take(&fd), .path = path,
                .ours = true, .dev = st.st_dev, .ino = st.st_ino,
        };
        return 0;
}

static bool has_option(int fd, int option, int want)
{
        int value;
        socklen_t len = sizeof(value);

        return getsockopt(fd, SOL_SOCKET, option, &value, &len) == 0 && value == want;
}

int listen_adopt(int *fd, const char *path, int type, struct listen_socket *ret,
                 struct err *e)
{
        int flags = fcntl(*fd, F_GETFL);

        if (!has_option(*fd, SO_DOMAIN, AF_UNIX) || !has_option(*fd, SO_TYPE, type) ||
            !has_option(*fd, SO_ACCEPTCONN, 1))
                return err_msg(e, EINVAL, "the socket that was passed for '%s' does not listen as "
                               "a unix socket of %s", path,
                               type == SOCK_STREAM ? "streams" : "sequential packets");
        if (flags < 0 || fcntl(*fd, F_SETFL, flags | O_NONBLOCK) < 0)
                return err_set(e, errno, "cannot use the socket that was passed for '%s'", path);
        *ret = (struct listen_socket){ .fd = fd_take(fd), .path = path };
        return 0;
}

void listen_close(struct listen_socket *l)
{
        struct stat st;

        if (l->fd < 0)
                return;
        /* no other file has its number as long as we have it open */
        if (l->ours && lstat(l->path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino)
                unlink(l->path);
        fd_close(&l->fd);
}
