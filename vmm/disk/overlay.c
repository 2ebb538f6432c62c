/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/disk/overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "common/lock.h"
#include "vmm/disk/blocks.h"
#include "vmm/disk/nameless.h"
#include "vmm/disk/punch.h"
#include "vmm/disk/scatter.h"

/* Theory of operation
 *
 * A reflink is simply the disk: all requests go to it. The sparse kind has a bit for each
 * block. Where it is set the file has the block, else the base. Reads look at the bits and
 * take no lock. A write to a block without its bit holds the lock of the block's stripe; it
 * fills the block with what the base has around it, then writes, then sets the bit. Writes
 * to blocks with their bit take no lock.
 *
 * A reader that saw the bit clear reads the base while somebody writes other sectors of the
 * block: what it wants is the same in both.
 *
 * A block that becomes zero as a whole gets its bit and a hole. So a guest that discards
 * what it does not need costs nothing.
 *
 * INV-FILLED: a bit is set after its block is whole in the file, under the stripe's lock,
 *             and is never cleared. What a failed write left in a block without its bit is
 *             never read, and filled over before the bit is set.
 */

/* Threads of one device are few; blocks beside each other have different ones. */
#define STRIPES 32
/* Said at once: who asks for more asks again; each time so much of the map is looked at. */
#define HOLE_BYTES_MAX (64ull << 20)

struct overlay {
        int base;                       /* the caller's */
        int fd;
        uint64_t bytes;
        char *path;                     /* the base's */
        char *dir;                      /* as given; NULL = none was */
        struct blocks written;          /* none: fd is a reflink, and whole */
        bool reflink;
        struct lock stripe[STRIPES];
};

static int make(struct overlay *o, struct err *e)
{
        int rc = nameless_file(o->path, o->dir, &o->fd, e);

        if (rc < 0)
                return err_in(e, rc, "an overlay of disk '%s'", o->path);
        if (ioctl(o->fd, FICLONE, o->base) == 0) {
                o->reflink = true;
                return 0;
        }
        if (ftruncate(o->fd, (off_t)o->bytes) < 0)
                return err_set(e, errno, "make an overlay of disk '%s' %llu bytes long", o->path,
                               (unsigned long long)o->bytes);
        return blocks_init(&o->written, DIV_ROUND_UP(o->bytes, OVERLAY_BLOCK_BYTES), e);
}

int overlay_new(int base, const char *path, uint64_t bytes, const char *dir,
                struct overlay **ret, struct err *e)
{
        struct overlay *o = calloc(1, sizeof(*o));

        if (!o)
                return err_msg(e, ENOMEM, "no memory for an overlay of disk '%s'", path);
        o->base = base;
        o->fd = -1;
        o->bytes = bytes;
        for (unsigned i = 0; i < STRIPES; i++)
                lock_init(&o->stripe[i]);
        o->path = strdup(path);
        o->dir = dir ? strdup(dir) : NULL;

        int rc = o->path && (o->dir || !dir) ? make(o, e)
                 : err_msg(e, ENOMEM, "no memory for an overlay of disk '%s'", path);

        if (rc < 0) {
                overlay_free(o);
                return rc;
        }
        *ret = o;
        return 0;
}

int overlay_again(const struct overlay *o, struct overlay **ret, struct err *e)
{
        return overlay_new(o->base, o->path, o->bytes, o->dir, ret, e);
}

void overlay_free(struct overlay *o)
{
        if (!o)
                return;
        fd_close(&o->fd);
        blocks_fini(&o->written);
        for (unsigned i = 0; i < STRIPES; i++)
                lock_fini(&o->stripe[i]);
        free(o->path);
        free(o->dir);
        free(o);
}

/* A part of a request that is all in the file, or all in the base. */
struct run {
        uint64_t offset;
        uint64_t bytes;
        bool written;
};

/* The run at offset; of [offset, end). */
static struct run run_at(const struct overlay *o, uint64_t offset, uint64_t end)
{
        uint64_t block = offset / OVERLAY_BLOCK_BYTES;
        bool written = o->reflink || blocks_has(&o->written, block);
        uint64_t next = o->reflink ? end : (block + 1) * OVERLAY_BLOCK_BYTES;

        while (next < end && blocks_has(&o->written, next / OVERLAY_BLOCK_BYTES) == written)
                next += OVERLAY_BLOCK_BYTES;
        return (struct run){ offset, MIN(next, end) - offset, written };
}

int overlay_read(struct overlay *o, const struct iovec *iov, unsigned n, uint64_t offset)
{
        uint64_t begin = offset, end = offset + scatter_bytes(iov, n);
        int rc = 0;

        ASSERT(end <= o->bytes);
        while (offset < end && rc == 0) {
                struct run r = run_at(o, offset, end);

                rc = scatter_pread(r.written ? o->fd : o->base, iov, n, r.offset - begin,
                                   r.bytes, r.offset);
                offset += r.bytes;
        }
        return rc;
}

