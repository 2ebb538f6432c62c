/* SPDX-License-Identifier: Apache-2.0 */
/* qemutail.h - the end of a saved QEMU stream: device state, EOF byte, description.
 *
 *     tail = SECTION_FULL of the first device ... , 00 [, 06, be32 length, JSON]
 *
 * Sections of devices have no length, so the end is found from behind: JSON has no NUL byte,
 * hence the last one of the tail is the EOF byte or belongs to the length, and the length
 * counts exactly what is behind it. A call looks at no byte before that NUL but a few.
 *
 * Threads: pure function. No I/O.
 */
#ifndef COMMON_WIRE_QEMUTAIL_H
#define COMMON_WIRE_QEMUTAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Device state is some 15 KiB, a description 100; a virtio-gpu may have tens of MiB. */
#define QEMUTAIL_BYTES_MAX (256u << 20)

enum qemutail_end {
        QEMUTAIL_OPEN,          /* no end of a stream: more must come */
        QEMUTAIL_BARE,          /* may end so, without a description; or be cut there. With a
                                 * footer and an EOF byte at its end, if there are footers */
        QEMUTAIL_WHOLE,         /* ends with a description: nothing can follow */
};

struct qemutail {
        size_t devices_bytes;           /* from the tail's beginning to the EOF byte */
        size_t desc_at, desc_bytes;     /* JSON text; 0 bytes if BARE */
};

/* footers: as qemusave_ram() says. *ret is set unless OPEN. May be called whenever input is
 * quiet: QEMU that waits for an answer does not close its end. */
enum qemutail_end qemutail_split(const uint8_t *tail, size_t bytes, bool footers,
                                 struct qemutail *ret);

#endif
