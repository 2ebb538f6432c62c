/* SPDX-License-Identifier: Apache-2.0 */
/* image-compare.h - vmm image compare: do two images hold the same RAM?
 *
 * Errors: the exit status, as qemu-img compare has it; COMPARE_FAILED with *e.
 */
#ifndef VMM_IMAGE_COMPARE_H
#define VMM_IMAGE_COMPARE_H

#include <stdbool.h>

#include "common/err.h"
#include "qcowstore/store.h"

enum compare_status { COMPARE_SAME = 0, COMPARE_DIFFERENT = 1, COMPARE_FAILED = 2 };

/* options: for both, but the tag is the first one's */
int image_compare(const char *path_a, const char *path_b, const struct qs_open_options *options,
                  bool json, struct err *e);

#endif
