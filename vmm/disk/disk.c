/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/disk/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "vmm/disk/disk-file.h"
#include "vmm/disk/disk-lock.h"
#include "vmm/disk/disk-priv.h"
#include "vmm/disk/overlay.h"
#include "vmm/disk/punch.h"
#include "vmm/disk/scatter.h"

/* ---- opening ------------------------------------------------------------- */

static int check_kind(mode_t mode, struct err *e)
{
        if (S_ISREG(mode) || S_ISBLK(mode))
                return 0;
        return err_msg(e, S_ISDIR(mode) ? EISDIR : EINVAL, "%s: give a raw disk image or a "
                       "block device", S_ISDIR(mode) ? "it is a folder" : "it is no file");
}

static int open_error(int why, bool write, struct err *e)
{
        if (why == EBUSY)
                return err_msg(e, EBUSY, "the block device is mounted or in use: unmount it, end "
                               "what uses it, or open it read-only");
        if (write && (why == EACCES || why == EROFS || why == EPERM))
                return err_set(e, why, "open for writing (read-only would do without)");
        return err_set(e, why, "open");
}

static int open_file(struct disk *d, const int *file, bool write, struct err *e)
{
        AUTO_FD found = -1;
        struct stat st;
        int rc = file ? (fstat(*file, &st) < 0 ? -errno : 0)
                      : disk_file_find(AT_FDCWD, d->path, true, &found, &st);

        if (rc < 0)
                return err_set(e, -rc, "look at it");
        rc = check_kind(st.st_mode, e);
        if (rc < 0)
                return rc;
        d->block_device = S_ISBLK(st.st_mode);
        /* a device that is mounted, or another's: EBUSY */
        rc = disk_file_open(file ? *file : found, (write ? O_RDWR : O_RDONLY) |
                            (write && d->block_device ? O_EXCL : 0), &d->fd);
        return rc < 0 ? open_error(-rc, write, e) : 0;
}

/* once it is locked: what comes before may see it grow */
static int find_size(struct disk *d, struct err *e)
{
        struct stat st;
        uint64_t bytes;

        if (d->block_device ? ioctl(d->fd, BLKGETSIZE64, &bytes) < 0 : fstat(d->fd, &st) < 0)
                return err_set(e, errno, "find its size");
        if (!d->block_device)
                bytes = (uint64_t)st.st_size;
        d->bytes = ALIGN_DOWN(bytes, DISK_SECTOR_BYTES);
        if (d->bytes == 0)
                return err_msg(e, EINVAL, "it has no whole sector of 512 bytes: a raw image is as "
                               "long as its disk (truncate -s SIZE makes an empty one)");
        return 0;
}

static int set_up(struct disk *d, const struct disk_options *o, struct err *e)
{
        bool in_place = !d->read_only && !o->overlay;
        int rc = open_file(d, o->file, in_place, e);

        if (rc == 0)
                rc = disk_lock(d->fd, in_place, e);
        if (rc == 0)
                rc = find_size(d, e);
        if (rc < 0 || d->read_only)
                return rc;
        if (!o->overlay) {
                d->discard_granularity = punch_granularity(d->fd, d->block_device);
                return 0;
        }
        d->discard_granularity = OVERLAY_BLOCK_BYTES;
        return overlay_new(d->fd, d->path, d->bytes, o->overlay_dir, &d->overlay, e);
}

int disk_open(const struct disk_options *o, struct disk **ret, struct err *e)
{
        struct disk *d = calloc(1, sizeof(*d));

        if (!d)
                return err_msg(e, ENOMEM, "no memory for disk '%s'", o->path);
        d->fd = -1;
        d->read_only = o->read_only;
        keep_gate_init(&d->gate);
        d->path = strdup(o->path);

        int rc = d->path ? set_up(d, o, e) : err_msg(e, ENOMEM, "no memory");

        if (rc < 0) {
                disk_close(d);
                return err_in(e, rc, "disk '%s'", o->path);
        }
        *ret = d;
        return 0;
}

void disk_close(struct disk *d)
{
        if (!d)
                return;
        overlay_free(d->overlay);
        fd_close(&d->fd);
        keep_gate_fini(&d->gate);
        free(d->path);
        free(d);
}

const char *disk_path(const struct disk *d)
{
        return d->path;
}

uint64_t disk_bytes(const struct disk *d)
{
        return d->bytes;
}

bool disk_read_only(const struct disk *d)
{
        return d->read_only;
}

uint32_t disk_discard_granularity(const struct disk *d)
{
        return d->discard_granularity;
}

/* ---- requests ------------------------------------------------------------ */

static bool is_inside(const struct disk *d, uint64_t offset, uint64_t bytes)
{
        return IS_ALIGNED(offset | bytes, DISK_SECTOR_BYTES) && offset <= d->bytes &&
               bytes <= d->bytes - offset;
}

/* Everything that changes the disk comes here first. */
static void before_change(struct disk *d, uint64_t offset, uint64_t bytes)
{
        ASSERT(!d->read_only);
        ASSERT(is_inside(d, offset, bytes));
        keep_gate_pass(&d->gate, offset, bytes);
}

int disk_read(struct disk *d, const struct iovec *iov, unsigned n, uint64_t offset)
{
        size_t bytes = scatter_bytes(iov, n);

        ASSERT(is_inside(d, offset, bytes));
        if (d->overlay)
                return overlay_read(d->overlay, iov, n, offset);
        return scatter_pread(d->fd, iov, n, 0, bytes, offset);
}

int disk_write(struct disk *d, const struct iovec *iov, unsigned n, uint64_t offset)
{
        size_t bytes = scatter_bytes(iov, n);

        before_change(d, offset, bytes);
        if (d->overlay)
                return overlay_write(d->overlay, iov, n, offset);
        return scatter_pwrite(d->fd, iov, n, 0, bytes, offset);
}

static int sync_file(int fd)
{
        int rc;

        do
                rc = fdatasync(fd);
        while (rc < 0 && errno == EINTR);
        return rc;
}

/* An overlay ends with the VM: there is nothing that it would be durable for. */
int disk_flush(struct disk *d)
{
        int none = 0;

        if (d->read_only || d->overlay)
                return 0;
        if (d->flush_error == 0 && sync_file(d->fd) < 0)
                atomic_compare_exchange_strong(&d->flush_error, &none, -errno);
        return d->flush_error;
}

int disk_discard(struct disk *d, uint64_t offset, uint64_t bytes)
{
        before_change(d, offset, bytes);
        if (d->overlay)
                return overlay_discard(d->overlay, offset, bytes);
        return punch_discard(d->fd, d->block_device, offset, bytes);
}

int disk_write_zeroes(struct disk *d, uint64_t offset, uint64_t bytes, bool unmap)
{
        before_change(d, offset, bytes);
        if (d->overlay)
                return overlay_zeroes(d->overlay, offset, bytes);
        return punch_zeroes(d->fd, offset, bytes, unmap);
}
