/* SPDX-License-Identifier: Apache-2.0 */
/* worker.h - a thread that serves faults and, when none waits, prefetches.
 *
 * Every worker knows every session: it polls the feeds dealt to it and helps with
 * the prefetch of all. It looks at its feeds before each step of background work:
 * so a demand fault waits for one cluster's work at most.
 *
 * Threads: main thread for all functions but worker_kick(), which is anyone's.
 */
#ifndef PAGESERVER_WORKER_H
#define PAGESERVER_WORKER_H

#include "pageserver/session.h"

/* Beyond this many CPUs the kernel's locks of one address space are the limit. */
#define WORKERS_MAX 64
/* Of one server; each may bring PS_UFFDS_MAX descriptors, times this stays below
 * the kernel's default limit of open files for a service (512 K). */
#define SESSIONS_MAX 256

struct worker;

int worker_start(unsigned index, struct worker **ret, struct err *e);
/* joins the thread; sessions it still knows are let go */
void worker_stop(struct worker *w);
/* the session counts as held from here on (INV-QUIET) */
void worker_give(struct worker *w, struct session *s);
/* something changed that no feed tells: states, rates, retries */
void worker_kick(struct worker *w);

#endif
