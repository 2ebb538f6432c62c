/* SPDX-License-Identifier: Apache-2.0 */
/* what belongs to the file and not to one snapshot: header and snapshot table */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "qcowstore/image-priv.h"
#include "qcowstore/imglock.h"
#include "qcowstore/sum.h"

/* A 512-byte read may meet another program's write half-way; real damage or
 * change stays. */
#define HEADER_TRIES 5

/* The start of the file, as far as there is one. */
struct start {
        size_t len;
        uint8_t bytes[IMGHDR_PARSE_BYTES];
};

static int read_header(struct qs_image *m, struct start *s, struct err *e)
{
        int rc = -EBADMSG;

        s->len = MIN(m->info.file_bytes, sizeof(s->bytes));
        for (int i = 0; i < HEADER_TRIES && (rc == -EBADMSG || m->hdr.changed); i++) {
                m->hdr = (struct imghdr){ 0 };
                rc = image_pread(m, s->bytes, s->len, 0, "the header", e);
                if (rc == 0)
                        rc = imghdr_parse(s->bytes, s->len, &m->hdr, e);
        }
        if (rc == 0)
                memcpy(m->sector, s->bytes, sizeof(m->sector));
        return rc;
}

static bool inside(const struct qs_image *m, uint64_t offset, uint64_t bytes)
{
        return offset <= m->bound && bytes <= m->bound - offset;
}

/* From here on every table of the header is known to lie in the file. */
static int check_places(const struct qs_image *m, struct err *e)
{
        const struct imghdr *h = &m->hdr;

        if (!h->changed && h->file_bytes > m->info.file_bytes)
                return err_msg(e, EBADMSG, "the file is truncated");
        if (!inside(m, h->l1_offset, h->l1_entries * 8ull))
                return err_msg(e, EBADMSG, "the L1 table lies outside the file: it is truncated "
                               "or damaged");
        if (!inside(m, h->reftable_offset, (uint64_t)h->reftable_clusters << h->cluster_bits))
                return err_msg(e, EBADMSG, "the refcount table lies outside the file: it is "
                               "truncated or damaged");
        if (h->snapshots && !inside(m, h->snaptable_offset, 1))
                return err_msg(e, EBADMSG, "the snapshot table lies outside the file: it is "
                               "truncated or damaged");
        return 0;
}

static int parse_snapshots(struct qs_image *m, const uint8_t *bytes, size_t len, struct err *e)
{
        size_t at = 0;

        for (uint32_t i = 0; i < m->hdr.snapshots; i++) {
                size_t n;
                struct snapshot *s = &m->snapshots[i];
                int rc = snaptable_parse(bytes + at, len - at, m->hdr.cluster_bits, s, &n, e);

                if (rc < 0)
                        return rc;
                if (!s->complete && m->hdr.version > 2)
                        return err_msg(e, EBADMSG, "a snapshot has extra data of a wrong size");
                if (!inside(m, s->l1_offset, s->l1_entries * 8ull))
                        return err_msg(e, EBADMSG, "the L1 table of snapshot '%s' lies outside "
                                       "the file: it is truncated or damaged", s->tag);
                at += n;
        }
        m->snaptable_bytes = at;
        if (m->hdr.format_version && !m->hdr.changed &&
            sum_bytes(bytes, at, m->hdr.hash_seed) != m->hdr.snaptable_sum)
                return err_msg(e, EBADMSG, "the snapshot table does not match its checksum");
        return 0;
}

static int read_snapshots(struct qs_image *m, struct err *e)
{
        const struct imghdr *h = &m->hdr;

        if (h->snapshots == 0)
                return 0;

        uint64_t left = m->info.file_bytes - MIN(h->snaptable_offset, m->info.file_bytes);
        size_t len = MIN(left, (uint64_t)h->snapshots * LAYOUT_SNAPSHOT_BYTES_MAX);
        AUTO_FREE uint8_t *bytes = malloc(len + 1);

        m->snapshots = calloc(h->snapshots, sizeof(*m->snapshots));
        if (!bytes || !m->snapshots)
                return err_set(e, ENOMEM, "read the snapshot table");

        /* its end is not known; an appender may cut off what nobody published */
        ssize_t got = pread(m->fd, bytes, len, (off_t)h->snaptable_offset);

        if (got < 0)
                return err_set(e, errno, "read the snapshot table");
        return parse_snapshots(m, bytes, (size_t)got, e);
}

