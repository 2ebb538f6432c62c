/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a moment that is kept; keep-priv.h has the theory. */
#include "vmm/disk/keep.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/json.h"
#include "vmm/disk/disk-priv.h"
#include "vmm/disk/identity.h"
#include "vmm/disk/keep-priv.h"
#include "vmm/disk/overlay.h"

/* Of the file that is kept: only its owner may read it, as it is a guest's, and nobody writes
 * to it by accident, as RAM belongs to it (root can, and is told by its identity). */
#define MODE_KEPT 0400

static bool is_over(const struct disk_keep *k)
{
        return k->state == KEEP_OVER;
}

static void move_locked(struct disk_keep *k, enum keep_state state) REQUIRES(k->lock);
static void move_locked(struct disk_keep *k, enum keep_state state)
{
        k->state = state;
        cond_broadcast(&k->changed);
}

static void move(struct disk_keep *k, enum keep_state state)
{
        lock_acquire(&k->lock);
        move_locked(k, state);
        lock_release(&k->lock);
}

void keep_fail(struct disk_keep *k, const struct err *why)
{
        lock_acquire(&k->lock);
        if (!is_over(k)) {
                k->err = *why;
                move_locked(k, KEEP_OVER);
        }
        lock_release(&k->lock);
}

static void wait_while_cloning(struct disk_keep *k)
{
        lock_acquire(&k->lock);
        k->waited++;
        while (k->state == KEEP_CLONING)
                cond_wait(&k->changed, &k->lock);
        lock_release(&k->lock);
}

void keep_before_write(struct disk_keep *k, uint64_t offset, uint64_t bytes)
{
        if (k->state == KEEP_CLONING)
                wait_while_cloning(k);
        if (k->state == KEEP_COPYING)
                keep_copy_aside(k, offset, bytes);
}

int keep_write_error(const struct disk_keep *k, int rc, struct err *e)
{
        if (k->target)
                return publish_write_error(k->target, rc, e);
        return err_set(e, -rc, "write a copy of disk '%s'%s", k->disk->path,
                       rc == -ENOSPC || rc == -EDQUOT ? " (free some space beside it)" : "");
}

static int no_reflink(const struct disk_keep *k, int errnum, struct err *e)
{
        const char *path = k->disk->path;

        if (k->source < 0)
                return err_msg(e, EOPNOTSUPP, "disk '%s' is an overlay that is not a reflink "
                               "itself: use --disks copy", path);
        return err_set(e, errnum, "keep disk '%s' by a reflink to '%s' (needs both on one XFS or "
                       "Btrfs: use --disks copy elsewhere)", path,
                       k->target ? publish_path(k->target) : "a file that was lent");
}

/* One block is shared, to see whether it can be, and given back. */
static int probe_reflink(const struct disk_keep *k)
{
        struct statvfs fs;
        struct stat st;

        if (k->source < 0)
                return -EOPNOTSUPP;
        if (fstatvfs(k->source, &fs) < 0 || fstat(k->source, &st) < 0)
                return -errno;

        struct file_clone_range range = {
                .src_fd = k->source,
                .src_length = (uint64_t)st.st_size > fs.f_bsize ? fs.f_bsize : 0,
        };

        if (ioctl(k->fd, FICLONERANGE, &range) < 0 || ftruncate(k->fd, 0) < 0)
                return -errno;
        return 0;
}

static int choose(struct disk_keep *k, struct err *e)
{
        int rc = k->options.mode == DISKS_COPY ? -EOPNOTSUPP : probe_reflink(k);

        k->reflinked = rc == 0;
        if (rc < 0 && k->options.mode == DISKS_REFLINK)
                return no_reflink(k, -rc, e);
        if (!k->reflinked)
                return keep_copy_init(k, e);
        /* What is dirty is written before blocks are shared; better while nobody waits. What
         * it says is the guest's to hear, at its own flush. */
        (void)disk_flush(k->disk);
        return 0;
}

static int open_target(struct disk_keep *k, const struct disk_keep_options *o, struct err *e)
{
        int rc = o->target_fd ? 0 : publish_new(o->target_path, false, &k->target, e);

        if (rc == 0)
                k->fd = o->target_fd ? *o->target_fd : publish_fd(k->target);
        return rc;
}

int disk_keep_new(struct disk *d, const struct disk_keep_options *o, struct disk_keep **ret,
                  struct err *e)
{
        struct disk_keep *k = calloc(1, sizeof(*k));

