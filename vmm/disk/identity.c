/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/disk/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/io.h"
#include "common/json.h"
#include "vmm/disk/disk-priv.h"

/* Of what is sampled; another recipe has another number. */
#define RECIPE 1
#define HEAD_BYTES 131072u
#define PARTITION_OFFSET 1048576u
#define SAMPLE_BYTES 4096u
#define SAMPLES 64u
#define CONTENT_BYTES_MAX (8 + 2 * HEAD_BYTES + SAMPLES * SAMPLE_BYTES)

static_assert(sizeof(((struct disk_identity *)0)->path) >= PATH_MAX, "any path fits");

struct piece {
        uint64_t offset;
        size_t bytes;
};

static struct piece clip(uint64_t offset, uint64_t bytes, uint64_t disk_bytes)
{
        offset = MIN(offset, disk_bytes);
        return (struct piece){ offset, MIN(bytes, disk_bytes - offset) };
}

/* Piece i of a disk of that size; the last of all is its end. */
static struct piece piece_at(unsigned i, uint64_t disk_bytes)
{
        if (i == 0)
                return clip(0, HEAD_BYTES, disk_bytes);
        if (i == 1)
                return clip(PARTITION_OFFSET, HEAD_BYTES, disk_bytes);

        uint64_t room = disk_bytes - MIN(disk_bytes, SAMPLE_BYTES);
        uint64_t step = room / SAMPLES;

        if (i == 1 + SAMPLES)
                return clip(room, SAMPLE_BYTES, disk_bytes);
        return clip(ALIGN_DOWN(step * (i - 1), SAMPLE_BYTES), SAMPLE_BYTES, disk_bytes);
}

static int read_content(int fd, uint64_t disk_bytes, uint64_t *ret)
{
        AUTO_FREE uint8_t *buf = malloc(CONTENT_BYTES_MAX);
        size_t at = 8;

        if (!buf)
                return -ENOMEM;
        put_le64(buf, disk_bytes);
        /* all at once, so that a cold disk answers them beside each other */
        for (unsigned i = 0; i < 2 + SAMPLES; i++) {
                struct piece p = piece_at(i, disk_bytes);

                (void)posix_fadvise(fd, (off_t)p.offset, (off_t)p.bytes, POSIX_FADV_WILLNEED);
        }
        for (unsigned i = 0; i < 2 + SAMPLES; i++) {
                struct piece p = piece_at(i, disk_bytes);
                int rc = io_pread_full(fd, buf + at, p.bytes, p.offset);

                if (rc < 0)
                        return rc;
                at += p.bytes;
        }
        ASSERT(at <= CONTENT_BYTES_MAX);
        *ret = XXH3_64bits(buf, at);
        return 0;
}

/* Size, and where it is a file its number and time. */
static int read_facts(int fd, struct disk_identity *ret)
{
        struct stat st;

        if (fstat(fd, &st) < 0)
                return -errno;
        if (S_ISBLK(st.st_mode))
                return ioctl(fd, BLKGETSIZE64, &ret->bytes) < 0 ? -errno : 0;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        ret->bytes = (uint64_t)st.st_size;
        ret->inode = st.st_ino;
        ret->mtime_ns = (int64_t)((uint64_t)st.st_mtim.tv_sec * NS_PER_SEC +
                                  (uint64_t)st.st_mtim.tv_nsec);
        return 0;
}

int disk_identity_of(int fd, const char *name, struct disk_identity *ret, struct err *e)
{
        struct disk_identity id = { 0 };
        int rc = read_facts(fd, &id);

        if (rc == 0)
                rc = read_content(fd, id.bytes, &id.content);
        if (rc < 0)
                return err_set(e, -rc, "identify disk '%s'", name);
        *ret = id;
        return 0;
}

int disk_identity_name(struct disk_identity *id, const char *path, struct err *e)
{
        int n = snprintf(id->path, sizeof(id->path), "%s", path);

        if ((size_t)n >= sizeof(id->path))
                return err_msg(e, ENAMETOOLONG, "the path of disk '%s' is too long", path);
        return 0;
}

/* INV-STAMP. Of somebody else's file it cannot be done: then ticks have to do. */
static void stamp(int fd)
{
        struct timespec t[2] = { { .tv_nsec = UTIME_OMIT } };
        uint32_t before;
        struct stat st;

        if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
            getrandom(&before, sizeof(before), 0) != sizeof(before))
                return;
        before = 1 + before % (NS_PER_MS - 1);
        t[1] = st.st_mtim;
        if (t[1].tv_nsec < (long)before) {
                t[1].tv_nsec += (long)NS_PER_SEC;
                t[1].tv_sec--;
        }
        t[1].tv_nsec -= (long)before;
        (void)futimens(fd, t);
}

