/* SPDX-License-Identifier: Apache-2.0 */
/* watch.h - finds threads that hang, and keeps that from all but their own clients.
 *
 * Theory of operation
 *
 * A few times a second, as long as there are clients, the main thread looks which step
 * each thread is in (busy.h). One that is in the same step for WATCH_HANG_MS hangs. So do,
 * already after WATCH_CROWD_MS, all that serve faults if every one of them is held up and
 * a client is there that none of them is held up for: it would wait for them.
 *
 * What a thread hangs for is withheld (session.h): its session, and where it reads an
 * image all sessions of that image, for the next thread would hang there too. Then another
 * thread takes its worker. Whoever comes out says so; what nobody hangs for any more is
 * served again, and its guest goes on by itself.
 *
 * INV-APART: a client for which threads hang keeps the others waiting once, for no longer
 *            than it takes to be seen, and takes at most the threads that there were.
 *
 * Where no more threads may be started the session is ended with a sentence: its client
 * goes to another server, and the worker waits for the thread.
 *
 * Threads: main thread.
 */
#ifndef PAGESERVER_WATCH_H
#define PAGESERVER_WATCH_H

#include "pageserver/member.h"

#define WATCH_HANG_MS 2000
#define WATCH_CROWD_MS 250

struct watch;

/* members outlives it */
int watch_new(struct members *members, struct watch **ret, struct err *e);
void watch_free(struct watch *w);
/* there is a client to be looked after */
void watch_wake(struct watch *w);
/* A thread may have come out, or a client has come, of an image for which one hangs: before
 * the workers are given it. */
void watch_poked(struct watch *w);
/* threads that hang, whether another has their worker or not */
unsigned watch_hanging(const struct watch *w);

#endif
