/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/imglock.h"

#include <errno.h>
#include <fcntl.h>

#define USED(perm) (100 + (perm))
#define UNSHARED(perm) (200 + (perm))

enum { PERM_CONSISTENT_READ = 0, PERM_WRITE = 1, PERM_RESIZE = 3 };

#define APPEND_BYTE 300
#define TAG_BYTES_AT 1024
/* ids are counted up; two that share a byte only make each other wait */
#define TAG_BYTES (1u << 30)

static struct flock some_bytes(short type, off_t byte, off_t n)
{
        return (struct flock){
                .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = n,
        };
}

/* 0, -EBUSY when others are in the way, else why it cannot be locked at all */
static int lock_byte(int fd, short type, off_t byte)
{
        struct flock l = some_bytes(type, byte, 1);

        if (fcntl(fd, F_OFD_SETLK, &l) == 0)
                return 0;
        return errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
}

/* any of n bytes */
static bool any_used_by_others(int fd, off_t byte, off_t n, bool if_unknown)
{
        struct flock l = some_bytes(F_WRLCK, byte, n);

        return fcntl(fd, F_OFD_GETLK, &l) < 0 ? if_unknown : l.l_type != F_UNLCK;
}

static bool used_by_others(int fd, off_t byte, bool if_unknown)
{
        return any_used_by_others(fd, byte, 1, if_unknown);
}

static off_t tag_byte(uint32_t id)
{
        return TAG_BYTES_AT + id % TAG_BYTES;
}

static int foreign_writer(struct err *e)
{
        return err_msg(e, EBUSY, "a program (QEMU?) has it open for writing: stop that "
                       "program or use a copy");
}

/* Between the two bytes is one that says nothing of writers: it is only asked together
 * with them as long as all three are free, which is nearly always. */
static bool foreign_writer_there(int fd)
{
        const off_t n = PERM_RESIZE - PERM_WRITE + 1;

        if (!any_used_by_others(fd, USED(PERM_WRITE), n, false))
                return false;
        return used_by_others(fd, USED(PERM_WRITE), false) ||
               used_by_others(fd, USED(PERM_RESIZE), false);
}

int imglock_read(int fd, struct err *e)
{
        if (lock_byte(fd, F_RDLCK, USED(PERM_CONSISTENT_READ)) == -EBUSY ||
            lock_byte(fd, F_RDLCK, UNSHARED(PERM_WRITE)) == -EBUSY || foreign_writer_there(fd))
                return foreign_writer(e);
        return 0;
}

int imglock_tag(int fd, uint32_t id, struct err *e)
{
        int rc = lock_byte(fd, F_RDLCK, tag_byte(id));

        if (rc == -EBUSY)
                return err_msg(e, EAGAIN, "the snapshot is being deleted just now");
        if (rc == 0)
                imglock_tables_done(fd);
        return 0;
}

void imglock_tables_done(int fd)
{
        lock_byte(fd, F_UNLCK, USED(PERM_CONSISTENT_READ));
}

void imglock_none(int fd)
{
        struct flock all = { .l_type = F_UNLCK, .l_whence = SEEK_SET };

        (void)fcntl(fd, F_OFD_SETLK, &all);
}

/* what a lock that a writer needs came to, `busy` when it is another's */
static int need(int rc, const char *busy, struct err *e)
{
        if (rc == -EBUSY)
                return err_msg(e, EBUSY, "%s", busy);
        if (rc == -EBADF)
                return err_msg(e, EBADF, "it is not open for writing");
        if (rc < 0)
                return err_msg(e, ENOLCK, "its file system has no locks, so nobody could be kept "
                               "from writing at the same time: use a local disk");
        return 0;
}

int imglock_append(int fd, struct err *e)
{
        static const char writer[] = "a program (QEMU?) has it open for writing: stop that "
                                     "program first";
        static const char appender[] = "another program is adding to it or making a delta "
                                       "of it just now: wait for it to end";
        int rc = need(lock_byte(fd, F_WRLCK, APPEND_BYTE), appender, e);

        if (rc == 0)
                rc = need(lock_byte(fd, F_RDLCK, UNSHARED(PERM_WRITE)), writer, e);
        if (rc == 0)
                rc = need(lock_byte(fd, F_RDLCK, UNSHARED(PERM_RESIZE)), writer, e);
        if (rc == 0 && foreign_writer_there(fd))
                rc = need(-EBUSY, writer, e);
        return rc;
}

int imglock_hold(int fd, struct err *e)
{
        if (lock_byte(fd, F_RDLCK, APPEND_BYTE) == -EBUSY)
                return err_msg(e, EBUSY, "another program is adding to it or rewriting it just "
                               "now: wait for it to end");
        return 0;
}

bool imglock_readers(int fd)
{
        return used_by_others(fd, USED(PERM_CONSISTENT_READ), true) ||
               used_by_others(fd, UNSHARED(PERM_RESIZE), true);
}

int imglock_delete(int fd, uint32_t id, struct err *e)
{
        return need(lock_byte(fd, F_WRLCK, tag_byte(id)),
                    "the snapshot is in use: end the VMs that run from it and the programs that "
                    "read it", e);
}
