/* SPDX-License-Identifier: Apache-2.0 */
/* worker.h - what one thread does all the time: serves faults, or works ahead of them.
 *
 * Demand workers do nothing but serve faults. What no fault asked for is the work of
 * others whose threads have a lower priority: a guest thread that is woken on the CPU
 * of a server thread does not push one of equal priority aside, and would wait until
 * its time is over (measured: 4 ms). So the scheduler, not we, puts demand first.
 *
 * Every worker knows every session. One that is pinned polls all feeds, so that the
 * worker on the faulting thread's own CPU, which needs no wake-up across CPUs, can be
 * the first; else feeds are dealt.
 *
 * A worker is what is to be done, not who does it: its thread (hand.h) may hang for one
 * client, and is relieved by another then, which finds everything as it was. Feeds of a
 * session that is withheld (watch.h) are not polled.
 *
 * Threads: main thread for all functions but worker_kick(), which is anyone's, and
 *          worker_serve().
 */
#ifndef PAGESERVER_WORKER_H
#define PAGESERVER_WORKER_H

#include "pageserver/serve.h"
#include "pageserver/session.h"

/* Of either kind. Beyond this many CPUs the kernel's locks of one address space are
 * the limit. */
#define WORKERS_MAX 32
/* Of one server; each may bring PS_UFFDS_MAX descriptors, times this stays below
 * the kernel's default limit of open files for a service (512 K). */
#define SESSIONS_MAX 256
/* Threads that hang and were relieved, of all clients. One whose image hangs takes at most
 * those of one server; with the usual 2 to 8 CPUs this is 8 to 32 clients. Each costs its
 * stack and a buffer. */
#define HANDS_SPARE 128

struct worker;

/* index: 0 to host->workers - 1 serve faults, those from there to host->threads - 1
 * work ahead. */
int worker_new(struct session_host *host, unsigned index, struct worker **ret, struct err *e);
/* nobody serves; sessions it still knows are let go */
void worker_free(struct worker *w);
bool worker_is_ahead(const struct worker *w);
unsigned worker_index(const struct worker *w);
/* the session counts as held from here on (INV-QUIET) */
void worker_give(struct worker *w, struct session *s);
/* something changed that no feed tells: states, rates, retries */
void worker_kick(struct worker *w);
/* whoever serves returns soon */
void worker_stop(struct worker *w);

/* The loop, by the one thread that serves now, until it is stopped: true. False: it was
 * relieved, and w is another's. */
bool worker_serve(struct worker *w, struct serve_ctx *ctx);

#endif
