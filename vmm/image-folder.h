/* SPDX-License-Identifier: Apache-2.0 */
/* image-folder.h - the folder that an image is in, whatever name that was called by: where the
 * files of its own are.
 *
 * Ownership: in place. Threads: any.
 */
#ifndef VMM_IMAGE_FOLDER_H
#define VMM_IMAGE_FOLDER_H

#include "common/err.h"

struct image_folder {
        char *path;                     /* absolute, without links */
        int fd;                         /* for openat() alone */
};

/* image_fd: the image, where it was opened; then it is the folder of that very file, and
 * -ESTALE if it has been moved meanwhile. -1 = it was not. */
int image_folder_open(const char *image, int image_fd, struct image_folder *ret, struct err *e);
void image_folder_close(struct image_folder *f);

#endif
