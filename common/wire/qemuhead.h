/* SPDX-License-Identifier: Apache-2.0 */
/* qemuhead.h - the head of a QEMU migration stream: magic, version, configuration.
 *
 * It is stored as it came and sent again on revert, so what we know of it is only what we
 * need: the machine type, and the size of the target's pages.
 *
 * Threads: pure functions. No I/O.
 * Errors:  a negative errno and a sentence.
 */
#ifndef COMMON_WIRE_QEMUHEAD_H
#define COMMON_WIRE_QEMUHEAD_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/wire/qemuwire.h"

/* A machine name and three subsections are below 1 KiB. */
#define QEMUHEAD_BYTES_MAX 65536u

struct qemuhead {
        char machine[QEMU_NAME_MAX + 1];        /* "" = a machine type that does not say */
        uint32_t page_bytes;                    /* of the target; 4096 where it is not said */
};

/* data is what has arrived so far of a stream. The head has no end of its own: one more
 * byte must be there to know that no subsection follows, unless `whole` says that data is
 * all there is (the head of an image). 0: the first *ret_bytes are the head. -EAGAIN: read
 * on. -EBADMSG: not a stream of QEMU's. -ENOTSUP: one that cannot be read, with the remedy. */
int qemuhead_parse(const uint8_t *data, size_t bytes, bool whole, struct qemuhead *ret,
                   size_t *ret_bytes, struct err *e);

#endif