/* Opens nothing; that is image-parent.c's. */
static int read_parent_name(struct qs_image *m, const struct start *s, struct err *e)
{
        const struct imghdr *h = &m->hdr;
        int rc = 0;

        if (!h->backing_offset)
                return 0;
        m->parent_name = calloc(1, h->backing_bytes + 1);
        if (!m->parent_name)
                return err_set(e, ENOMEM, "read the name of the backing file");

        if (h->backing_offset <= s->len && h->backing_bytes <= s->len - h->backing_offset)
                memcpy(m->parent_name, s->bytes + h->backing_offset, h->backing_bytes);
        else
                rc = image_pread(m, m->parent_name, h->backing_bytes, h->backing_offset,
                                 "the name of the backing file", e);
        if (rc == 0 && strlen(m->parent_name) != h->backing_bytes)
                return err_msg(e, EBADMSG, "the name of the backing file is damaged");
        return rc;
}

static int look_at_size(struct qs_image *m, struct stat *ret, struct err *e)
{
        if (fstat(m->fd, ret) < 0)
                return err_set(e, errno, "open");
        if (!S_ISREG(ret->st_mode))
                return err_msg(e, EINVAL, "not a regular file");
        m->dev = ret->st_dev;
        m->ino = ret->st_ino;
        m->info.file_bytes = (uint64_t)ret->st_size;
        return 0;
}

static int open_file(struct qs_image *m, int fd, const char *path, struct err *e)
{
        m->path = strdup(path);
        m->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        if (!m->path || m->fd < 0)
                return err_set(e, errno, "open");
        return look_at_size(m, &m->before, e);
}

/* The file may have grown before the header came; one of ours says how large it is. */
static int look_again(struct qs_image *m, struct err *e)
{
        const struct imghdr *h = &m->hdr;
        struct stat now;

        if (h->format_version && !h->changed && h->file_bytes <= m->info.file_bytes)
                return 0;
        return look_at_size(m, &now, e);
}

int image_load_tables(struct qs_image *m, struct err *e)
{
        struct start start;
        int rc = imglock_read(m->fd, e);        /* INV-HEADER of imglock.h */

        free(ptr_take(&m->snapshots));
        free(ptr_take(&m->parent_name));
        m->snapshot = NULL;
        if (rc == 0)
                rc = read_header(m, &start, e);
        if (rc == 0)
                rc = look_again(m, e);
        if (rc < 0)
                return rc;
        m->cluster_bytes = layout_cluster_bytes(m->hdr.cluster_bits);
        m->bound = ALIGN_UP(m->info.file_bytes, m->cluster_bytes);
        m->disk_bytes = m->hdr.disk_bytes;
        m->disk_clusters = layout_clusters(m->disk_bytes, m->hdr.cluster_bits);
        m->disk_l1 = imghdr_l1_entries(&m->hdr, m->disk_bytes);
        rc = check_places(m, e);
        if (rc == 0)
                rc = read_parent_name(m, &start, e);
        return rc < 0 ? rc : read_snapshots(m, e);
}

int image_open_tables(struct qs_image *m, int fd, const char *path, struct err *e)
{
        int rc = open_file(m, fd, path, e);

        return rc < 0 ? rc : image_load_tables(m, e);
}

int image_find_layer(int *fd, const char *path, struct qs_image **ret, struct err *e)
{
        struct qs_image *m = calloc(1, sizeof(*m));
        struct start start;

        if (!m)
                return err_set(e, ENOMEM, "open");
        m->fd = fd_take(fd);
        m->found_only = true;
        m->path = strdup(path);

        int rc = m->path ? look_at_size(m, &m->before, e) : err_set(e, ENOMEM, "open");

        if (rc == 0)
                rc = read_header(m, &start, e);
        if (rc == 0)
                rc = read_parent_name(m, &start, e);
        if (rc < 0) {
                qs_image_close(m);
                return rc;
        }
        m->cluster_bytes = layout_cluster_bytes(m->hdr.cluster_bits);
        *ret = m;
        return 0;
}
