/* SPDX-License-Identifier: Apache-2.0 */
/* clone-lent.h - what the client of a VM lends it to be cloned into: memfds for RAM and state,
 * and for each disk that the guest may write a file without a name, in the disk's folder, where
 * blocks can be shared with it if they can be at all.
 *
 * Ownership: in place; the descriptors are its own. Nothing of it has a name, so that it ends
 *            with who holds it. Threads: one.
 */
#ifndef VMM_CLONE_LENT_H
#define VMM_CLONE_LENT_H

#include <json-c/json.h>

#include "common/err.h"
#include "vmm/disk-files.h"

struct clone_lent {
        int ram_fd;
        int state_fd;
        struct disk_files disks;
};

/* For a machine like that. */
int clone_lent_init(struct clone_lent *l, const struct machine_config *machine, struct err *e);
void clone_lent_fini(struct clone_lent *l);
/* The body of PUT /clone; the caller's to put. */
struct json_object *clone_lent_encode(const struct clone_lent *l,
                                      const struct machine_config *machine);

#endif
