/* SPDX-License-Identifier: Apache-2.0 */
/* crew.h - the same function on several threads, until all have returned.
 *
 * The calling thread is one of them, so that work is done even where no thread
 * can be created. The helpers take no signals. The function shares out its
 * work by an atomic counter in ctx, and sees to it itself that the others stop
 * early when it fails.
 *
 * A crew in the background stands behind all who work at the usual priority, such
 * as the vCPUs of a guest that is saved: a thread that wakes pushes aside one of
 * less weight at once, and waits for one of equal weight (4 ms were measured). All
 * its threads are helpers, and the caller only waits. For a thread may always
 * lower itself, but raise itself again only with RLIMIT_NICE or CAP_SYS_NICE,
 * and whether it may is not known until it is too late. Only where not even one
 * thread can be created the caller works, as it is.
 *
 * Errors: those of the first thread that failed.
 */
#ifndef QCOWSTORE_CREW_H
#define QCOWSTORE_CREW_H

#include <stdbool.h>

#include "common/err.h"

/* more threads than this do not make one file faster */
#define CREW_MAX 64
/* of a crew in the background: a third of what a guest's CPU gets beside it; with 10 it is a
 * tenth, and a save beside CPUs that are all busy takes ten times as long */
#define CREW_NICE 5

typedef int crew_fn(void *ctx, struct err *e);

/* 0 = one per online CPU */
unsigned crew_size(unsigned wanted);
int crew_run(unsigned threads, bool background, crew_fn *work, void *ctx, struct err *e);

#endif
