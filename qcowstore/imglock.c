/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/imglock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>

#define USED(perm) (100 + (perm))
#define UNSHARED(perm) (200 + (perm))

enum { PERM_CONSISTENT_READ = 0, PERM_WRITE = 1, PERM_RESIZE = 3 };

static struct flock one_byte(short type, off_t byte)
{
        return (struct flock){
                .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1,
        };
}

/* 0 also where the file system has no locks */
static int read_lock(int fd, off_t byte)
{
        struct flock l = one_byte(F_RDLCK, byte);

        if (fcntl(fd, F_OFD_SETLK, &l) < 0 && (errno == EAGAIN || errno == EACCES))
                return -EBUSY;
        return 0;
}

static bool used_by_others(int fd, off_t byte)
{
        struct flock l = one_byte(F_WRLCK, byte);

        return fcntl(fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
}

int imglock_read(int fd, struct err *e)
{
        if (read_lock(fd, USED(PERM_CONSISTENT_READ)) < 0 ||
            read_lock(fd, UNSHARED(PERM_WRITE)) < 0 ||
            used_by_others(fd, USED(PERM_WRITE)) || used_by_others(fd, USED(PERM_RESIZE)))
                return err_msg(e, EBUSY, "a program (QEMU?) has it open for writing: stop that "
                               "program or use a copy");
        return 0;
}