        ASSERT(o->mode != DISKS_NONE);
        if (!k)
                return err_msg(e, ENOMEM, "no memory to keep disk '%s'", d->path);
        k->disk = d;
        k->options = *o;
        k->options.target_path = NULL;
        k->options.target_fd = NULL;
        k->source = d->overlay ? overlay_whole_fd(d->overlay) : d->fd;
        lock_init(&k->lock);
        cond_init(&k->changed);

        int rc = open_target(k, o, e);

        if (rc == 0)
                rc = choose(k, e);
        if (rc < 0) {
                disk_keep_free(k);
                return rc;
        }
        *ret = k;
        return 0;
}

void disk_keep_freeze(struct disk_keep *k)
{
        ASSERT(k->state == KEEP_NEW);
        move(k, k->reflinked ? KEEP_CLONING : KEEP_COPYING);
        keep_gate_close(&k->disk->gate, k);
        k->frozen = true;
}

/* False: it has to be copied, if that is allowed. */
static bool reflink(struct disk_keep *k)
{
        struct err e;

        if (ioctl(k->fd, FICLONE, k->source) == 0)
                return true;
        (void)no_reflink(k, errno, &e);
        k->reflinked = false;
        if (k->options.mode == DISKS_REFLINK || keep_copy_init(k, &e) < 0)
                keep_fail(k, &e);
        else
                move(k, KEEP_COPYING);
        return false;
}

/* Nobody looks at k in a write any more. */
static int leave_alone(struct disk_keep *k, struct err *e)
{
        int rc;

        lock_acquire(&k->lock);
        if (!is_over(k))
                move_locked(k, KEEP_OVER);
        rc = k->err.code;
        if (rc < 0 && e)
                *e = k->err;
        lock_release(&k->lock);
        if (k->frozen)
                keep_gate_open(&k->disk->gate);
        k->frozen = false;
        return rc;
}

/* As long as the disk, which a file behind a reflink need not be; whole on the disk. */
static int settle(struct disk_keep *k, struct err *e)
{
        if (ftruncate(k->fd, (off_t)k->disk->bytes) < 0)
                return keep_write_error(k, -errno, e);
        if (fchmod(k->fd, MODE_KEPT) < 0)
                return err_set(e, errno, "protect what is kept of disk '%s' from being written",
                               k->disk->path);
        return k->target ? publish_settle(k->target, e) : 0;
}

void disk_keep_share(struct disk_keep *k)
{
        uint64_t start_ns = clock_now_ns();

        ASSERT(k->frozen);
        if (k->state == KEEP_CLONING && reflink(k))
                move(k, KEEP_OVER);
        k->run_ns += clock_now_ns() - start_ns;
}

int disk_keep_run(struct disk_keep *k, struct err *e)
{
        uint64_t start_ns;
        int rc;

        disk_keep_share(k);
        start_ns = clock_now_ns();
        if (!k->reflinked)
                keep_copy_all(k);
        rc = leave_alone(k, e);
        if (rc == 0)
                rc = settle(k, e);
        k->run_ns += clock_now_ns() - start_ns;
        k->whole = rc == 0;
        return rc;
}

int disk_keep_publish(struct disk_keep *k, struct disk_identity *ret, struct err *e)
{
        ASSERT(k->whole && k->target);

        const char *path = publish_path(k->target), *slash = strrchr(path, '/');
        struct disk_identity id;
        int rc;

        rc = publish_commit(k->target, e);
        if (rc == 0)
                rc = disk_identity_of(k->fd, path, &id, e);
        if (rc == 0)
                rc = disk_identity_name(&id, slash ? slash + 1 : path, e);
        if (rc < 0) {
                publish_retract(k->target);     /* it may have got it in spite of that */
                return rc;
        }
        *ret = id;
        return 0;
}

void disk_keep_retract(struct disk_keep *k)
{
        ASSERT(k->target);
        publish_retract(k->target);
}

void disk_keep_free(struct disk_keep *k)
{
        if (!k)
                return;
        (void)leave_alone(k, NULL);
        publish_free(k->target);
        keep_copy_fini(k);
        cond_fini(&k->changed);
        lock_fini(&k->lock);
        free(k);
}

struct json_object *disk_keep_describe(const struct disk_keep *k)
{
        struct json_object *o = json_object_new_object();

        json_put_str(o, "mode", k->reflinked ? "reflink" : "copy");
        json_put_u64(o, "bytes", k->disk->bytes);
        json_put_u64(o, "copied_bytes", k->copied_bytes);
        json_put_u64(o, "aside_bytes", k->aside_bytes);
        json_put_u64(o, "waited", k->waited);
        json_put_u64(o, "microseconds", k->run_ns / NS_PER_US);
        return o;
}