int disk_identify(struct disk *d, struct disk_identity *ret, struct err *e)
{
        AUTO_FREE char *path = realpath(d->path, NULL);
        struct disk_identity id;
        int rc;

        if (d->overlay)
                return err_msg(e, EINVAL, "disk '%s' is written in an overlay, which ends with the "
                               "VM: it has to be kept with its RAM (--disks auto)", d->path);
        if (!path)
                return err_set(e, errno, "identify disk '%s'", d->path);
        if (!d->read_only)
                stamp(d->fd);
        rc = disk_identity_of(d->fd, d->path, &id, e);
        if (rc == 0)
                rc = disk_identity_name(&id, path, e);
        if (rc == 0)
                *ret = id;
        return rc;
}

/* ---- a disk that is to be used again ------------------------------------- */

static int not_this_one(const char *path, const char *why, struct err *e)
{
        return err_msg(e, ESTALE, "disk '%s' %s: the saved RAM does not belong to it (name a copy "
                       "of the right one with --disk ID=PATH; --disk ID=PATH,trust takes any, at "
                       "the risk of the guest's files)", path, why);
}

static int check_content(const struct disk_identity *id, int fd, const char *path, struct err *e)
{
        uint64_t content;
        int rc = read_content(fd, id->bytes, &content);

        if (rc < 0)
                return err_set(e, -rc, "read disk '%s'", path);
        return content == id->content ? 0 : not_this_one(path, "has other content", e);
}

int disk_identity_check(const struct disk_identity *id, int fd, const char *path, bool *ret_itself,
                        struct err *e)
{
        struct disk_identity now = { 0 };
        int rc = read_facts(fd, &now);
        bool itself = now.inode != 0 && now.inode == id->inode;

        if (rc < 0)
                return err_set(e, -rc, "look at disk '%s'", path);
        if (now.bytes != id->bytes)
                return not_this_one(path, "has another size", e);
        if (itself && now.mtime_ns != id->mtime_ns)
                return not_this_one(path, "was written to since", e);
        rc = check_content(id, fd, path, e);
        if (rc == 0)
                *ret_itself = itself;
        return rc;
}

/* ---- as it is saved ------------------------------------------------------ */

struct json_object *disk_identity_encode(const struct disk_identity *id)
{
        struct json_object *o = json_object_new_object();
        char content[17];

        snprintf(content, sizeof(content), "%016" PRIx64, id->content);
        json_put_str(o, "path", id->path);
        json_put_u64(o, "bytes", id->bytes);
        json_put_u64(o, "recipe", RECIPE);
        json_put_str(o, "content", content);
        json_object_object_add(o, "mtime_ns", json_object_new_int64(id->mtime_ns));
        json_put_u64(o, "inode", id->inode);
        return o;
}

static int take_content(struct json_object *o, uint64_t *ret, struct err *e)
{
        const char *text;
        char *end;
        int rc = json_take_str(o, "content", &text, e);

        if (rc < 0)
                return rc;
        if (strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
                return err_msg(e, EBADMSG, "field 'content' is no 16 hexadecimal digits");
        *ret = strtoull(text, &end, 16);
        return 0;
}

static int take_mtime(struct json_object *o, int64_t *ret, struct err *e)
{
        struct json_object *v;

        if (!json_object_object_get_ex(o, "mtime_ns", &v) ||
            !json_object_is_type(v, json_type_int))
                return err_msg(e, EBADMSG, "field 'mtime_ns' is no number");
        *ret = json_object_get_int64(v);
        return 0;
}

int disk_identity_decode(struct json_object *o, struct disk_identity *ret, struct err *e)
{
        struct disk_identity id = { 0 };
        const char *path;
        uint64_t recipe;
        int rc = json_take_str(o, "path", &path, e);

        if (rc == 0 && !path[0])
                rc = err_msg(e, EBADMSG, "field 'path' is empty");
        if (rc == 0)
                rc = disk_identity_name(&id, path, e);
        if (rc == 0)
                rc = json_take_u64(o, "bytes", INT64_MAX, &id.bytes, e);
        if (rc == 0)
                rc = json_take_u64(o, "recipe", UINT32_MAX, &recipe, e);
        if (rc == 0 && recipe != RECIPE)
                rc = err_msg(e, ENOTSUP, "the disk was identified in a way that this version does "
                             "not know (%llu): use a newer one", (unsigned long long)recipe);
        if (rc == 0)
                rc = take_content(o, &id.content, e);
        if (rc == 0)
                rc = take_mtime(o, &id.mtime_ns, e);
        if (rc == 0)
                rc = json_take_u64(o, "inode", UINT64_MAX, &id.inode, e);
        if (rc == 0)
                *ret = id;
        return rc;
}
