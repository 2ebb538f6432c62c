/* SPDX-License-Identifier: Apache-2.0 */
/* ps-procs.h - what /proc says of other processes of a test. */
#ifndef TESTS_STRESS_PS_PROCS_H
#define TESTS_STRESS_PS_PROCS_H

#include <sys/types.h>

/* 0 = none, or several */
pid_t procs_only_child(pid_t parent);
/* open descriptors, and those of them that lead to memfds */
unsigned procs_fds(pid_t pid);
unsigned procs_memfds(pid_t pid);
/* what it has used of all processors */
unsigned procs_cpu_ms(pid_t pid);

#endif
