/* SPDX-License-Identifier: Apache-2.0 */
/* libvirtsave.h - the head of a file that `virsh save` wrote: what lies before the stream.
 *
 *     magic, then u32: version, data_len, was_running, format, cookie offset, 14 unused
 *     data_len bytes: the domain's XML, NUL, a cookie, NUL, padding
 *     QEMU's migration stream, compressed as format says
 * The numbers are in the order of the host that wrote it; only little-endian is read.
 *
 * Threads: pure function. No I/O.
 * Errors:  a negative errno and a sentence.
 */
#ifndef COMMON_WIRE_LIBVIRTSAVE_H
#define COMMON_WIRE_LIBVIRTSAVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

#define LIBVIRTSAVE_HEAD_BYTES 92u
/* XML and cookie are some 10 KiB, and 64 KiB of padding are usual. */
#define LIBVIRTSAVE_DATA_MAX (64u << 20)

enum libvirtsave_format {
        LIBVIRTSAVE_RAW,
        LIBVIRTSAVE_GZIP,
        LIBVIRTSAVE_BZIP2,
        LIBVIRTSAVE_XZ,
        LIBVIRTSAVE_LZOP,
        LIBVIRTSAVE_ZSTD,
};

struct libvirtsave {
        enum libvirtsave_format format;
        bool was_running;               /* the domain ran when it was saved */
        uint64_t stream_at;             /* where in the file the stream begins */
};

/* data is the file's beginning. True: it is libvirt's, of whatever version and fate. */
bool libvirtsave_is(const uint8_t *data, size_t bytes);

/* 0; -EAGAIN: fewer than LIBVIRTSAVE_HEAD_BYTES; -EBADMSG: not such a file, one that was not
 * completed, or a damaged one; -ENOTSUP: of a version or form that is not known. */
int libvirtsave_parse(const uint8_t *data, size_t bytes, struct libvirtsave *ret, struct err *e);

/* "raw", "gzip", ...: what its program is called */
const char *libvirtsave_format_name(enum libvirtsave_format format);

#endif
