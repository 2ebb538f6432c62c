/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/adapters/qemu/statusfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "common/auto.h"

int statusfile_path(const char *image, char *ret, struct err *e)
{
        if (snprintf(ret, PATH_MAX, "%s.status", image) >= PATH_MAX)
                return err_msg(e, ENAMETOOLONG, "the name of the image is too long");
        return 0;
}

int statusfile_lock(int fd, enum statusfile_lock lock)
{
        struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = lock, .l_len = 1 };

        if (fcntl(fd, F_OFD_SETLK, &l) == 0)
                return 0;
        return errno == EACCES ? -EAGAIN : -errno;
}

bool statusfile_is_alive(int fd)
{
        struct flock l = {
                .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = STATUSFILE_ALIVE, .l_len = 1,
        };

        return fcntl(fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
}

bool statusfile_is_named(int fd, const char *path)
{
        struct stat a, b;

        return fstat(fd, &a) == 0 && lstat(path, &b) == 0 && a.st_dev == b.st_dev &&
               a.st_ino == b.st_ino;
}

int statusfile_open(const char *path, int flags, int *ret_fd, struct err *e)
{
        AUTO_FD fd = open(path, flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        struct stat st;

        if (fd < 0)
                return errno == ENOENT ? -ENOENT : err_set(e, errno, "open '%s'", path);
        if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
                return err_msg(e, EINVAL, "'%s' is in the way: it is no status file", path);
        *ret_fd = fd_take(&fd);
        return 0;
}
