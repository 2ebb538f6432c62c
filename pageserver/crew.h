/* SPDX-License-Identifier: Apache-2.0 */
/* crew.h - all workers of a server and the threads that serve for them.
 *
 * Every worker has a thread at all times, or at the end none. When one hangs another takes
 * its worker; of such hanging ones there are at most HANDS_SPARE.
 *
 * Threads: main thread.
 */
#ifndef PAGESERVER_CREW_H
#define PAGESERVER_CREW_H

#include "pageserver/hand.h"

struct crew;

/* host->workers and the like are set. On failure *ret is to be stopped and freed as well. */
int crew_start(struct session_host *host, struct crew **ret, struct err *e);
/* once: waits until all are in their sandbox */
int crew_ready(struct crew *c, struct err *e);
/* Stops all and joins them, for so long. Returns how many hang still: then
 * neither the crew nor any session may be freed, and the process is to end. */
unsigned crew_stop(struct crew *c, uint64_t deadline_ns);
/* After a stop that left none, or a failed start. Sessions that workers still know are let
 * go. */
void crew_free(struct crew *c);

void crew_kick(struct crew *c);
/* to every worker */
void crew_give(struct crew *c, struct session *s);

/* Calls fn for each thread that serves or is relieved. */
void crew_each(struct crew *c, void (*fn)(void *ctx, struct hand *h), void *ctx);
/* The thread hangs in the step that look is of: another takes its worker. -EAGAIN: it has
 * come out meanwhile. -ENOSPC: there are as many as there may be. */
int crew_relieve(struct crew *c, struct hand *h, const struct busy_look *look, struct err *e);
/* Those that were relieved and are done. */
void crew_reap(struct crew *c);
/* that were relieved and hang still */
unsigned crew_relieved(const struct crew *c);
/* there are not enough left for one more client that takes all there are */
bool crew_is_short(const struct crew *c);

#endif
