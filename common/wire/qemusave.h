/* SPDX-License-Identifier: Apache-2.0 */
/* qemusave.h - the stream of QEMU that saves its state: bytes -> events, up to the devices.
 *
 * A push parser over a window of the stream that the caller owns. Each call takes one step
 * and says how many bytes at the window's beginning it has taken; what item.data points to
 * lies in them: use it before they are overwritten. QEMUSAVE_MORE wants bytes behind those
 * that are left, of which there are less than QEMUSAVE_WINDOW_MIN then. Pages are never
 * copied and never looked at.
 *
 *     HEAD [RETURN_PATH] [PING] BLOCKS (PAGE | ZERO | PING)* DEVICES
 *
 * From DEVICES on the stream is opaque: see qemutail.h.
 *
 * Ownership: the parser holds its block table and nothing of the window.
 * Threads:   one at a time for each parser. No I/O.
 * Errors:    -EBADMSG: not what QEMU sends; -ENOTSUP: what cannot be split, with the remedy;
 *            the sentence says at which byte. The parser must not be asked again.
 */
#ifndef COMMON_WIRE_QEMUSAVE_H
#define COMMON_WIRE_QEMUSAVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/wire/qemuhead.h"
#include "common/wire/qemuwire.h"

/* The largest thing that is taken in one step: a page with its block's name, or the head. */
#define QEMUSAVE_WINDOW_MIN (QEMU_PAGE_MAX + 4096u)

enum qemusave_event {
        QEMUSAVE_MORE,                  /* bytes are missing */
        QEMUSAVE_HEAD,                  /* data, bytes: all of the head */
        QEMUSAVE_RETURN_PATH,           /* QEMU waits for a SHUT at the end (qemurp.h) */
        QEMUSAVE_PING,                  /* token; a PONG may be sent */
        QEMUSAVE_BLOCKS,                /* the block table is complete */
        QEMUSAVE_PAGE,                  /* block, offset, bytes (one page), data */
        QEMUSAVE_ZERO,                  /* block, offset, bytes (whole pages): zeros */
        QEMUSAVE_DEVICES,               /* what is left, and all to come, is the tail */
};

/* Of a PAGE and a ZERO it holds that block < nblocks, offset and bytes are multiples of the
 * target's page, and lie within the block. */
struct qemusave_item {
        enum qemusave_event event;
        unsigned block;
        uint64_t offset;
        uint64_t bytes;
        const uint8_t *data;
        uint32_t token;
};

/* what a revert must say as this stream did */
struct qemusave_ram {
        uint32_t id, instance, version;
        bool footers;                   /* sections end in one; known at DEVICES */
};

struct qemusave;

struct qemusave *qemusave_new(void);    /* NULL: no memory */
void qemusave_free(struct qemusave *p);

/* 0 and *ret, *ret_used; QEMUSAVE_DEVICES again and again when it was reached. */
int qemusave_next(struct qemusave *p, const uint8_t *data, size_t bytes, size_t *ret_used,
                  struct qemusave_item *ret, struct err *e);

/* The input has ended while MORE was wanted: makes the sentence, returns -EBADMSG. */
int qemusave_cut(const struct qemusave *p, struct err *e);

const struct qemuhead *qemusave_head(const struct qemusave *p);         /* from HEAD on */
const struct qemu_ramblock *qemusave_blocks(const struct qemusave *p, unsigned *ret_n);
struct qemusave_ram qemusave_ram(const struct qemusave *p);             /* from BLOCKS on */

#endif
