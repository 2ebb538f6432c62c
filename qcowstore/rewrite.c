/* SPDX-License-Identifier: Apache-2.0 */
/* an image made anew: RAM by the writer's threads, each with a reader of its own;
 * what is zero is not looked at */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/auto.h"
#include "qcowstore/image-priv.h"
#include "qcowstore/imglock.h"
#include "qcowstore/rewrite.h"
#include "qcowstore/workset.h"

struct rewrite {
        struct qs_image *from;
        pthread_key_t reader_key;       /* each thread's qs_reader */
};

static void drop_reader(void *reader)
{
        qs_reader_free(reader);
}

static int own_reader(struct rewrite *rw, struct qs_reader **ret, struct err *e)
{
        struct qs_reader *r = pthread_getspecific(rw->reader_key);

        if (!r) {
                int rc = qs_reader_new(rw->from, &r, e);

                if (rc < 0)
                        return rc;
                pthread_setspecific(rw->reader_key, r);
        }
        *ret = r;
        return 0;
}

static const void *span(void *ctx, uint64_t gpa, size_t bytes, void *buf, struct qs_span *ret,
                        struct err *e)
{
        struct qs_reader *r;
        bool zero = false;
        int rc = own_reader(ctx, &r, e);

        if (rc == 0)
                rc = qs_span_read(r, gpa, bytes, buf, &zero, e);
        if (zero)
                ret->kind = QS_SPAN_ZERO;
        return rc < 0 ? NULL : buf;
}

int rewrite_ram(struct qs_writer *w, struct qs_image *from, uint64_t bytes,
                    qs_progress_fn *progress, void *ctx, struct err *e)
{
        struct rewrite rw = { .from = from };
        struct qs_ram_range all = { 0, bytes };
        struct qs_ram_source source = { .span = span, .ctx = &rw };

        if (pthread_key_create(&rw.reader_key, drop_reader))
                return err_msg(e, EAGAIN, "no thread-specific key is left");

        int rc = qs_writer_ram(w, &all, 1, &source, progress, ctx, e);

        /* the writer's threads have ended, and their readers with them */
        qs_reader_free(pthread_getspecific(rw.reader_key));
        pthread_setspecific(rw.reader_key, NULL);
        pthread_key_delete(rw.reader_key);
        return rc;
}

/* It may be elsewhere than with the sections (workset.h). */
static int copy_working_set(struct qs_writer *w, struct qs_image *from, struct err *e)
{
        AUTO_FREE void *data = NULL;
        size_t bytes;
        struct err why;
        int rc = workset_load(from, &data, &bytes, &why);

        if (rc == -ENOENT)
                return 0;
        if (rc < 0 && e)
                *e = why;
        return rc < 0 ? rc : qs_writer_section(w, QS_SECTION_WORKING_SET, data, bytes, e);
}

int rewrite_sections(struct qs_writer *w, struct qs_image *from, struct err *e)
{
        struct qs_reader *r = NULL;
        int rc = qs_reader_new(from, &r, e);

        for (unsigned i = 0; rc == 0 && i < from->toc.count; i++) {
                const struct section *s = &from->toc.section[i];
                AUTO_FREE void *data = NULL;
                size_t bytes;

                if (s->flags & SECTION_TREE || strcmp(s->name, QS_SECTION_WORKING_SET) == 0)
                        continue;
                rc = qs_section_read(r, s->name, &data, &bytes, e);
                if (rc == 0)
                        rc = qs_writer_section(w, s->name, data, bytes, e);
        }
        qs_reader_free(r);
        return rc < 0 ? rc : copy_working_set(w, from, e);
}

