/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/unpack.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

/* QCOW2: raw deflate, no header, a window of 4 KiB */
#define ZLIB_WINDOW_BITS (-12)

struct unpack {
        ZSTD_DCtx *zstd;                /* either is made when first needed */
        z_stream zlib;
        bool zlib_ready;
};

struct unpack *unpack_new(void)
{
        return calloc(1, sizeof(struct unpack));
}

void unpack_free(struct unpack *u)
{
        if (!u)
                return;
        ZSTD_freeDCtx(u->zstd);
        if (u->zlib_ready)
                inflateEnd(&u->zlib);
        free(u);
}

int unpack_zlib(struct unpack *u, const uint8_t *stream, size_t n, void *buf, size_t room)
{
        if (u->zlib_ready)
                inflateReset(&u->zlib);
        else
                u->zlib_ready = inflateInit2(&u->zlib, ZLIB_WINDOW_BITS) == Z_OK;
        if (!u->zlib_ready)
                return -ENOMEM;
        u->zlib.next_in = (z_const Bytef *)stream;
        u->zlib.avail_in = (uInt)n;
        u->zlib.next_out = buf;
        u->zlib.avail_out = (uInt)room;

        int rc = inflate(&u->zlib, Z_FINISH);

        /* BUF_ERROR: the end mark may not fit any more, all bytes did */
        if (rc == Z_MEM_ERROR)
                return -ENOMEM;
        return (rc == Z_STREAM_END || rc == Z_BUF_ERROR) && u->zlib.avail_out == 0 ? 0 : -EBADMSG;
}

/* One or more frames; the last one is complete when the cluster is. */
int unpack_zstd(struct unpack *u, const uint8_t *stream, size_t n, void *buf, size_t room)
{
        uint8_t *to = buf;

        if (!u->zstd)
                u->zstd = ZSTD_createDCtx();
        if (!u->zstd)
                return -ENOMEM;
        while (room > 0) {
                size_t frame = ZSTD_findFrameCompressedSize(stream, n);

                if (ZSTD_isError(frame) || frame == 0)
                        return -EBADMSG;

                size_t got = ZSTD_decompressDCtx(u->zstd, to, room, stream, frame);

                if (ZSTD_isError(got))
                        return ZSTD_getErrorCode(got) == ZSTD_error_memory_allocation ? -ENOMEM
                                                                                      : -EBADMSG;
                to += got;
                room -= got;
                stream += frame;
                n -= frame;
        }
        return 0;
}
