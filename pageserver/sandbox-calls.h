/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox-calls.h - the system calls of the page server, in groups with reasons.
 *
 * Whoever makes a thread ask the kernel for something new adds it here, to a group or
 * with a reason of its own; tests/flow/pageserver-sandbox.sh and all other flows run
 * with the list in force, and --sandbox log names what is missing. What all threads do is
 * in common/filter-calls.h.
 * pageserver/make-filters turns them into programs when the page server is built
 * (sandbox-filters.h); the page server itself does not have these lists.
 */
#ifndef PAGESERVER_SANDBOX_CALLS_H
#define PAGESERVER_SANDBOX_CALLS_H

#include "common/filter-calls.h"

/* for every thread; for the main thread besides */
extern const struct filter_group sandbox_every[];
extern const struct filter_group sandbox_main[];

#endif
