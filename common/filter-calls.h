/* SPDX-License-Identifier: Apache-2.0 */
/* filter-calls.h - lists of system calls, in groups with reasons, and those groups that
 * threads of every part have in common.
 *
 * Only what makes filters (filter-make.h) and what tests them has these lists, the programs
 * themselves have not.
 */
#ifndef COMMON_FILTER_CALLS_H
#define COMMON_FILTER_CALLS_H

#include <seccomp.h>
#include <stddef.h>

#include "common/check.h"

/* alternatives for one call are rows of their own */
struct filter_call {
        int number;
        unsigned limits;                /* all of them apply; 0 = with any arguments */
        struct scmp_arg_cmp limit[2];
};

struct filter_group {
        const char *reason;             /* why a thread needs them, or must not */
        const struct filter_call *call;
        size_t n;
};

#define IS(arg, want)              { arg, SCMP_CMP_EQ, want, 0 }
#define BITS(arg, mask, want)      { arg, SCMP_CMP_MASKED_EQ, mask, want }
#define CALL(name)                 { SCMP_SYS(name), 0, { { 0 } } }
#define CALL_WHEN(name, arg, want) { SCMP_SYS(name), 1, { IS(arg, want) } }
#define CALL_WHEN_BOTH(name, first, second) { SCMP_SYS(name), 2, { first, second } }
#define CALL_BITS(name, arg, mask, want) { SCMP_SYS(name), 1, { BITS(arg, mask, want) } }
#define GROUP(reason, calls)       { reason, calls, ARRAY_SIZE(calls) }
#define GROUPS_END                 { NULL, NULL, 0 }

/* Each is an array that GROUPS_END ends. */

/* what every thread does, whatever its work is */
extern const struct filter_group filter_living[];
/* what kills: no libc makes it by itself, and an intruder wants it first */
extern const struct filter_group filter_deadly[];
/* deadly for who starts no programs; and for who ends none */
extern const struct filter_group filter_programs[];
extern const struct filter_group filter_kills[];

#endif
