/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox-filters.h - the filters of system calls, as programs for seccomp(2).
 *
 * pageserver/make-filters writes them as constants when the page server is built, from
 * the lists of sandbox-calls.c, by libseccomp. A server only loads them: making two takes
 * half a millisecond, which each private server's guest would wait for.
 *
 * Only builds that limit system calls have them: with libseccomp, without sanitizers.
 */
#ifndef PAGESERVER_SANDBOX_FILTERS_H
#define PAGESERVER_SANDBOX_FILTERS_H

#include <linux/filter.h>
#include <stdint.h>

#include "pageserver/sandbox.h"

#define SANDBOX_MODES (SANDBOX_ON + 1)
#define SANDBOX_ROLES (SANDBOX_MAIN + 1)

/* in lists and programs stands for the number of the process, which is known only when
 * a filter is loaded; nobody has it, because Linux gives none above 2^22 */
#define SANDBOX_PID INT32_MAX

struct sandbox_filter {
        unsigned short steps;           /* 0: this mode has none */
        unsigned short pid_step;        /* the one whose .k is SANDBOX_PID */
        const struct sock_filter *step;
};

extern const struct sandbox_filter sandbox_filters[SANDBOX_MODES][SANDBOX_ROLES];

#endif
