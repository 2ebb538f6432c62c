/* SPDX-License-Identifier: Apache-2.0 */
/* nameless.h - a file that only its descriptor knows, and that ends with it. */
#ifndef VMM_DISK_NAMELESS_H
#define VMM_DISK_NAMELESS_H

#include "common/err.h"

/* In dir; dir NULL: in the folder of path, or where that cannot be written to in $TMPDIR, or
 * in /var/tmp. Its content is a guest's: nobody else can open it. */
int nameless_file(const char *path, const char *dir, int *ret_fd, struct err *e);

#endif
