/* SPDX-License-Identifier: Apache-2.0 */
/* clone-parts.h - what a VM is cloned into, and its clones are made of: memfds with RAM and
 * state, and for each disk that the guest may write a file without a name, in the disk's folder,
 * where blocks can be shared with it if they can be at all.
 *
 * Ownership: in place; the descriptors are its own. Nothing of it has a name, so that it ends
 *            with who holds it. Threads: one.
 */
#ifndef VMM_CLONE_PARTS_H
#define VMM_CLONE_PARTS_H

#include "common/err.h"
#include "vmm/disk-files.h"

struct clone_parts {
        int ram_fd;
        int state_fd;
        struct disk_files disks;        /* in the order of the machine's; -1 = only read */
};

/* None. */
void clone_parts_init(struct clone_parts *p);
/* Empty ones, for a machine like that. After a failure some may be there. */
int clone_parts_make(struct clone_parts *p, const struct machine_config *machine,
                     struct err *e);
void clone_parts_fini(struct clone_parts *p);

#endif
