/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/delta.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/io.h"
#include "common/size.h"
#include "qcowstore/image-priv.h"
#include "qcowstore/imglock.h"

/* of a parent: whoever finds a link there, or a FIFO, does not follow or wait */
#define OPEN_FLAGS (O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)

struct delta {
        char *path;                     /* the child's, for messages */
        char *backing;
        const char *name;               /* within backing: the last part */
        int folder;                     /* of both */
        struct qs_image *image;
};

struct delta_view {
        struct qs_reader *reader;
        size_t bytes;
        uint8_t *buf;
};

static const char *last_part(const char *path)
{
        const char *slash = strrchr(path, '/');

        return slash ? slash + 1 : path;
}

/* The folder that path names its last part in; -1 and errno. */
static int open_folder(const char *path, struct stat *st)
{
        size_t n = (size_t)(last_part(path) - path);
        AUTO_FREE char *folder = n ? strndup(path, n) : strdup(".");
        AUTO_FD fd = folder ? open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;

        return fd < 0 || fstat(fd, st) < 0 ? -1 : fd_take(&fd);
}

static int open_folders(struct delta *d, struct err *e)
{
        struct stat child, parent;
        AUTO_FD other = open_folder(d->backing, &parent);

        d->folder = open_folder(d->path, &child);
        if (d->folder < 0)
                return err_set(e, errno, "create '%s': open its folder", d->path);
        if (other < 0)
                return err_set(e, errno, "open '%s': open its folder", d->backing);
        if (child.st_dev != parent.st_dev || child.st_ino != parent.st_ino)
                return err_msg(e, EXDEV, "create '%s': its parent '%s' lies in another folder, "
                               "where it would not be found: put the two into one", d->path,
                               d->backing);
        if (strchr(d->name, ':'))
                return err_msg(e, EINVAL, "create '%s': the name of its parent '%s' has a colon, "
                               "which QCOW2 takes for a protocol: rename it", d->path,
                               d->backing);
        return 0;
}

static int open_parent(struct delta *d, struct err *e)
{
        AUTO_FD fd = openat(d->folder, d->name, O_RDONLY | OPEN_FLAGS);

        if (fd < 0 && errno == ELOOP)
                return err_msg(e, ELOOP, "create '%s': its parent '%s' is a symbolic link, which "
                               "no reader follows: name the file itself", d->path, d->backing);
        if (fd < 0)
                return err_set(e, errno, "create '%s': open its parent '%s'", d->path,
                               d->backing);

        int rc = qs_image_open_at(fd, d->backing, NULL, d->folder, -1, &d->image, e);

        return rc < 0 ? err_in(e, rc, "create '%s': its parent", d->path) : 0;
}

static int check_parent(const struct delta *d, uint64_t disk_bytes, struct err *e)
{
        const struct imghdr *h = &d->image->hdr;
        char here[SIZE_TEXT_MAX], there[SIZE_TEXT_MAX];

        if (!h->format_version)
                return err_msg(e, ENOTSUP, "create '%s': its parent '%s' was not made by "
                               "snapback: take an image that was", d->path, d->backing);
        if (h->changed)
                return err_msg(e, EBADMSG, "create '%s': its parent '%s' was changed by another "
                               "program: take an image that was not", d->path, d->backing);
        if (h->snapshots != 1)
                return err_msg(e, EINVAL, "create '%s': its parent '%s' holds %u snapshots, and a "
                               "delta can be made of one alone: use --tag in the pool", d->path,
                               d->backing, h->snapshots);
        if (h->disk_bytes != disk_bytes)
                return err_msg(e, EINVAL, "create '%s': guest memory ends at %s (%llu bytes) here "
                               "and at %s (%llu) in its parent '%s': take one of the same size",
                               d->path, size_text(disk_bytes, here),
                               (unsigned long long)disk_bytes, size_text(h->disk_bytes, there),
                               (unsigned long long)h->disk_bytes, d->backing);
        if (d->image->info.layers + 1 > QS_LAYERS_MAX)
                return err_msg(e, EMLINK, "create '%s': its parent '%s' has %u parents already, "
                               "and %d is the limit: flatten that one with 'vmm image flatten'",
                               d->path, d->backing, d->image->info.layers - 1,
                               QS_LAYERS_MAX - 1);
        return 0;
}

