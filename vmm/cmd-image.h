/* SPDX-License-Identifier: Apache-2.0 */
/* cmd-image.h - `vmm image info`, which `vmm info IMAGE` is too. */
#ifndef VMM_CMD_IMAGE_H
#define VMM_CMD_IMAGE_H

#include <stdbool.h>

#include "common/err.h"
#include "qcowstore/store.h"

/* Prints what the image is and what VM it holds. */
int image_info(const char *path, const struct qs_open_options *options, bool json,
               struct err *e);

#endif