static uint64_t block_end(const struct overlay *o, uint64_t block)
{
        return MIN((block + 1) * OVERLAY_BLOCK_BYTES, o->bytes);
}

static int copy_from_base(struct overlay *o, void *buf, uint64_t offset, uint64_t end)
{
        int rc;

        if (offset == end)
                return 0;
        rc = io_pread_full(o->base, buf, end - offset, offset);
        if (rc == 0)
                rc = io_pwrite_full(o->fd, buf, end - offset, offset);
        return rc;
}

/* What the base has of the block around [offset, end) */
static int fill_around(struct overlay *o, uint64_t block, uint64_t offset, uint64_t end)
{
        uint64_t first = block * OVERLAY_BLOCK_BYTES, last = block_end(o, block);
        AUTO_FREE char *buf = NULL;
        int rc;

        if (offset == first && end == last)
                return 0;
        buf = malloc(OVERLAY_BLOCK_BYTES);
        if (!buf)
                return -ENOMEM;
        rc = copy_from_base(o, buf, first, offset);
        return rc == 0 ? copy_from_base(o, buf, end, last) : rc;
}

/* What is to be in a range. */
struct content {
        const struct iovec *iov;        /* NULL = zeros */
        unsigned n;
        uint64_t begin;                 /* where in the disk iov[0] goes */
};

static int put(struct overlay *o, const struct content *c, uint64_t offset, uint64_t bytes)
{
        if (!c->iov)
                return punch_zeroes(o->fd, offset, bytes, true);
        return scatter_pwrite(o->fd, c->iov, c->n, offset - c->begin, bytes, offset);
}

static int put_first_locked(struct overlay *o, const struct content *c, uint64_t offset,
                            uint64_t end)
{
        uint64_t block = offset / OVERLAY_BLOCK_BYTES;
        int rc;

        if (blocks_has(&o->written, block))     /* another sector of it came first */
                return put(o, c, offset, end - offset);
        rc = fill_around(o, block, offset, end);
        if (rc == 0)
                rc = put(o, c, offset, end - offset);
        if (rc == 0)
                blocks_set(&o->written, block); /* INV-FILLED */
        return rc;
}

/* In one block */
static int put_first(struct overlay *o, const struct content *c, uint64_t offset, uint64_t end)
{
        struct lock *l = &o->stripe[offset / OVERLAY_BLOCK_BYTES % STRIPES];
        int rc;

        lock_acquire(l);
        rc = put_first_locked(o, c, offset, end);
        lock_release(l);
        return rc;
}

static int put_all(struct overlay *o, const struct content *c, uint64_t offset, uint64_t end)
{
        int rc = 0;

        ASSERT(end <= o->bytes);
        while (offset < end && rc == 0) {
                struct run r = run_at(o, offset, end);

                if (!r.written) {
                        r.bytes = MIN(block_end(o, offset / OVERLAY_BLOCK_BYTES), end) - offset;
                        rc = put_first(o, c, offset, offset + r.bytes);
                } else {
                        rc = put(o, c, offset, r.bytes);
                }
                offset += r.bytes;
        }
        return rc;
}

int overlay_write(struct overlay *o, const struct iovec *iov, unsigned n, uint64_t offset)
{
        const struct content c = { .iov = iov, .n = n, .begin = offset };

        return put_all(o, &c, offset, offset + scatter_bytes(iov, n));
}

int overlay_zeroes(struct overlay *o, uint64_t offset, uint64_t bytes)
{
        const struct content c = { .iov = NULL };

        return put_all(o, &c, offset, offset + bytes);
}

int overlay_discard(struct overlay *o, uint64_t offset, uint64_t bytes)
{
        uint64_t end = offset + bytes;
        uint64_t first = ALIGN_UP(offset, OVERLAY_BLOCK_BYTES);
        uint64_t last = end == o->bytes ? end : ALIGN_DOWN(end, OVERLAY_BLOCK_BYTES);

        ASSERT(end <= o->bytes);
        return first < last ? overlay_zeroes(o, first, last - first) : 0;
}

uint64_t overlay_hole(struct overlay *o, uint64_t offset)
{
        ASSERT(offset < o->bytes);

        struct run r = run_at(o, offset, MIN(o->bytes, offset + HOLE_BYTES_MAX));
        off_t data = lseek(r.written ? o->fd : o->base, (off_t)offset, SEEK_DATA);

        if (data < 0)
                return errno == ENXIO ? r.bytes : 0;
        return MIN((uint64_t)data - offset, r.bytes);
}

int overlay_whole_fd(const struct overlay *o)
{
        return o->reflink ? o->fd : -1;
}
