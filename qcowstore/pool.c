/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/auto.h"
#include "common/io.h"
#include "qcowstore/imglock.h"
#include "qcowstore/sum.h"

/* The name may become another file's, by compact, while we wait for the lock. */
#define OPEN_TRIES 5

/* Does the name lead to this file? */
static bool has_name(const struct pool *p, int fd)
{
        struct stat named, opened;

        return stat(p->path, &named) == 0 && fstat(fd, &opened) == 0 &&
               named.st_dev == opened.st_dev && named.st_ino == opened.st_ino;
}

static int try_open(struct pool *p, struct err *e)
{
        AUTO_FD fd = open(p->path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

        if (fd < 0)
                return err_set(e, errno, "open '%s' to change it", p->path);

        int rc = imglock_append(fd, e);

        if (rc < 0)
                return err_in(e, rc, "change '%s'", p->path);
        if (has_name(p, fd))
                p->fd = fd_take(&fd);
        return 0;
}

static int open_locked(struct pool *p, struct err *e)
{
        for (int i = 0; i < OPEN_TRIES && p->fd < 0; i++) {
                int rc = try_open(p, e);

                if (rc < 0)
                        return rc;
        }
        return p->fd < 0 ? err_msg(e, EBUSY, "'%s' is replaced again and again", p->path) : 0;
}

/* Tags come and go only where nobody rests on the one that there is. */
static int check_relatives(const struct pool *p, struct err *e)
{
        if (p->latest->hdr.is_parent)
                return err_msg(e, EINVAL, "'%s' is the parent of another image, which would be "
                               "lost: save to another file", p->path);
        if (p->latest->hdr.backing_offset)
                return err_msg(e, EINVAL, "'%s' has a parent and so only one snapshot: save to "
                               "another file or use 'vmm image flatten'", p->path);
        return 0;
}

static int check_kind(const struct pool *p, struct err *e)
{
        const struct imghdr *h = &p->latest->hdr;

        if (h->format_version == 0)
                return err_msg(e, EINVAL, p->notes_only
                               ? "'%s' was made by another program: it has no place for a working "
                                 "set; import it first ('vmm image import')"
                               : "'%s' was made by another program: no tags can be added or "
                                 "deleted here", p->path);
        if (h->changed)
                return err_msg(e, EINVAL, "'%s' was changed by another program: make it whole with "
                               "'vmm image compact' first", p->path);
        if (h->default_snapshot != h->snapshots - 1)
                return err_msg(e, EBADMSG, "'%s': the default snapshot is not the last one",
                               p->path);                                /* INV-LATEST */
        return p->notes_only ? 0 : check_relatives(p, e);
}

static int open_latest(struct pool *p, struct err *e)
{
        int rc = image_open_layer(p->fd, p->path, NULL, &p->latest, e);

        if (rc < 0)
                return err_in(e, rc, "image '%s'", p->path);
        rc = check_kind(p, e);
        if (rc < 0)
                return rc;
        p->file_bytes = p->latest->info.file_bytes;
        rc = pool_load(p, e);
        return rc < 0 ? err_in(e, rc, "image '%s'", p->path) : 0;
}

static struct pool *new_pool(const char *path, bool notes_only)
{
        struct pool *p = calloc(1, sizeof(*p));

        if (!p)
                return NULL;
        p->fd = -1;
        p->notes_only = notes_only;
        p->path = strdup(path);
        if (!p->path)
                free(ptr_take(&p));
        return p;
}

/* INV-SWITCH: the header may be of somebody who was killed before it was durable, or
 * whose sync failed, and what it freed is written next. After a failed sync the kernel
 * may take the page for clean, so it is written again. */
static int settle_header(const struct pool *p, struct err *e)
{
        const struct qs_image *m = p->latest;
        int rc = io_pwrite_full(p->fd, m->sector, sizeof(m->sector), 0);

        if (rc == 0 && fdatasync(p->fd) < 0)
                rc = -errno;
        return rc < 0 ? err_set(e, -rc, "make '%s' durable before it is changed", p->path) : 0;
}

static int open_named(const char *path, bool notes_only, struct pool **ret, struct err *e)
{
        struct pool *p = new_pool(path, notes_only);
        int rc = p ? open_locked(p, e) : err_set(e, ENOMEM, "open '%s'", path);

        if (rc == 0) {
                p->readers = imglock_readers(p->fd);
                rc = open_latest(p, e);
        }
        if (rc == 0)
                rc = settle_header(p, e);
        if (rc < 0) {
                pool_close(p);
                return rc;
        }
        *ret = p;
        return 0;
}

int pool_open(const char *path, struct pool **ret, struct err *e)
{
        return open_named(path, false, ret, e);
}

int pool_open_notes(const char *path, struct pool **ret, struct err *e)
{
        return open_named(path, true, ret, e);
}

int pool_open_unnamed(int fd, const char *path, struct pool **ret, struct err *e)
{
        struct pool *p = new_pool(path, false);
        int rc = p ? 0 : err_set(e, ENOMEM, "open '%s'", path);

        if (rc == 0) {
                p->unnamed = true;
                p->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
                rc = p->fd < 0 ? err_set(e, errno, "open '%s'", path) : open_latest(p, e);
        }
        if (rc < 0) {
                pool_close(p);
                return rc;
        }
        *ret = p;
        return 0;
}

void pool_close(struct pool *p)
{
        if (!p)
                return;
        /* what was not published nobody can read, whatever older state he knows */
        if (p->fd >= 0 && p->file_bytes && !p->switched &&
            ftruncate(p->fd, (off_t)p->file_bytes) < 0)
                errno = 0;
        qs_image_close(p->latest);
        fd_close(&p->fd);
        free(p->reftable);
        free(p->refs);
        free(p->active_l1);
        free(p->area);
        free(p->path);
        free(p);
}

static uint64_t published_end(const struct pool *p)
{
        uint64_t n = p->reftable_entries *
                     layout_refblock_entries(p->latest->hdr.cluster_bits, LAYOUT_REFCOUNT_ORDER);

        while (n > 1 && p->refs[n - 1] == 0)
                n--;
        return n;
}

static int copy_sums(const struct pool *p, struct space *s, uint64_t end, struct err *e)
{
        struct sumtree *sums = p->latest->hostsums;

        for (uint64_t i = 0; i < MIN(end, sumtree_entries(sums)); i++) {
                int rc = sumtree_get(sums, i, &s->sums[i], e);

                if (rc < 0)
                        return err_in(e, rc, "image '%s'", p->path);
        }
        return 0;
}

int pool_space(const struct pool *p, struct space *ret, struct err *e)
{
        unsigned bits = p->latest->hdr.cluster_bits;
        uint64_t end = published_end(p);
        uint64_t file = p->latest->bound >> bits;
        uint64_t counted = p->reftable_entries *
                           layout_refblock_entries(bits, LAYOUT_REFCOUNT_ORDER);
        uint64_t summed = sumtree_entries(p->latest->hostsums);
        int rc = space_init(ret, bits, e);

        if (rc == 0)
                rc = space_reserve(ret, MAX(MAX(counted, file), summed), e);
        if (rc < 0)
                return rc;
        memcpy(ret->refs, p->refs, end * sizeof(*p->refs));
        rc = copy_sums(p, ret, end, e);
        if (rc < 0)
                return rc;
        /* readers of an older state may even need what lies behind the end */
        space_extend(ret, p->readers ? MAX(end, file) : end);
        /* From the end on the latest HOSTSUMS may speak of clusters that are no more:
         * their blocks are not as ours. */
        memset(ret->touched, 1, ret->room >> (bits - 3));
        memset(ret->touched, 0, end >> (bits - 3));
        return p->readers ? 0 : space_offer(ret, e);
}

/* What lies behind the end of the new state, if nobody reads the old one. */
static void cut_tail(const struct pool *p, const uint8_t sector[LAYOUT_SECTOR_BYTES])
{
        struct imghdr h;
        int rc = imghdr_parse(sector, LAYOUT_SECTOR_BYTES, &h, NULL);

        ASSERT(rc == 0);
        if ((p->unnamed || !imglock_readers(p->fd)) && ftruncate(p->fd, (off_t)h.file_bytes) < 0)
                errno = 0;              /* it is in nobody's way */
}

int pool_switch(struct pool *p, const uint8_t sector[LAYOUT_SECTOR_BYTES], struct err *e)
{
        if (!p->unnamed && !has_name(p, p->fd))         /* by who was told to (--force) */
                return err_msg(e, ESTALE, "'%s' was replaced meanwhile: try again", p->path);
        if (!p->unnamed && fdatasync(p->fd) < 0)
                return pool_write_error(p, -errno, e);

        int rc = io_pwrite_full(p->fd, sector, LAYOUT_SECTOR_BYTES, 0);

        /* whatever became of it: what is there now is whole, and perhaps in use */
        p->switched = true;
        if (rc < 0)
                return pool_write_error(p, rc, e);
        if (!p->unnamed && fdatasync(p->fd) < 0)
                return err_set(e, errno, "'%s' is complete, but could not be made durable (copy it "
                               "to another disk)", p->path);
        cut_tail(p, sector);
        return 0;
}

int pool_write_error(const struct pool *p, int rc, struct err *e)
{
        const char *remedy = rc == -ENOSPC || rc == -EDQUOT
                             ? " (free some space; the image is as it was)"
                             : rc == -EFBIG ? " (the file size limit is too low; the image is as "
                                              "it was)" : "";

        return err_set(e, -rc, "write '%s'%s", p->path, remedy);
}