/* A file that is about to be replaced cannot be what it rests on. */
static int check_target(const struct delta *d, struct err *e)
{
        struct stat st;

        if (fstatat(d->folder, last_part(d->path), &st, AT_SYMLINK_NOFOLLOW) < 0)
                return 0;
        for (const struct qs_image *m = d->image; m; m = m->parent) {
                if (m->dev == st.st_dev && m->ino == st.st_ino)
                        return err_msg(e, EINVAL, m == d->image
                                       ? "create '%s': it is its own parent '%s': choose another "
                                         "name or parent"
                                       : "create '%s': its parent '%s' rests on the file that is "
                                         "to be replaced: choose another name or parent",
                                       d->path, d->backing);
        }
        return 0;
}

/* Does fd lead to the file that was read, in the state that was recorded? Its
 * sector 0 is then in `sector`. */
static bool is_kin(const struct delta *d, int fd, uint8_t sector[LAYOUT_SECTOR_BYTES])
{
        const struct qs_image *m = d->image;
        struct imghdr h;
        struct stat st;

        return fstat(fd, &st) == 0 && st.st_dev == m->dev && st.st_ino == m->ino &&
               io_pread_full(fd, sector, LAYOUT_SECTOR_BYTES, 0) == 0 &&
               imghdr_parse(sector, LAYOUT_SECTOR_BYTES, &h, NULL) == 0 && !h.changed &&
               memcmp(h.uuid, m->hdr.uuid, sizeof(h.uuid)) == 0 &&
               h.snaptable_sum == m->hdr.snaptable_sum;
}

int delta_check(const struct delta *d, struct err *e)
{
        uint8_t sector[LAYOUT_SECTOR_BYTES];

        if (!d)
                return 0;

        AUTO_FD fd = openat(d->folder, d->name, O_RDONLY | OPEN_FLAGS);

        if (fd < 0)
                return err_set(e, errno, "create '%s': open its parent '%s' again", d->path,
                               d->backing);
        if (!is_kin(d, fd, sector))
                return err_msg(e, ESTALE, "create '%s': its parent '%s' was changed or replaced "
                               "meanwhile: try again", d->path, d->backing);
        return 0;
}

/* From here on it stays as it was when it was opened. */
static int hold(const struct delta *d, struct err *e)
{
        int rc = imglock_hold(d->image->fd, e);

        return rc < 0 ? err_in(e, rc, "create '%s': its parent '%s'", d->path, d->backing)
                      : delta_check(d, e);
}

static int init(struct delta *d, const char *path, const char *backing, uint64_t disk_bytes,
                struct err *e)
{
        d->folder = -1;
        d->path = strdup(path);
        d->backing = strdup(backing);
        if (!d->path || !d->backing)
                return err_set(e, ENOMEM, "create '%s'", path);
        d->name = last_part(d->backing);

        int rc = open_folders(d, e);

        if (rc == 0)
                rc = open_parent(d, e);
        if (rc == 0)
                rc = check_parent(d, disk_bytes, e);
        if (rc == 0)
                rc = check_target(d, e);
        return rc < 0 ? rc : hold(d, e);
}

int delta_open(const char *path, const char *backing, uint64_t disk_bytes, struct delta **ret,
               struct err *e)
{
        struct delta *d = calloc(1, sizeof(*d));
        int rc = d ? init(d, path, backing, disk_bytes, e)
                   : err_set(e, ENOMEM, "create '%s'", path);

