/* SPDX-License-Identifier: Apache-2.0 */
/* image-qemu.h - machines of QEMU's as images of ours.
 *
 * qemu-snapshot makes and reverts them; vmm only knows that they are not its own, says
 * what they are, and runs that program for import and export.
 */
#ifndef VMM_IMAGE_QEMU_H
#define VMM_IMAGE_QEMU_H

#include <json-c/json.h>
#include <stdbool.h>

#include "common/err.h"
#include "qcowstore/store.h"

/* Both: do not return when they succeed in starting the program, whose exit status is
 * ours; else CLI_FAILED and *e. writer as in vmm/image-write.h, tag NULL = none. */
int image_import_qemu(const char *stream, const char *image, const char *tag,
                      const struct qs_writer_options *writer, struct err *e);
int image_export_qemu(const char *image, const char *stream, const struct qs_open_options *how,
                      bool force, struct err *e);

/* is what was opened such a machine? */
bool image_qemu_is(struct qs_reader *reader);

/* for 'vmm image info': adds "qemu" if it is one; prints what was added */
void image_qemu_describe(struct qs_image *image, struct json_object *o);
bool image_qemu_print(struct json_object *o);

#endif
