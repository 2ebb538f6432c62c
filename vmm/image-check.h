/* SPDX-License-Identifier: Apache-2.0 */
/* image-check.h - vmm image check and verify: is an image what it should be?
 *
 * Errors: the exit status, as qemu-img check has it; CHECK_FAILED with *e.
 */
#ifndef VMM_IMAGE_CHECK_H
#define VMM_IMAGE_CHECK_H

#include <stdbool.h>

#include "common/err.h"

enum check_status { CHECK_CLEAN = 0, CHECK_FAILED = 1, CHECK_CORRUPT = 2, CHECK_LEAKS = 3 };

int image_check(const char *path, bool contents, bool json, struct err *e);

#endif
