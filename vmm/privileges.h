/* SPDX-License-Identifier: Apache-2.0 */
/* privileges.h - what a VM's process has of its user's rights, and its threads of root's.
 *
 * A VM needs none of root's but to reach files of others. What was opened before (KVM, taps,
 * disks) asks for none any more.
 *
 * Threads: privileges_drop() concerns the calling one, the others all: before any is started.
 */
#ifndef VMM_PRIVILEGES_H
#define VMM_PRIVILEGES_H

#include "common/err.h"
#include "vmm/sandbox.h"

/* Becomes the user, with the groups it has. -EINVAL: there is none of that name; -EPERM:
 * another's, and we are not root. Cannot be undone. */
int privileges_become(const char *user, struct err *e);

/* No core dumps, which would hold a guest's memory; no more files than a VM needs. */
int privileges_limit(struct err *e);

/* The capabilities that a thread of that role does not need. Cannot be undone where
 * no_new_privs is set. */
int privileges_drop(enum sandbox_role role, struct err *e);

#endif
