/* SPDX-License-Identifier: Apache-2.0 */
/* crew.h - the same function on several threads, until all have returned.
 *
 * The calling thread is one of them, so that work is done even where no thread
 * can be created. The helpers take no signals. The function shares out its
 * work by an atomic counter in ctx.
 */
#ifndef QCOWSTORE_CREW_H
#define QCOWSTORE_CREW_H

/* more threads than this do not make one file faster */
#define CREW_MAX 64

/* 0 = one per online CPU */
unsigned crew_size(unsigned wanted);
void crew_run(unsigned threads, void (*work)(void *ctx), void *ctx);

#endif
