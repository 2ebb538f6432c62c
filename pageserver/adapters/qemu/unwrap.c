/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/adapters/qemu/unwrap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#define ZLIB_CONST
#include <zlib.h>
#include <zstd.h>

#include "common/check.h"

/* ---- as it is ------------------------------------------------------------------------- */

static void *plain_start(void)
{
        return malloc(1);
}

static int plain_step(void *context, struct unwrap_io *io, struct err *e)
{
        size_t n = MIN(io->in_bytes, io->out_bytes);

        (void)context;
        (void)e;
        memcpy(io->out, io->in, n);
        io->in += n;
        io->in_bytes -= n;
        io->out += n;
        io->out_bytes -= n;
        io->at_end = true;
        return 0;
}

const struct unwrap_ops unwrap_plain = { "cat", plain_start, plain_step, free };

/* ---- gzip ----------------------------------------------------------------------------- */

/* what inflateInit2() wants besides the window, for a head of gzip's */
#define GZIP_BITS (16 + MAX_WBITS)

static void *gzip_start(void)
{
        z_stream *z = calloc(1, sizeof(*z));

        if (z && inflateInit2(z, GZIP_BITS) != Z_OK) {
                free(z);
                return NULL;
        }
        return z;
}

static int gzip_step(void *context, struct unwrap_io *io, struct err *e)
{
        z_stream *z = context;
        int rc;

        if (io->in_bytes == 0 && io->at_end)
                return 0;
        io->at_end = false;
        z->next_in = io->in;
        z->avail_in = (unsigned)MIN(io->in_bytes, 1u << 30);
        z->next_out = io->out;
        z->avail_out = (unsigned)MIN(io->out_bytes, 1u << 30);
        rc = inflate(z, Z_NO_FLUSH);
        io->in_bytes -= (size_t)(z->next_in - io->in);
        io->in = z->next_in;
        io->out_bytes -= (size_t)(z->next_out - io->out);
        io->out = z->next_out;
        if (rc == Z_STREAM_END) {
                io->at_end = true;
                rc = inflateReset(z);
        }
        if (rc == Z_MEM_ERROR)
                return err_set(e, ENOMEM, "gzip");
        if (rc != Z_OK && rc != Z_BUF_ERROR)
                return err_msg(e, EBADMSG, "it is damaged: %s", z->msg ? z->msg : "gzip");
        return 0;
}

static void gzip_end(void *context)
{
        if (context)
                inflateEnd(context);
        free(context);
}

const struct unwrap_ops unwrap_gzip = { "gzip", gzip_start, gzip_step, gzip_end };

/* ---- zstd ----------------------------------------------------------------------------- */

static void *zstd_start(void)
{
        return ZSTD_createDStream();
}

static int zstd_step(void *context, struct unwrap_io *io, struct err *e)
{
        ZSTD_inBuffer in = { io->in, io->in_bytes, 0 };
        ZSTD_outBuffer out = { io->out, io->out_bytes, 0 };
        size_t rc;

        if (io->in_bytes == 0 && io->at_end)
                return 0;
        rc = ZSTD_decompressStream(context, &out, &in);
        if (ZSTD_isError(rc))
                return err_msg(e, EBADMSG, "it is damaged, or needs an option of zstd: %s",
                               ZSTD_getErrorName(rc));
        io->in += in.pos;
        io->in_bytes -= in.pos;
        io->out += out.pos;
        io->out_bytes -= out.pos;
        io->at_end = rc == 0;
        return 0;
}

static void zstd_end(void *context)
{
        ZSTD_freeDStream(context);
}

const struct unwrap_ops unwrap_zstd = { "zstd", zstd_start, zstd_step, zstd_end };

/* ---- by magic ------------------------------------------------------------------------- */

static const struct magic {
        const struct unwrap_ops *ops;   /* NULL = not read */
        const char *program;
        uint8_t bytes;
        uint8_t magic[UNWRAP_MAGIC_BYTES];
} magics[] = {
        { &unwrap_gzip, "gzip", 2, { 0x1f, 0x8b } },
        { &unwrap_zstd, "zstd", 4, { 0x28, 0xb5, 0x2f, 0xfd } },
        { NULL, "bzip2", 3, { 'B', 'Z', 'h' } },
        { NULL, "xz", 6, { 0xfd, '7', 'z', 'X', 'Z', 0 } },
        { NULL, "lzop", 9, { 0x89, 'L', 'Z', 'O', 0, '\r', '\n', 0x1a, '\n' } },
        { NULL, "lz4", 4, { 0x04, 0x22, 0x4d, 0x18 } },
};

const struct unwrap_ops *unwrap_find(const uint8_t *magic, size_t bytes,
                                     const char **ret_program)
{
        for (size_t i = 0; i < ARRAY_SIZE(magics); i++) {
                const struct magic *m = &magics[i];

                if (bytes < m->bytes || memcmp(magic, m->magic, m->bytes))
                        continue;
                *ret_program = m->program;
                return m->ops;
        }
        *ret_program = unwrap_plain.program;
        return &unwrap_plain;
}
