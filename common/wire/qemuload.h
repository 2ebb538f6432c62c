/* SPDX-License-Identifier: Apache-2.0 */
/* qemuload.h - the stream that makes a waiting QEMU load a state: structs -> bytes.
 *
 * The order, which is the caller's; [] only if postcopy:
 *     head, [qemuload_command(OPEN_RETURN_PATH), qemuload_ping, qemuload_advise],
 *     qemuload_start, sections of pages,
 *     [qemuload_discard for each block, qemuload_ping, qemuload_package, device state,
 *      qemuload_package_end, sections of pages on request], an END section,
 *     (device state without postcopy), qemuload_eof, [no description] or qemuload_desc
 * To recover: qemuload_ask_bitmap for each block, qemuload_command(POSTCOPY_RESUME),
 *     sections of pages, an END section, qemuload_eof.
 * A section of pages:
 *     qemuload_section(QEMU_PART or QEMU_END), (qemuload_page + the page | qemuload_zero)*,
 *     qemuload_section_end
 *
 * Ownership: what is built goes to the end of a growing buffer of the caller's. It never
 *            shrinks; set bytes to 0 to use it again. Large things (head, pages, device
 *            state, JSON) are not copied into it: write them behind what announces them.
 * Threads:   one at a time for each struct. No I/O.
 * Errors:    only memory can be short; then the buffer is `failed`, stays so, and nothing
 *            more goes into it: look once, with qemubuf_check().
 */
#ifndef COMMON_WIRE_QEMULOAD_H
#define COMMON_WIRE_QEMULOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/wire/qemuwire.h"

struct qemubuf {                        /* all zero = empty */
        uint8_t *data;
        size_t bytes, room;
        bool failed;
};

void qemubuf_fini(struct qemubuf *b);
int qemubuf_check(const struct qemubuf *b, struct err *e);
/* for those who like a copy: small things, tests */
void qemubuf_put(struct qemubuf *b, const void *data, size_t bytes);

struct qemuload {
        /* set by the caller, constant after */
        const struct qemu_ramblock *blocks;
        unsigned nblocks;
        uint32_t page_bytes;            /* of the target */
        uint32_t host_page_bytes;       /* smallest of QEMU's host: 4096 */
        uint32_t ram_id, ram_instance, ram_version;
        bool footers;
        /* The block of the last page, + 1; 0 = none. A word for the same block does not
         * name it, even in another section; a recovering QEMU has forgotten it: 0 again. */
        unsigned last_block;
};

/* Sizes and names of the blocks, which may come from an image: all that the functions below
 * rely on. -EBADMSG. */
int qemuload_check(const struct qemuload *l, struct err *e);

void qemuload_command(struct qemubuf *b, enum qemu_command command);    /* without payload */
void qemuload_ping(struct qemubuf *b, uint32_t token);
void qemuload_advise(const struct qemuload *l, struct qemubuf *b);
void qemuload_ask_bitmap(const struct qemuload *l, struct qemubuf *b, unsigned block);

struct qemuload_range {
        uint64_t offset, bytes;
};
/* As many commands as n ranges take; at least one range of one block must be discarded
 * before LISTEN, else QEMU hangs. */
void qemuload_discard(const struct qemuload *l, struct qemubuf *b, unsigned block,
                      const struct qemuload_range *ranges, size_t n);
void qemuload_discard_all(const struct qemuload *l, struct qemubuf *b);

/* PACKAGED and LISTEN, to be followed by device state of that length and the end: a PING,
 * whose PONG says that the devices are loaded, and RUN. */
void qemuload_package(struct qemubuf *b, uint32_t devices_bytes);
void qemuload_package_end(struct qemubuf *b, uint32_t token);
/* What RUN, PING and LISTEN take of PACKAGED's 32 bits. */
#define QEMULOAD_DEVICES_MAX (UINT32_MAX - 19u)

/* The START section with the list of blocks. advised: qemuload_advise() was sent, so QEMU
 * expects the page size of blocks that have large ones. */
void qemuload_start(const struct qemuload *l, struct qemubuf *b, bool advised);

void qemuload_section(const struct qemuload *l, struct qemubuf *b, enum qemu_record type);
/* Only the word: page_bytes of content belong behind it. */
void qemuload_page(struct qemuload *l, struct qemubuf *b, unsigned block, uint64_t offset);
/* Whole pages of zeros, a word each. */
void qemuload_zero(struct qemuload *l, struct qemubuf *b, unsigned block, uint64_t offset,
                   uint64_t bytes);
void qemuload_section_end(const struct qemuload *l, struct qemubuf *b);

void qemuload_eof(struct qemubuf *b);
/* Only what announces it: the JSON text belongs behind it. */
void qemuload_desc(struct qemubuf *b, uint32_t json_bytes);

#endif
