/* SPDX-License-Identifier: Apache-2.0 */
/* hand.h - a thread of the engine, and the worker (worker.h) that it serves for.
 *
 * IDLE      started, in its sandbox, waits
 *           -> SERVING   hand_put(), main thread
 * SERVING   it has its worker to itself
 *           -> RELIEVED  hand_relieve(), main thread, while it hangs
 *           -> DONE      its worker was stopped
 * RELIEVED  it finishes, when it can, what it is in, for the one session that this is
 *           about, which it holds (INV-QUIET); its worker is another's
 *           -> DONE      by itself; it says so to the main thread
 * DONE      to be joined
 *
 * Threads: main thread.
 */
#ifndef PAGESERVER_HAND_H
#define PAGESERVER_HAND_H

#include "pageserver/worker.h"

struct hand;

/* number: 0 to host->hands - 1, no other has it. ahead: for what kind of worker. At any
 * time: also when the calling thread is in its sandbox. */
int hand_start(struct session_host *host, unsigned number, bool ahead, struct hand **ret,
               struct err *e);
/* Once, after hand_start(): waits until it is in its sandbox. An error means that it could
 * not enter and does nothing; it is to be joined all the same. */
int hand_ready(struct hand *h, struct err *e);
void hand_put(struct hand *h, struct worker *w);
/* Until deadline_ns, UINT64_MAX = for ever. False: it hangs still, is left to itself,
 * and nothing that it has may be freed. One that is IDLE ends then. */
bool hand_join(struct hand *h, uint64_t deadline_ns);
/* after the join */
void hand_free(struct hand *h);

unsigned hand_number(const struct hand *h);
/* NULL = IDLE, or RELIEVED */
struct worker *hand_worker(const struct hand *h);
bool hand_done(const struct hand *h);
struct busy_look hand_look(const struct hand *h);
/* In the step that look is of. Its worker, to be given to another at once; NULL: it has
 * come out. */
struct worker *hand_relieve(struct hand *h, const struct busy_look *look);

#endif
