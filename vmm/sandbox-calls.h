/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox-calls.h - the system calls of each role of a VM's threads, in groups with reasons.
 *
 * Whoever makes a thread ask the kernel for something new adds it to a group of its role, or
 * with a reason of its own. tests/flow/sandbox.sh and all other flows run with the lists in
 * force; --sandbox log has the kernel log what is missing, and strace -f shows ENOSYS.
 * vmm/make-filters turns them into programs when the monitor is built (sandbox-filters.h);
 * the monitor itself does not have these lists.
 *
 * What is on a list whatever its arguments are cannot do harm with what a role has open; an
 * ioctl is always one by its number, a socket always a local one, a mapping never of code.
 * clone3() is the starter's only, for its arguments cannot be seen: libc takes clone() then.
 */
#ifndef VMM_SANDBOX_CALLS_H
#define VMM_SANDBOX_CALLS_H

#include "common/filter-calls.h"
#include "vmm/sandbox-filters.h"

/* NULL ends a role's */
#define SANDBOX_LISTS_MAX 12
extern const struct filter_group *const sandbox_allowed[SANDBOX_ROLES][SANDBOX_LISTS_MAX];
extern const struct filter_group *const sandbox_kills[SANDBOX_ROLES][SANDBOX_LISTS_MAX];

/* sandbox-calls-machine.c: those that what a guest wrote reaches */
extern const struct filter_group sandbox_vcpu[];
extern const struct filter_group sandbox_device[];
extern const struct filter_group sandbox_disk[];
extern const struct filter_group sandbox_guard[];
extern const struct filter_group sandbox_copy[];
/* sandbox-calls-host.c: those that what commands say reaches */
extern const struct filter_group sandbox_bytes[];
extern const struct filter_group sandbox_job[];
extern const struct filter_group sandbox_loop[];
extern const struct filter_group sandbox_starter[];

#endif