/* Whoever rests on this file, or reads another tag of it, would lose it. */
static int check_replaceable(const struct qs_image *m, bool force, struct err *e)
{
        if (!m->hdr.format_version || m->hdr.changed)
                return err_msg(e, ENOTSUP, "image '%s' is not as snapback wrote it, and is not "
                               "rewritten: make a new one with 'vmm image export' and 'import'",
                               m->path);
        if (m->hdr.snapshots != 1)
                return err_msg(e, EINVAL, "image '%s' holds %u snapshots, of which all but one "
                               "would be lost: take one out with 'vmm image export' and 'import'",
                               m->path, m->hdr.snapshots);
        if (m->hdr.is_parent && !force)
                return err_msg(e, EBUSY, "image '%s' is the parent of deltas, which would not "
                               "find it any more: flatten those first, then use --force",
                               m->path);
        return 0;
}

int rewrite_check_same(const struct qs_image *m, struct err *e)
{
        uint8_t sector[LAYOUT_SECTOR_BYTES];
        struct stat st;
        bool same = stat(m->path, &st) == 0 && st.st_dev == m->dev && st.st_ino == m->ino &&
                    image_pread(m, sector, sizeof(sector), 0, "the header", NULL) == 0 &&
                    memcmp(sector, m->sector, sizeof(sector)) == 0;

        return same ? 0 : err_msg(e, ESTALE, "image '%s' was changed or replaced meanwhile: try "
                                  "again", m->path);
}

struct job {
        struct qs_image *from;
        const char *path;
        const struct qs_writer_options *options;
        qs_progress_fn *progress;
        void *progress_ctx;
        bool in_place;
};

static int write_all(const struct job *j, struct qs_writer *w, uint64_t disk_bytes,
                     struct err *e)
{
        int rc = rewrite_ram(w, j->from, disk_bytes, j->progress, j->progress_ctx, e);

        if (rc == 0)
                rc = rewrite_sections(w, j->from, e);
        if (rc == 0 && j->in_place)
                rc = rewrite_check_same(j->from, e);
        return rc < 0 ? rc : qs_writer_publish(w, e);
}

static int rewrite(const struct job *j, struct qs_writer_stats *ret_stats, struct err *e)
{
        const struct qs_image_info *info = &j->from->info;
        struct qs_writer_options o = *j->options;
        struct qs_writer *w = NULL;

        o.disk_bytes = ALIGN_UP(info->disk_bytes, LAYOUT_PAGE_BYTES);
        o.date_ns = info->date_ns;
        o.vm_clock_ns = info->vm_clock_ns;
        o.force_parent = o.force && j->in_place;
        o.force |= j->in_place;
        memcpy(o.tag, info->tag, sizeof(o.tag));

        int rc = qs_writer_new(j->path, &o, &w, e);

        if (rc == 0)
                rc = write_all(j, w, o.disk_bytes, e);
        if (rc == 0 && ret_stats)
                qs_writer_stats(w, ret_stats);
        qs_writer_free(w);
        return rc;
}

int qs_rewrite(struct qs_image *from, const char *path, const struct qs_writer_options *options,
               qs_progress_fn *progress, void *ctx, struct qs_writer_stats *ret_stats,
               struct err *e)
{
        struct job j = { from, path, options, progress, ctx, false };

        return rewrite(&j, ret_stats, e);
}

/* Nobody adds to the file meanwhile, or makes a delta of it. Where we may not write,
 * or there are no locks, rewrite_check_same() has to do. */
static int lock_out(const struct qs_image *m, int *ret_fd, struct err *e)
{
        AUTO_FD fd = open(m->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
        int rc = fd < 0 ? 0 : imglock_append(fd, e);

        if (rc < 0 && rc != -ENOLCK)
                return err_in(e, rc, "image '%s'", m->path);
        *ret_fd = fd_take(&fd);
        return 0;
}

int qs_rewrite_in_place(struct qs_image *image, const struct qs_writer_options *options,
                        qs_progress_fn *progress, void *ctx, struct qs_writer_stats *ret_stats,
                        struct err *e)
{
        struct job j = { image, image->path, options, progress, ctx, true };
        AUTO_FD lock_fd = -1;
        int rc = check_replaceable(image, options->force, e);

        if (rc == 0)
                rc = lock_out(image, &lock_fd, e);
        return rc < 0 ? rc : rewrite(&j, ret_stats, e);
}
