/* SPDX-License-Identifier: Apache-2.0 */
/* memroom.h - how much memory may still be taken before the kernel ends processes to have
 * it back: this one, perhaps, with the guest in it.
 *
 * A guess, of what the host says is available, with swap, and of the limits of the control
 * groups (either version) that the process is in. Others take memory at the same time.
 * Threads: any.
 */
#ifndef VMM_MEMROOM_H
#define VMM_MEMROOM_H

#include <stdint.h>

/* UINT64_MAX: nothing says */
uint64_t memroom_bytes(void);

/* The parts of it. text: /proc/meminfo */
uint64_t memroom_host(const char *text);
/* text: /proc/self/cgroup; root: where the hierarchies are mounted */
uint64_t memroom_groups(const char *text, const char *root);

#endif
