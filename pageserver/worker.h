/* SPDX-License-Identifier: Apache-2.0 */
/* worker.h - a thread that serves faults, or one that works ahead of them.
 *
 * Demand workers do nothing but serve faults. What no fault asked for is the work of
 * threads of their own with a lower priority: a guest thread that is woken on the CPU
 * of a server thread does not push one of equal priority aside, and would wait until
 * its time is over (measured: 4 ms). So the scheduler, not we, puts demand first.
 *
 * Every worker knows every session. One that is pinned polls all feeds, so that the
 * worker on the faulting thread's own CPU, which needs no wake-up across CPUs, can be
 * the first; else feeds are dealt.
 *
 * Threads: main thread for all functions but worker_kick(), which is anyone's.
 */
#ifndef PAGESERVER_WORKER_H
#define PAGESERVER_WORKER_H

#include "pageserver/session.h"

/* Of either kind. Beyond this many CPUs the kernel's locks of one address space are
 * the limit. */
#define WORKERS_MAX 32
/* Of one server; each may bring PS_UFFDS_MAX descriptors, times this stays below
 * the kernel's default limit of open files for a service (512 K). */
#define SESSIONS_MAX 256

struct worker;

/* index: 0 to host->workers - 1 serve faults, those from there to host->threads - 1
 * work ahead. At any time: also when the calling thread is in its sandbox. */
int worker_start(struct session_host *host, unsigned index, struct worker **ret,
                 struct err *e);
/* Once, after worker_start(): waits until the thread is in its sandbox. An error means
 * that it could not enter and does nothing; it is to be stopped all the same. */
int worker_ready(struct worker *w, struct err *e);
/* joins the thread; sessions it still knows are let go */
void worker_stop(struct worker *w);
/* the session counts as held from here on (INV-QUIET) */
void worker_give(struct worker *w, struct session *s);
/* something changed that no feed tells: states, rates, retries */
void worker_kick(struct worker *w);

#endif
