/* SPDX-License-Identifier: Apache-2.0 */
/* crew.h - the same function on several threads, until all have returned.
 *
 * The calling thread is one of them, so that work is done even where no thread
 * can be created. The helpers take no signals. The function shares out its
 * work by an atomic counter in ctx, and sees to it itself that the others stop
 * early when it fails.
 *
 * Errors: those of the first thread that failed.
 */
#ifndef QCOWSTORE_CREW_H
#define QCOWSTORE_CREW_H

#include "common/err.h"

/* more threads than this do not make one file faster */
#define CREW_MAX 64

typedef int crew_fn(void *ctx, struct err *e);

/* 0 = one per online CPU */
unsigned crew_size(unsigned wanted);
int crew_run(unsigned threads, crew_fn *work, void *ctx, struct err *e);

#endif
