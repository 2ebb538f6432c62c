/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/disk/disk-lock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/types.h>

#include "common/check.h"

#define USED(perm) (100 + (perm))
#define UNSHARED(perm) (200 + (perm))

enum { PERM_CONSISTENT_READ = 0, PERM_WRITE = 1, PERM_RESIZE = 3 };

#define BYTES_MAX 4

struct role {
        off_t holds[BYTES_MAX];         /* 0 ends */
        off_t contradict[BYTES_MAX];
};

static const struct role reader = {
        { USED(PERM_CONSISTENT_READ), UNSHARED(PERM_WRITE), UNSHARED(PERM_RESIZE) },
        { USED(PERM_WRITE), USED(PERM_RESIZE), UNSHARED(PERM_CONSISTENT_READ) },
};

static const struct role writer = {
        { USED(PERM_CONSISTENT_READ), USED(PERM_WRITE), UNSHARED(PERM_WRITE),
          UNSHARED(PERM_RESIZE) },
        { USED(PERM_WRITE), USED(PERM_RESIZE), UNSHARED(PERM_CONSISTENT_READ),
          UNSHARED(PERM_WRITE) },
};

static struct flock one_byte(short type, off_t byte)
{
        return (struct flock){
                .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1,
        };
}

/* 0, -EBUSY when others are in the way, else why it cannot be locked at all */
static int hold(int fd, off_t byte)
{
        struct flock l = one_byte(F_RDLCK, byte);

        if (fcntl(fd, F_OFD_SETLK, &l) == 0)
                return 0;
        return errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
}

static bool held_by_others(int fd, off_t byte)
{
        struct flock l = one_byte(F_WRLCK, byte);

        return fcntl(fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
}

static int take(int fd, const struct role *role)
{
        int rc = 0;

        for (unsigned i = 0; i < BYTES_MAX && role->holds[i] && rc == 0; i++)
                rc = hold(fd, role->holds[i]);
        for (unsigned i = 0; i < BYTES_MAX && role->contradict[i] && rc == 0; i++)
                rc = held_by_others(fd, role->contradict[i]) ? -EBUSY : 0;
        return rc;
}

int disk_lock(int fd, bool write, struct err *e)
{
        int rc = take(fd, write ? &writer : &reader);

        if (rc == -EBUSY)
                return err_msg(e, EBUSY, write ?
                               "another VM or program uses it: end that one, or use a copy" :
                               "another VM or program writes to it: end that one, or use a copy");
        if (rc < 0 && write)
                return err_msg(e, ENOLCK, "its file system has no locks, so nobody could be kept "
                               "from writing at the same time: use a local disk, or read only");
        return 0;
}
