/* SPDX-License-Identifier: Apache-2.0 */
/* imglock.h - QEMU's image locks, so that nobody writes what we read.
 *
 * QEMU read-locks byte 100+n while it uses permission n and 200+n while it
 * does not let others use it (block/file-posix.c). A reader of ours uses
 * "consistent read" (0) and shares neither "write" (1) nor "resize" (3) when
 * it looks: QEMU readers work meanwhile, QEMU writers are refused.
 *
 * Ownership: the lock belongs to the open file description and goes with its
 *            last descriptor.
 * Errors:    -EBUSY when a program has the file open for writing. File systems
 *            without such locks are tolerated.
 */
#ifndef QCOWSTORE_IMGLOCK_H
#define QCOWSTORE_IMGLOCK_H

#include "common/err.h"

int imglock_read(int fd, struct err *e);

#endif
