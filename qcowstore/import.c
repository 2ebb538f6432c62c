/* SPDX-License-Identifier: Apache-2.0 */
/* a flat file becomes an image; its holes are not read */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/io.h"
#include "qcowstore/layout.h"
#include "qcowstore/store.h"

struct flat {
        int fd;
        const char *path;
        uint64_t bytes;
};

/* Where holes cannot be asked for, all is data. */
static bool is_hole(const struct flat *flat, uint64_t at, size_t bytes)
{
        off_t data = lseek(flat->fd, (off_t)at, SEEK_DATA);

        if (data < 0)
                return errno == ENXIO;          /* no data from here to the end */
        return (uint64_t)data >= at + bytes;
}

static const void *flat_span(void *ctx, uint64_t gpa, size_t bytes, void *buf, bool *ret_zero,
                             struct err *e)
{
        const struct flat *flat = ctx;
        size_t there = MIN(bytes, flat->bytes - MIN(gpa, flat->bytes));

        if (is_hole(flat, gpa, bytes)) {
                *ret_zero = true;
                return buf;
        }

        int rc = io_pread_full(flat->fd, buf, there, gpa);

        if (rc < 0) {
                err_set(e, -rc, "read '%s' at offset %llu", flat->path, (unsigned long long)gpa);
                return NULL;
        }
        memset((uint8_t *)buf + there, 0, bytes - there);
        return buf;
}

static int open_flat(struct flat *flat, struct err *e)
{
        struct stat st;

        /* O_NONBLOCK: do not wait for a writer of a FIFO */
        flat->fd = open(flat->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (flat->fd < 0 || fstat(flat->fd, &st) < 0)
                return err_set(e, errno, "open '%s'", flat->path);
        if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
                return err_msg(e, EINVAL, "'%s' is neither a file nor a block device",
                               flat->path);

        off_t end = lseek(flat->fd, 0, SEEK_END);

        if (end < 0)
                return err_set(e, errno, "read '%s'", flat->path);
        if (end == 0)
                return err_msg(e, EINVAL, "'%s' is empty", flat->path);
        if ((uint64_t)end > QS_DISK_BYTES_MAX)
                return err_msg(e, EFBIG, "'%s' is larger than 64 TiB", flat->path);
        flat->bytes = (uint64_t)end;
        return 0;
}

static int write_image(struct qs_writer *w, const struct flat *flat, uint64_t disk_bytes,
                       qs_progress_fn *progress, void *progress_ctx, struct err *e)
{
        struct qs_ram_range all = { 0, disk_bytes };
        struct qs_ram_source source = { flat_span, (void *)(uintptr_t)flat };
        int rc = qs_writer_ram(w, &all, 1, &source, progress, progress_ctx, e);

        return rc < 0 ? rc : qs_writer_publish(w, e);
}

int qs_import(const char *raw_path, const char *image_path,
              const struct qs_writer_options *options, qs_progress_fn *progress,
              void *progress_ctx, struct qs_writer_stats *ret_stats, struct err *e)
{
        struct flat flat = { .fd = -1, .path = raw_path };
        struct qs_writer_options o = *options;
        struct qs_writer *w = NULL;
        int rc = open_flat(&flat, e);

        if (rc == 0) {
                o.disk_bytes = ALIGN_UP(flat.bytes, LAYOUT_PAGE_BYTES);
                rc = qs_writer_new(image_path, &o, &w, e);
        }
        if (rc == 0)
                rc = write_image(w, &flat, o.disk_bytes, progress, progress_ctx, e);
        if (rc == 0 && ret_stats)
                qs_writer_stats(w, ret_stats);
        qs_writer_free(w);
        fd_close(&flat.fd);
        return rc;
}
