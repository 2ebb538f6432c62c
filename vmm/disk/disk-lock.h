/* SPDX-License-Identifier: Apache-2.0 */
/* disk-lock.h - who may use a disk at the same time: many that read it, or one that writes.
 *
 * The bytes are those of QEMU's raw driver (block/file-posix.c), so that it and its tools
 * are kept out, and we by them: who uses permission n read-locks byte 100 + n, who does not
 * let others use it 200 + n; then each looks whether others contradict. 0 is consistent
 * read, 1 write, 3 resize.
 *
 *                holds                   is refused if others hold
 *      reader    100  201  203           101  103  200
 *      writer    100  101  201  203      101  103  200  201
 *
 * Two that come in the same instant may both be refused.
 *
 * Ownership: the locks belong to the open file description and go with it.
 * Threads:   any.
 * Errors:    -EBUSY when others are in the way. Without such locks in the file system
 *            readers are let in, a writer is not: -ENOLCK. After a failure close the file.
 */
#ifndef VMM_DISK_DISK_LOCK_H
#define VMM_DISK_DISK_LOCK_H

#include <stdbool.h>

#include "common/err.h"

int disk_lock(int fd, bool write, struct err *e);

#endif
