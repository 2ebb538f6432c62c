/* SPDX-License-Identifier: Apache-2.0 */
/* The blocks of a moment that is copied; keep-priv.h has the theory. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "vmm/disk/disk-priv.h"
#include "vmm/disk/keep-priv.h"
#include "vmm/disk/overlay.h"
#include "vmm/disk/scatter.h"

/* Consecutive blocks that we have claimed. */
struct run {
        uint64_t first;
        uint64_t n;
};

static uint64_t run_offset(struct run r)
{
        return r.first * KEEP_BLOCK_BYTES;
}

static uint64_t run_bytes(const struct disk_keep *k, struct run r)
{
        return MIN((r.first + r.n) * KEEP_BLOCK_BYTES, k->disk->bytes) - run_offset(r);
}

int keep_copy_init(struct disk_keep *k, struct err *e)
{
        uint64_t n = DIV_ROUND_UP(k->disk->bytes, KEEP_BLOCK_BYTES);
        int rc = blocks_init(&k->claimed, n, e);

        if (rc == 0)
                rc = blocks_init(&k->done, n, e);
        if (rc < 0)
                return rc;
        k->in_kernel = k->source >= 0;
        if (ftruncate(k->fd, (off_t)k->disk->bytes) < 0)
                return keep_write_error(k, -errno, e);
        return 0;
}

void keep_copy_fini(struct disk_keep *k)
{
        blocks_fini(&k->claimed);
        blocks_fini(&k->done);
}

static int read_error(const struct disk_keep *k, int rc, struct err *e)
{
        return err_set(e, -rc, "read disk '%s' to keep a copy of it", k->disk->path);
}

static int read_old(const struct disk_keep *k, void *buf, uint64_t offset, uint64_t bytes)
{
        struct disk *d = k->disk;
        const struct iovec iov = { buf, bytes };

        return d->overlay ? overlay_read(d->overlay, &iov, 1, offset)
                          : scatter_pread(d->fd, &iov, 1, 0, bytes, offset);
}

static bool is_zero(const char *p, size_t bytes)
{
        return p[0] == 0 && memcmp(p, p + 1, bytes - 1) == 0;
}

/* Blocks of zeros are left as holes. */
static int write_kept(struct disk_keep *k, const char *buf, uint64_t offset, uint64_t bytes)
{
        int rc = 0;

        for (uint64_t at = 0; at < bytes && rc == 0; at += KEEP_BLOCK_BYTES) {
                size_t part = MIN(bytes - at, KEEP_BLOCK_BYTES);

                if (!is_zero(buf + at, part))
                        rc = io_pwrite_full(k->fd, buf + at, part, offset + at);
        }
        return rc;
}

static int copy_by_hand(struct disk_keep *k, uint64_t offset, uint64_t bytes, struct err *e)
{
        AUTO_FREE char *buf = malloc(bytes);
        int rc;

        if (!buf)
                return err_msg(e, ENOMEM, "no memory to keep a copy of disk '%s'",
                               k->disk->path);
        rc = read_old(k, buf, offset, bytes);
        if (rc < 0)
                return read_error(k, rc, e);
        rc = write_kept(k, buf, offset, bytes);
        return rc < 0 ? keep_write_error(k, rc, e) : 0;
}

/* False: it does not work here, or not any more; the rest is to be copied by hand, and any
 * error is met again there. */
static bool copy_in_kernel(struct disk_keep *k, uint64_t *offset, uint64_t *bytes)
{
        while (*bytes > 0) {
                off_t in = (off_t)*offset, out = in;
                ssize_t n = copy_file_range(k->source, &in, k->fd, &out, *bytes,
                                            0);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return false;
                *offset += (uint64_t)n;
                *bytes -= (uint64_t)n;
        }
        return true;
}

static int copy_run(struct disk_keep *k, struct run r, bool in_kernel, struct err *e)
{
        uint64_t offset = run_offset(r), bytes = run_bytes(k, r);

        if (in_kernel && k->in_kernel) {
                if (copy_in_kernel(k, &offset, &bytes))
                        return 0;
                k->in_kernel = false;
        }
        return copy_by_hand(k, offset, bytes, e);
}

static void set_done(struct disk_keep *k, struct run r)
{
        for (uint64_t i = 0; i < r.n; i++)
                blocks_set(&k->done, r.first + i);

        lock_acquire(&k->lock);
        k->ndone += r.n;
        if (k->waiting)
                cond_broadcast(&k->changed);
        lock_release(&k->lock);
}

/* Claims up to KEEP_RUN_BLOCKS from first on, before end; the run may be empty. */
static struct run claim(struct disk_keep *k, uint64_t first, uint64_t end)
{
        struct run r = { first, 0 };

        end = MIN(end, first + KEEP_RUN_BLOCKS);
        while (first + r.n < end && blocks_set(&k->claimed, first + r.n))
                r.n++;
        return r;
}

