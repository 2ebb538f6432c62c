/* SPDX-License-Identifier: Apache-2.0 */
/* disk-file.h - the file of a disk, found once: what was looked at by a descriptor is what is
 * opened by it later, whatever becomes of names meanwhile.
 *
 * It is found without being opened, as opening has effects, or waits, where it is no disk: who
 * finds it looks at its kind before. Needs /proc.
 *
 * Ownership: descriptors are the caller's. Threads: any. Errors: 0 or -errno.
 */
#ifndef VMM_DISK_DISK_FILE_H
#define VMM_DISK_DISK_FILE_H

#include <stdbool.h>
#include <sys/stat.h>

/* folder as openat() has it. Without follow a symbolic link is found as what it is. */
int disk_file_find(int folder, const char *name, bool follow, int *ret_fd, struct stat *ret);
/* Anew: with a position and locks of its own. fd: found, or opened in whatever way. */
int disk_file_open(int fd, int flags, int *ret_fd);

#endif
