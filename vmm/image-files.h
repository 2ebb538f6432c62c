/* SPDX-License-Identifier: Apache-2.0 */
/* image-files.h - our own descriptors of all files of an image: what a page server
 * gets, and its successor too, whatever has become of the names meanwhile.
 *
 * Errors: 0 or negative errno with a sentence.
 */
#ifndef VMM_IMAGE_FILES_H
#define VMM_IMAGE_FILES_H

#include <stddef.h>

#include "common/err.h"
#include "pageserver/client.h"
#include "qcowstore/store.h"

struct image_files {
        int fds[PS_IMAGES_MAX];         /* the image, its parent, that one's and so on */
        size_t n;
};

/* f is zeroed; to be closed also on failure */
int image_files_keep(struct image_files *f, const struct qs_image *image, struct err *e);
void image_files_close(struct image_files *f);

#endif
