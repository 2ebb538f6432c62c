/* SPDX-License-Identifier: Apache-2.0 */
/* a flat file becomes an image; its holes are not read */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "qcowstore/layout.h"
#include "qcowstore/store.h"

struct source {
        int fd;
        const char *path;
        uint64_t bytes;
        const struct qs_flat_part *parts;
        size_t n;
};

/* Where holes cannot be asked for, all is data. */
static bool is_hole(const struct source *s, uint64_t at, size_t bytes)
{
        off_t data = lseek(s->fd, (off_t)at, SEEK_DATA);

        if (data < 0)
                return errno == ENXIO;          /* no data from here to the end */
        return (uint64_t)data >= at + bytes;
}

/* where in the file the memory at gpa is; a span is of one part */
static uint64_t place_of(const struct source *s, uint64_t gpa)
{
        for (size_t i = 0; i < s->n; i++)
                if (gpa >= s->parts[i].gpa && gpa - s->parts[i].gpa < s->parts[i].bytes)
                        return s->parts[i].offset + (gpa - s->parts[i].gpa);
        ASSERT(!"a span of memory that was announced");
        return 0;
}

static const void *read_span(void *ctx, uint64_t gpa, size_t bytes, void *buf, struct qs_span *ret,
                             struct err *e)
{
        const struct source *s = ctx;
        uint64_t at = place_of(s, gpa);
        size_t there = MIN(bytes, s->bytes - MIN(at, s->bytes));

        if (is_hole(s, at, bytes)) {
                ret->kind = QS_SPAN_ZERO;
                return buf;
        }

        int rc = io_pread_full(s->fd, buf, there, at);

        if (rc < 0) {
                err_set(e, -rc, "read '%s' at offset %llu", s->path, (unsigned long long)at);
                return NULL;
        }
        memset((uint8_t *)buf + there, 0, bytes - there);
        return buf;
}

static int open_file(struct source *s, struct err *e)
{
        struct stat st;

        /* O_NONBLOCK: do not wait for a writer of a FIFO */
        s->fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (s->fd < 0 || fstat(s->fd, &st) < 0)
                return err_set(e, errno, "open '%s'", s->path);
        if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
                return err_msg(e, EINVAL, "'%s' is neither a file nor a block device", s->path);

        off_t end = lseek(s->fd, 0, SEEK_END);

        if (end < 0)
                return err_set(e, errno, "read '%s'", s->path);
        if (end == 0)
                return err_msg(e, EINVAL, "'%s' is empty", s->path);
        if ((uint64_t)end > QS_DISK_BYTES_MAX)
                return err_msg(e, EFBIG, "'%s' is larger than 64 TiB", s->path);
        s->bytes = (uint64_t)end;
        return 0;
}

/* The end of memory, where the parts end. */
static int check_parts(const struct source *s, uint64_t *ret_bytes, struct err *e)
{
        const struct qs_flat_part *last = &s->parts[s->n - 1];

        if (last->offset + last->bytes != s->bytes)
                return err_msg(e, EINVAL, "'%s' has %llu bytes, not the %llu of its memory "
                               "regions", s->path, (unsigned long long)s->bytes,
                               (unsigned long long)(last->offset + last->bytes));
        *ret_bytes = last->gpa + last->bytes;
        return 0;
}

static int put_ram(struct qs_writer *w, struct source *s, qs_progress_fn *progress,
                   void *progress_ctx, struct err *e)
{
        struct qs_ram_range ranges[QS_RAM_RANGES_MAX];
        struct qs_ram_source source = { .span = read_span, .ctx = s };

        if (s->n > QS_RAM_RANGES_MAX)
                return err_msg(e, EINVAL, "'%s' has more than %d regions of memory", s->path,
                               QS_RAM_RANGES_MAX);
        for (size_t i = 0; i < s->n; i++)
                ranges[i] = (struct qs_ram_range){ s->parts[i].gpa, s->parts[i].bytes };
        return qs_writer_ram(w, ranges, s->n, &source, progress, progress_ctx, e);
}

int qs_import_flat(const struct qs_flat *flat, const struct qs_blob *sections, size_t nsections,
                   const char *image_path, const struct qs_writer_options *options,
                   qs_progress_fn *progress, void *progress_ctx,
                   struct qs_writer_stats *ret_stats, struct err *e)
{
        struct source s = { .fd = -1, .path = flat->path, .parts = flat->parts, .n = flat->n };
        struct qs_writer_options o = *options;
        struct qs_flat_part all = { 0 };
        struct qs_writer *w = NULL;
        int rc = open_file(&s, e);

        if (rc == 0 && s.n == 0) {
                o.disk_bytes = all.bytes = ALIGN_UP(s.bytes, LAYOUT_PAGE_BYTES);
                s.parts = &all;
                s.n = 1;
        } else if (rc == 0) {
                rc = check_parts(&s, &o.disk_bytes, e);
        }
        if (rc == 0)
                rc = qs_writer_new(image_path, &o, &w, e);
        for (size_t i = 0; rc == 0 && i < nsections; i++)
                rc = qs_writer_section(w, sections[i].name, sections[i].data, sections[i].bytes,
                                       e);
        if (rc == 0)
                rc = put_ram(w, &s, progress, progress_ctx, e);
        if (rc == 0)
                rc = qs_writer_publish(w, e);
        if (rc == 0 && ret_stats)
                qs_writer_stats(w, ret_stats);
        qs_writer_free(w);
        fd_close(&s.fd);
        return rc;
}

int qs_import(const char *raw_path, const char *image_path,
              const struct qs_writer_options *options, qs_progress_fn *progress,
              void *progress_ctx, struct qs_writer_stats *ret_stats, struct err *e)
{
        const struct qs_flat flat = { .path = raw_path };

        return qs_import_flat(&flat, NULL, 0, image_path, options, progress, progress_ctx,
                              ret_stats, e);
}
