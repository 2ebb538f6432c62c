/* SPDX-License-Identifier: Apache-2.0 */
/* state.h - the state of a QEMU machine as an image has it, beside its RAM.
 *
 * Four sections, described in snapback-image(5): QEMU-BLOCKS (JSON) says what the other
 * parts of a stream were and where in the image each RAM block lies; QEMU-HEAD and
 * QEMU-DEVICES are sent again as they came; QEMU-VMDESC is QEMU's own description of the
 * devices, if it gave one.
 *
 * Ownership: the struct owns what it points to; qemu_state_fini() takes an all-zero one.
 * Threads:   constant once it is complete.
 * Errors:    -ENOENT: an image of something else; -EBADMSG: not as snapback-image(5) says;
 *            -ENOTSUP: made by a newer version. What is loaded is checked: its table of
 *            blocks is sealed and lies within the image.
 */
#ifndef PAGESERVER_ADAPTERS_QEMU_STATE_H
#define PAGESERVER_ADAPTERS_QEMU_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/wire/qemuwire.h"
#include "pageserver/adapters/qemu/blocks.h"
#include "qcowstore/store.h"

#define QEMU_SECTION_BLOCKS "QEMU-BLOCKS"
#define QEMU_SECTION_HEAD "QEMU-HEAD"
#define QEMU_SECTION_DEVICES "QEMU-DEVICES"
#define QEMU_SECTION_VMDESC "QEMU-VMDESC"

#define QEMU_STATE_VERSION 1

struct qemu_state {
        char machine[QEMU_NAME_MAX + 1];        /* with version; "" = the stream did not say */
        uint32_t page_size;                     /* of the target */
        bool footers;                           /* sections end with one */
        uint32_t ram_id, ram_instance, ram_version;
        struct qemu_blocks blocks;
        uint8_t *head;                          /* from the magic to the configuration's end */
        size_t head_bytes;
        uint8_t *devices;                       /* up to the EOF byte, without it */
        size_t devices_bytes;
        char *vmdesc;                           /* JSON; NULL = none */
        size_t vmdesc_bytes;
};

/* state.blocks is sealed. */
int qemu_state_put(struct qs_writer *writer, const struct qemu_state *state, struct err *e);
int qemu_state_load(struct qs_image *image, struct qs_reader *reader, struct qemu_state *ret,
                    struct err *e);
void qemu_state_fini(struct qemu_state *state);

/* QEMU-BLOCKS alone, for who only tells about an image: head, devices and vmdesc stay NULL. */
int qemu_state_decode(const char *text, size_t bytes, uint64_t disk_bytes,
                      struct qemu_state *ret, struct err *e);
/* the caller puts it */
struct json_object *qemu_state_encode(const struct qemu_state *state);

#endif
