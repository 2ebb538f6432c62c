/* SPDX-License-Identifier: Apache-2.0 */
/* qemurp.h - QEMU's return path, from who loads a stream to who sends it: both ways.
 *
 *     be16 type, be16 bytes of the payload, payload
 * RECV_BITMAP's bitmap comes behind its payload and is not counted in it. Numbers are
 * big-endian, but the bits of a bitmap are in the order of little-endian words: bit i of
 * byte k stands for page 8 k + i.
 *
 * Threads: one at a time for each struct qemurp. No I/O.
 * Errors:  -EBADMSG and a sentence: not what QEMU sends, or not about these blocks. The
 *          parser must not be asked again.
 */
#ifndef COMMON_WIRE_QEMURP_H
#define COMMON_WIRE_QEMURP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/wire/qemuwire.h"

/* No message needs more bytes at once; bitmaps come in pieces. */
#define QEMURP_BYTES_MAX 512u

enum qemurp_type {
        QEMURP_MORE,                    /* bytes are missing */
        QEMURP_SHUT,                    /* value: 0 = QEMU is done, else it has failed */
        QEMURP_PONG,                    /* value: the PING's token */
        QEMURP_REQUEST,                 /* block, offset, bytes: these pages are waited for */
        QEMURP_BITMAP,                  /* block, bitmap_at, data, bytes: a piece of its bitmap;
                                         * a bit is set for each target page that QEMU has */
        QEMURP_BITMAP_END,              /* block: that was all of it */
        QEMURP_RESUME_ACK,
        QEMURP_SWITCHOVER_ACK,
};

/* Of a REQUEST it holds that offset and bytes are whole pages of the block's memory, and lie
 * within it, and bytes > 0. Of a BITMAP that bitmap_at + bytes <= qemurp_bitmap_bytes(). */
struct qemurp_item {
        enum qemurp_type type;
        uint32_t value;
        unsigned block;
        uint64_t offset;
        uint64_t bytes;
        uint64_t bitmap_at;
        const uint8_t *data;            /* in the caller's window */
};

struct qemurp {
        /* set by the caller, constant after; every block's page_bytes must be right */
        const struct qemu_ramblock *blocks;
        unsigned nblocks;
        uint32_t page_bytes;            /* of the target */
        /* the parser's; all zero at first */
        unsigned asked;                 /* block of the last request, + 1; 0 = none */
        unsigned mapped;                /* block whose bitmap comes, + 1 */
        uint64_t map_at, map_bytes;
};

/* Takes one step, as qemusave_next() does: *ret_used bytes at the beginning of data are
 * taken. On MORE fewer than QEMURP_BYTES_MAX are left. */
int qemurp_next(struct qemurp *p, const uint8_t *data, size_t bytes, size_t *ret_used,
                struct qemurp_item *ret, struct err *e);

/* Bytes of a block's bitmap on the wire: whole 64-bit words. */
uint64_t qemurp_bitmap_bytes(uint64_t block_bytes, uint32_t page_bytes);

/* What who loads sends: each returns the length of the message in buf. */
size_t qemurp_shut(uint8_t buf[QEMURP_BYTES_MAX], uint32_t status);
size_t qemurp_pong(uint8_t buf[QEMURP_BYTES_MAX], uint32_t token);
/* name NULL = the block of the request before */
size_t qemurp_request(uint8_t buf[QEMURP_BYTES_MAX], const char *name, uint64_t offset,
                      uint32_t bytes);
/* then the bitmap, then its end */
size_t qemurp_bitmap(uint8_t buf[QEMURP_BYTES_MAX], const char *name, uint64_t bitmap_bytes);
size_t qemurp_bitmap_end(uint8_t buf[QEMURP_BYTES_MAX]);
size_t qemurp_resume_ack(uint8_t buf[QEMURP_BYTES_MAX]);
size_t qemurp_switchover_ack(uint8_t buf[QEMURP_BYTES_MAX]);

#endif