        if (rc < 0) {
                delta_free(d);
                return rc;
        }
        ASSERT(strlen(d->name) > 0 && strlen(d->name) <= IMGHDR_NAME_MAX);     /* it was opened */
        *ret = d;
        return 0;
}

void delta_free(struct delta *d)
{
        if (!d)
                return;
        qs_image_close(d->image);
        fd_close(&d->folder);
        free(d->path);
        free(d->backing);
        free(d);
}

void delta_describe(const struct delta *d, struct imghdr *h)
{
        memcpy(h->parent_uuid, d->image->hdr.uuid, sizeof(h->parent_uuid));
        h->parent_state = d->image->hdr.snaptable_sum;
}

void delta_name(const struct delta *d, uint8_t sector[LAYOUT_SECTOR_BYTES])
{
        imghdr_name_parent(sector, d->name);
}

int delta_find_data(const struct delta *d, uint64_t from, uint64_t to, uint64_t *ret,
                    struct err *e)
{
        while (from < to) {
                struct extent x;
                int rc = image_extent(d->image, from, to - from, &x, e);

                if (rc < 0)
                        return err_in(e, rc, "image '%s'", d->backing);
                if (x.kind != L2_ZERO)
                        break;
                from += x.bytes;
        }
        *ret = from;
        return 0;
}

int delta_view_new(const struct delta *d, size_t bytes, struct delta_view **ret, struct err *e)
{
        struct delta_view *v = calloc(1, sizeof(*v));
        int rc = 0;

        if (v) {
                v->bytes = bytes;
                v->buf = aligned_alloc(LAYOUT_PAGE_BYTES, bytes);
                rc = qs_reader_new(d->image, &v->reader, e);
        }
        if (rc == 0 && (!v || !v->buf))
                rc = err_set(e, ENOMEM, "read '%s'", d->backing);
        if (rc < 0) {
                delta_view_free(v);
                return rc;
        }
        *ret = v;
        return 0;
}

void delta_view_free(struct delta_view *v)
{
        if (!v)
                return;
        qs_reader_free(v->reader);
        free(v->buf);
        free(v);
}

int delta_view_at(struct delta_view *v, uint64_t gpa, size_t bytes, const uint8_t **ret,
                  struct err *e)
{
        bool zero;

        ASSERT(bytes <= v->bytes);

        int rc = qs_span_read(v->reader, gpa, bytes, v->buf, &zero, e);

        if (rc == 0)
                *ret = zero ? NULL : v->buf;
        return rc;
}

int delta_view_part(struct delta_view *v, size_t at, uint64_t gpa, size_t bytes,
                    const uint8_t **ret, struct err *e)
{
        bool zero;

        ASSERT(at <= v->bytes && bytes <= v->bytes - at);

        int rc = qs_span_read(v->reader, gpa, bytes, v->buf + at, &zero, e);

        if (rc < 0)
                return rc;
        if (zero)
                memset(v->buf + at, 0, bytes);
        *ret = v->buf;
        return 0;
}

struct qs_image *delta_image(const struct delta *d)
{
        return d->image;
}

/* Best effort: the child is there and durable, and it is right. Who marks the same
 * file at the same time writes the same sector. */
void delta_mark(const struct delta *d)
{
        uint8_t sector[LAYOUT_SECTOR_BYTES];
        struct imghdr marked;

        if (!d || d->image->hdr.is_parent)
                return;

        AUTO_FD fd = openat(d->folder, d->name, O_RDWR | OPEN_FLAGS);

        if (fd < 0 || !is_kin(d, fd, sector))
                return;
        imghdr_mark_parent(sector);
        /* a header that is not laid out as ours are passes is_kin(), but not this */
        if (imghdr_parse(sector, sizeof(sector), &marked, NULL) < 0 || !marked.is_parent)
                return;
        if (io_pwrite_full(fd, sector, sizeof(sector), 0) == 0)
                fdatasync(fd);
}
