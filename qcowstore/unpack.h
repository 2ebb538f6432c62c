/* SPDX-License-Identifier: Apache-2.0 */
/* unpack.h - compressed clusters to plain ones.
 *
 * Ownership: one for each reading thread; owns its contexts.
 * Threads:   one at a time.
 * Errors:    -EBADMSG = the stream does not give exactly `room` bytes; -ENOMEM.
 */
#ifndef QCOWSTORE_UNPACK_H
#define QCOWSTORE_UNPACK_H

#include <stddef.h>
#include <stdint.h>

struct unpack;

/* NULL without memory */
struct unpack *unpack_new(void);
void unpack_free(struct unpack *u);

/* n: what there is of the stream, perhaps with more behind its end */
int unpack_zlib(struct unpack *u, const uint8_t *stream, size_t n, void *buf, size_t room);
int unpack_zstd(struct unpack *u, const uint8_t *stream, size_t n, void *buf, size_t room);

#endif
