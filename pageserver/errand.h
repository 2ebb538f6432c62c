/* SPDX-License-Identifier: Apache-2.0 */
/* errand.h - what the main thread has another do, because it may hang: to open an image,
 * and to close one, for a file system is asked at both.
 *
 * Each errand has a thread of its own, which inherits the main thread's sandbox and ends
 * with it. Whoever has waited long enough gives an errand up; what it brings is then put
 * away by the one thread that can, its own.
 *
 * RUNNING   run() is called
 *           -> DONE      its thread; the main thread is poked, and finishes it
 *           -> GIVEN_UP  errand_give_up(), main thread
 * GIVEN_UP  its thread calls drop() when run() has returned, if ever
 *
 * INV-ERRANDS: at most twice ERRANDS_MAX are under way; the main thread waits for none.
 *
 * Threads: main thread.
 */
#ifndef PAGESERVER_ERRAND_H
#define PAGESERVER_ERRAND_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "pageserver/worker.h"

/* One for each client that there may be, so that none is turned away because the images of
 * others take their time. Closing has as many again, for what is opened is to be closed. */
#define ERRANDS_MAX SESSIONS_MAX

struct errand;

struct errand_ops {
        void (*run)(void *arg);
        /* instead of errand_finish(): nobody waits, and arg is its own; NULL = nothing */
        void (*drop)(void *arg);
};

/* -EBUSY when too many hang */
int errand_start(struct session_host *host, const struct errand_ops *ops, void *arg,
                 struct errand **ret, struct err *e);
/* false: not yet; the host is poked when it is. True: *errand is freed and NULL. */
bool errand_finish(struct errand **errand);
/* also of one that is DONE */
void errand_give_up(struct errand **errand);
/* One that nobody waits for. Where no thread can be had it is run here; where too many
 * hang, not at all. */
void errand_send(struct session_host *host, const struct errand_ops *ops, void *arg);
/* Waits until none is under way, or so long. Returns how many are. */
unsigned errands_stop(struct session_host *host, uint64_t deadline_ns);

#endif
