/* SPDX-License-Identifier: Apache-2.0 */
/* sections.h - named pieces of bytes one behind the other in one buffer: the state of a
 * VM on its way from one process to another of the same host.
 *
 *   "SNAPSECT"  le32 version  le32 n
 *   n times     name, 16 bytes, padded with NULs; le64 bytes
 *   the bytes of each, in that order
 *
 * There is one way only to write down the same sections: what is decoded and encoded again
 * is what it was. Names are unique. What they mean is their reader's affair.
 *
 * Threads: any; pure functions. Ownership: a decoded section points into the buffer.
 */
#ifndef COMMON_WIRE_SECTIONS_H
#define COMMON_WIRE_SECTIONS_H

#include <stddef.h>
#include <stdint.h>

#define SECTIONS_VERSION 1
/* a saved VM has four */
#define SECTIONS_MAX 8
/* with its NUL; A-Z, 0-9 and _ */
#define SECTIONS_NAME_BYTES 16
/* The state of 8 vCPUs takes some 200 KiB. */
#define SECTIONS_BYTES_MAX (16u << 20)

struct section {
        char name[SECTIONS_NAME_BYTES];
        const void *data;
        size_t bytes;
};

/* The size of the buffer that sections_encode() fills; 0: they are more than SECTIONS_MAX,
 * or more than SECTIONS_BYTES_MAX in all. */
size_t sections_bytes(const struct section *s, size_t n);
/* The names are valid and unique. */
void sections_encode(const struct section *s, size_t n, uint8_t *buf);
/* -EBADMSG: buf, bytes long, is anything else than sections; -ENOTSUP: of a newer version. */
int sections_decode(const void *buf, size_t bytes, struct section ret[SECTIONS_MAX],
                    size_t *ret_n);
/* NULL: there is none of that name */
const struct section *sections_find(const struct section *s, size_t n, const char *name);

#endif
