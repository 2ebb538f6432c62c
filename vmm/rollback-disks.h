/* SPDX-License-Identifier: Apache-2.0 */
/* rollback-disks.h - the disks of a VM that is rolled back: each becomes that of the
 * snapshot again, under a fresh overlay.
 *
 * Only disks whose writes end with the VM (overlays) can go back: one that is written in
 * place would lose what its owner has.
 *
 * new     while the guest runs: all is checked and opened
 * swap    devices are held: cannot fail
 * free    the former disks, after swap; the new ones, without
 * Threads: one, the rollback's; swap's while nobody uses the disks.
 */
#ifndef VMM_ROLLBACK_DISKS_H
#define VMM_ROLLBACK_DISKS_H

#include "common/err.h"
#include "vmm/kept-disks.h"
#include "vmm/machine-config.h"

struct rollback_disks;
struct vm;

/* Of the snapshot that is in image, with that configuration. -EINVAL: it does not go, with
 * the remedy; -ESTALE: a disk has moved on. */
int rollback_disks_new(struct vm *vm, const struct kept_disks_image *image,
                       const struct kept_disks *kept,
                       const struct machine_config *saved, struct rollback_disks **ret,
                       struct err *e);
void rollback_disks_swap(struct rollback_disks *r);
void rollback_disks_free(struct rollback_disks *r);

#endif
