/* SPDX-License-Identifier: Apache-2.0 */
/* image-info.h - vmm image info and list: what an image is, and the snapshots it holds.
 *
 * Both print, as text or JSON. Errors: a negative errno and *e.
 */
#ifndef VMM_IMAGE_INFO_H
#define VMM_IMAGE_INFO_H

#include <stdbool.h>

#include "common/err.h"
#include "qcowstore/store.h"

/* of the options only tag and allow_parent count */
int image_info(const char *path, const struct qs_open_options *options, bool json,
               struct err *e);
int image_list(const char *path, bool json, struct err *e);

#endif
