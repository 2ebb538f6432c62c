/* SPDX-License-Identifier: Apache-2.0 */
/* filter.h - filters of system calls, as programs for seccomp(2).
 *
 * A part's make-filters writes them as constants when the part is built, from lists with
 * reasons (filter-calls.h), by libseccomp (filter-make.h). A thread only loads one: making
 * two takes half a millisecond, which a guest would wait for.
 *
 * Threads: any; loading concerns the calling thread and cannot be undone.
 */
#ifndef COMMON_FILTER_H
#define COMMON_FILTER_H

#include <linux/filter.h>
#include <stdint.h>

#include "common/err.h"

/* in lists and programs stands for the number of the process, which is known only when
 * a filter is loaded; nobody has it, because Linux gives none above 2^22 */
#define FILTER_PID INT32_MAX

struct filter {
        unsigned short steps;           /* 0: calls are not limited */
        unsigned short pid_step;        /* the one whose .k is FILTER_PID; 0 = none */
        const struct sock_filter *step;
};

/* A copy with the number of this process in it; ret->filter is heap, the caller's. */
int filter_copy(const struct filter *made, struct sock_fprog *ret, struct err *e);
/* The thread has no_new_privs. len 0: does nothing. */
int filter_load(const struct sock_fprog *filter, struct err *e);

#endif
