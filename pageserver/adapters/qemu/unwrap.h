/* SPDX-License-Identifier: Apache-2.0 */
/* unwrap.h - how the bytes of a file become those of the stream in it.
 *
 * A kind of compression is one row of ops; unwrap_ops() finds it by its magic.
 * Threads: one at a time per context. No I/O.
 */
#ifndef PAGESERVER_ADAPTERS_QEMU_UNWRAP_H
#define PAGESERVER_ADAPTERS_QEMU_UNWRAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/* as many bytes as any magic has */
#define UNWRAP_MAGIC_BYTES 9

struct unwrap_io {
        const uint8_t *in;              /* both advance */
        size_t in_bytes;
        uint8_t *out;
        size_t out_bytes;
        bool at_end;                    /* the file may end here; kept by step() */
};

struct unwrap_ops {
        const char *program;            /* that unpacks it */
        /* NULL: without memory */
        void *(*start)(void);
        /* Takes from in and gives to out what it can; neither moves when it needs more
         * of one. Several files behind each other count as one. -EBADMSG: damaged. */
        int (*step)(void *context, struct unwrap_io *io, struct err *e);
        void (*end)(void *context);
};

extern const struct unwrap_ops unwrap_plain, unwrap_gzip, unwrap_zstd;

/* By the first bytes of a file, all that it has if it is shorter. What begins like
 * nothing known is plain. NULL, and *ret_program: known but not read by us. */
const struct unwrap_ops *unwrap_find(const uint8_t *magic, size_t bytes,
                                     const char **ret_program);

#endif
