/* SPDX-License-Identifier: Apache-2.0 */
/* disk-files.h - the files of a machine's disks that were found before it is built: a disk that
 * has one is opened by it, not by its path, which only says what it is called.
 *
 * Ownership: in place; the descriptors are its own. Threads: one.
 */
#ifndef VMM_DISK_FILES_H
#define VMM_DISK_FILES_H

#include "vmm/machine-config.h"

struct disk_files {
        int fd[MACHINE_DISKS_MAX];      /* in the order of the machine's disks; -1 = none */
};

void disk_files_init(struct disk_files *f);
void disk_files_fini(struct disk_files *f);
/* Of disk i; NULL = none, or f is NULL. */
const int *disk_files_at(const struct disk_files *f, unsigned i);

#endif
