/* SPDX-License-Identifier: Apache-2.0 */
/* image-firecracker.h - snapshots of Firecracker's as images of ours, and back.
 *
 * A snapshot of Firecracker's is two files: memory, without a head, and vmstate. In an
 * image memory lies at guest-physical addresses as ever; the vmstate file is a section
 * as it is, and another (common/wire/fcregions.h) says where in the memory file each
 * region belongs. So both files come back as they were.
 */
#ifndef VMM_IMAGE_FIRECRACKER_H
#define VMM_IMAGE_FIRECRACKER_H

#include <json-c/json.h>
#include <stdbool.h>

#include "common/err.h"
#include "qcowstore/store.h"

/* as the user said them; NULL = not said */
struct firecracker_files {
        const char *mem;
        const char *vmstate;
        const char *layout;             /* "v1.0" or "v1.13" */
};

/* Both: the exit status, and *e. writer as in vmm/image-write.h. */
int image_import_firecracker(const struct firecracker_files *files, const char *image,
                             const struct qs_writer_options *writer, bool json, struct err *e);
/* Both files appear, or none; without a name for memory only vmstate. */
int image_export_firecracker(const char *image, const struct firecracker_files *files,
                             const struct qs_open_options *open, bool force, bool json,
                             struct err *e);

/* is what was opened such a snapshot? */
bool image_firecracker_is(struct qs_reader *reader);

/* for 'vmm image info': adds "firecracker" if it is one; prints what was added */
void image_firecracker_describe(struct qs_image *image, struct json_object *o);
bool image_firecracker_print(struct json_object *o);

#endif