/* How many whole blocks from there on are a hole. */
static uint64_t hole_blocks(const struct disk_keep *k, uint64_t block)
{
        uint64_t offset = block * KEEP_BLOCK_BYTES, end;
        struct disk *d = k->disk;

        if (d->overlay) {
                end = offset + overlay_hole(d->overlay, offset);
        } else {
                off_t data = lseek(d->fd, (off_t)offset, SEEK_DATA);

                end = data >= 0 ? (uint64_t)data : errno == ENXIO ? d->bytes : offset;
        }
        return end >= d->bytes ? k->done.nblocks - block : end / KEEP_BLOCK_BYTES - block;
}

/* The block behind data that begins there: the kernel, too, would copy holes as zeros. */
static uint64_t data_end(const struct disk_keep *k, uint64_t block)
{
        off_t hole = k->disk->overlay ? -1 : lseek(k->disk->fd, (off_t)(block * KEEP_BLOCK_BYTES),
                                                   SEEK_HOLE);

        return hole < 0 ? k->done.nblocks
                        : MAX(DIV_ROUND_UP((uint64_t)hole, KEEP_BLOCK_BYTES), block + 1);
}

/* Seen before they are claimed (the theory says why). */
static void skip_hole(struct disk_keep *k, uint64_t *block, uint64_t n)
{
        for (uint64_t end = *block + n; *block < end;) {
                struct run r = claim(k, *block, end);

                if (r.n > 0)
                        set_done(k, r);
                *block += MAX(r.n, 1);
        }
}

/* From a block that nobody has claimed, a moment ago, up to end at most. */
static int copy_next(struct disk_keep *k, uint64_t *block, uint64_t end, bool aside,
                     struct err *e)
{
        uint64_t hole = hole_blocks(k, *block);

        if (hole > 0) {
                skip_hole(k, block, MIN(hole, end - *block));
                return 0;
        }

        uint64_t data = data_end(k, *block);
        struct run r = claim(k, *block, MIN(end, data));
        int rc = r.n > 0 ? copy_run(k, r, !aside, e) : 0;

        if (rc < 0 || r.n == 0)
                return rc;
        /* what is written early need not be waited for at the end */
        (void)sync_file_range(k->fd, (off_t)run_offset(r),
                              (off_t)run_bytes(k, r), SYNC_FILE_RANGE_WRITE);
        *(aside ? &k->aside_bytes : &k->copied_bytes) += run_bytes(k, r);
        set_done(k, r);
        *block += r.n;
        return 0;
}

/* Until that block is done, or the copy is over. INV-NOWAIT: nothing is ours. */
static void wait_done(struct disk_keep *k, uint64_t block)
{
        lock_acquire(&k->lock);
        k->waited++;
        k->waiting++;
        while (k->state == KEEP_COPYING && !blocks_has(&k->done, block))
                cond_wait(&k->changed, &k->lock);
        k->waiting--;
        lock_release(&k->lock);
}

void keep_copy_aside(struct disk_keep *k, uint64_t offset, uint64_t bytes)
{
        uint64_t block = offset / KEEP_BLOCK_BYTES;
        uint64_t end = DIV_ROUND_UP(offset + bytes, KEEP_BLOCK_BYTES);
        struct err e;

        while (block < end && k->state == KEEP_COPYING) {
                if (blocks_has(&k->done, block))
                        block++;
                else if (blocks_has(&k->claimed, block))
                        wait_done(k, block);
                else if (copy_next(k, &block, end, true, &e) < 0)
                        keep_fail(k, &e);       /* INV-UNHARMED */
        }
}

static int tell(struct disk_keep *k, struct err *e)
{
        const struct disk_keep_options *o = &k->options;

        if (o->cancelled && o->cancelled(o->ctx))
                return err_msg(e, ECANCELED, "cancelled");
        if (o->progress)
                o->progress(o->ctx, MIN(k->ndone * KEEP_BLOCK_BYTES, k->disk->bytes),
                            k->disk->bytes);
        return 0;
}

/* Those that writes have claimed are done, too. */
static void wait_all(struct disk_keep *k)
{
        lock_acquire(&k->lock);
        k->waiting++;
        while (k->state == KEEP_COPYING && k->ndone < k->done.nblocks)
                cond_wait(&k->changed, &k->lock);
        k->waiting--;
        lock_release(&k->lock);
}

void keep_copy_all(struct disk_keep *k)
{
        uint64_t block = 0, end = k->done.nblocks;
        struct err e;
        int rc = 0;

        while (rc == 0 && block < end && k->state == KEEP_COPYING) {
                if (blocks_has(&k->claimed, block))
                        block++;
                else
                        rc = copy_next(k, &block, end, false, &e);
                if (rc == 0)
                        rc = tell(k, &e);
        }
        if (rc < 0)
                keep_fail(k, &e);
        wait_all(k);
}
