/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/adapters/qemu/input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/wire/libvirtsave.h"
#include "pageserver/adapters/qemu/unwrap.h"

#define BUFFER_BYTES (256u << 10)

static_assert(BUFFER_BYTES >= LIBVIRTSAVE_HEAD_BYTES, "a head is looked at as a whole");

struct input {
        char *path;
        int fd;
        const struct unwrap_ops *ops;
        void *context;
        struct unwrap_io io;            /* in: what of the buffer was not used yet */
        bool is_over;                   /* the file */
        uint8_t buffer[BUFFER_BYTES];
};

/* ---- the file --------------------------------------------------------------------------- */

/* One read behind what is there; the buffer has room. */
static int fill_more(struct input *in, struct err *e)
{
        size_t used = (size_t)(in->io.in - in->buffer) + in->io.in_bytes;
        ssize_t n;

        do
                n = read(in->fd, in->buffer + used, BUFFER_BYTES - used);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return err_set(e, errno, "read '%s'", in->path);
        in->io.in_bytes += (size_t)n;
        in->is_over = n == 0;
        return 0;
}

/* what was there is used up */
static int fill_anew(struct input *in, struct err *e)
{
        ASSERT(in->io.in_bytes == 0);
        in->io.in = in->buffer;
        return fill_more(in, e);
}

static int skip(struct input *in, uint64_t bytes, struct err *e)
{
        while (bytes > 0) {
                size_t n = (size_t)MIN(bytes, in->io.in_bytes);
                int rc = 0;

                in->io.in += n;
                in->io.in_bytes -= n;
                bytes -= n;
                if (in->io.in_bytes == 0)
                        rc = fill_anew(in, e);
                if (rc < 0)
                        return rc;
                if (in->is_over && bytes > 0)
                        return err_msg(e, EBADMSG, "'%s' ends before its stream begins", in->path);
        }
        return 0;
}

/* ---- what it is wrapped in ------------------------------------------------------------------ */

static int refuse_libvirt(const struct input *in, const struct libvirtsave *l, struct err *e)
{
        const char *program = libvirtsave_format_name(l->format);

        return err_msg(e, ENOTSUP, "the stream in '%s' is compressed with %s, which is not read: "
                       "'tail -c +%llu FILE | %s -dc' makes one that is", in->path, program,
                       (unsigned long long)l->stream_at + 1, program);
}

static int find_libvirt(struct input *in, struct err *e)
{
        static const struct unwrap_ops *const ops[] = {
                [LIBVIRTSAVE_RAW] = &unwrap_plain, [LIBVIRTSAVE_GZIP] = &unwrap_gzip,
                [LIBVIRTSAVE_ZSTD] = &unwrap_zstd,
        };
        struct libvirtsave l;
        int rc = libvirtsave_parse(in->io.in, in->io.in_bytes, &l, e);

        if (rc == -EAGAIN)
                return err_msg(e, EBADMSG, "'%s' ends in the head of libvirt's", in->path);
        if (rc < 0)
                return err_in(e, rc, "'%s'", in->path);
        in->ops = (size_t)l.format < ARRAY_SIZE(ops) ? ops[l.format] : NULL;
        if (!in->ops)
                return refuse_libvirt(in, &l, e);
        return skip(in, l.stream_at, e);
}

static int find_ops(struct input *in, struct err *e)
{
        const char *program;

        if (libvirtsave_is(in->io.in, in->io.in_bytes))
                return find_libvirt(in, e);
        in->ops = unwrap_find(in->io.in, in->io.in_bytes, &program);
        if (!in->ops)
                return err_msg(e, ENOTSUP, "'%s' is compressed with %s, which is not read: "
                               "'%s -dc FILE' makes one that is", in->path, program, program);
        return 0;
}

static int open_input(struct input *in, struct err *e)
{
        int rc = 0;

        in->fd = open(in->path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (in->fd < 0)
                return err_set(e, errno, "open '%s'", in->path);
        in->io.in = in->buffer;
        while (rc == 0 && !in->is_over && in->io.in_bytes < LIBVIRTSAVE_HEAD_BYTES)
                rc = fill_more(in, e);
        if (rc == 0)
                rc = find_ops(in, e);
        if (rc < 0)
                return rc;
        in->context = in->ops->start();
        return in->context ? 0 : err_set(e, ENOMEM, "read '%s'", in->path);
}

int input_open(const char *path, struct input **ret, struct err *e)
{
        struct input *in = calloc(1, sizeof(*in));
        int rc;

        if (!in)
                return err_set(e, ENOMEM, "read '%s'", path);
        in->fd = -1;
        in->path = strdup(path);
        rc = in->path ? open_input(in, e) : err_set(e, ENOMEM, "read '%s'", path);
        if (rc < 0)
                input_close(in);
        else
                *ret = in;
        return rc;
}

/* ---- reading ------------------------------------------------------------------------------ */

int input_read(struct input *in, void *buf, size_t room, size_t *ret, struct err *e)
{
        int rc;

        in->io.out = buf;
        in->io.out_bytes = room;
        for (;;) {
                rc = in->ops->step(in->context, &in->io, e);
                if (rc < 0)
                        return err_in(e, rc, "'%s'", in->path);
                if (in->io.out_bytes < room || room == 0)
                        break;
                if (in->io.in_bytes > 0)
                        continue;
                if (in->is_over && !in->io.at_end)
                        return err_msg(e, EBADMSG, "'%s' ends too early: it is not complete",
                                       in->path);
                if (in->is_over)
                        break;
                rc = fill_anew(in, e);
                if (rc < 0)
                        return rc;
        }
        *ret = room - in->io.out_bytes;
        return 0;
}

void input_close(struct input *in)
{
        if (!in)
                return;
        if (in->ops)
                in->ops->end(in->context);
        fd_close(&in->fd);
        free(in->path);
        free(in);
}
