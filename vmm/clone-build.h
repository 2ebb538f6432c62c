/* SPDX-License-Identifier: Apache-2.0 */
/* clone-build.h - VMs out of what a running one has handed out (clone.h): two sealed
 * memfds, and files with disks, which all of them share.
 */
#ifndef VMM_CLONE_BUILD_H
#define VMM_CLONE_BUILD_H

#include "common/err.h"
#include "vmm/clone-parts.h"
#include "vmm/meta.h"

struct clone_image;
struct vm;

/* Takes what the VM handed out out of parts, also when it fails. -EBADMSG: it is not what
 * a VM hands out, whole and sealed; -ESTALE: a disk that it only reads is another by now. */
int clone_image_new(struct clone_parts *parts, struct clone_image **ret, struct err *e);
void clone_image_free(struct clone_image *image);
const struct meta *clone_image_meta(const struct clone_image *image);

/* What becomes of one clone. */
struct clone_birth {
        struct clone_image *image;
        int gate[2];                    /* a pipe, as gate.h has it */
};

/* launch_build_fn; ctx is the struct clone_birth, whose descriptors the VM's process takes
 * out of its copy of it. */
int clone_build(struct vm *vm, void *ctx, struct err *e);

#endif
