/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox-calls.h - the system calls of the page server, in groups with reasons.
 *
 * Whoever makes a thread ask the kernel for something new adds it here, to a group or
 * with a reason of its own; tests/flow/pageserver-sandbox.sh and all other flows run
 * with the list in force, and --sandbox log names what is missing.
 * pageserver/make-filters turns them into programs when the page server is built
 * (sandbox-filters.h); the page server itself does not have these lists.
 */
#ifndef PAGESERVER_SANDBOX_CALLS_H
#define PAGESERVER_SANDBOX_CALLS_H

#include <seccomp.h>
#include <stddef.h>

/* alternatives for one call are rows of their own */
struct sandbox_call {
        int number;
        unsigned limits;                /* all of them apply; 0 = with any arguments */
        struct scmp_arg_cmp limit[2];
};

struct sandbox_group {
        const char *reason;             /* why a thread needs them, or must not */
        const struct sandbox_call *call;
        size_t n;
};

/* for every thread; for the main thread besides; and what kills. NULL ends each. */
extern const struct sandbox_group sandbox_every[];
extern const struct sandbox_group sandbox_main[];
extern const struct sandbox_group sandbox_deadly[];

#endif
