/* SPDX-License-Identifier: Apache-2.0 */
/* keeper.h - what lets a daemon's caches outlive its clients and its processes.
 *
 * Takes what the service manager gives at the start (the listening socket, the caches
 * of the process before), has new caches put away, drops orphans that nobody comes
 * back for, and gives kept caches up when the host is short of memory.
 *
 * At the gate: a process that is started to follow one that still serves is given a
 * socket named GATE. It may not take in caches or clients before that one is gone
 * (INV-ONESERVER, supervise.h); then what is kept and the word START come through.
 *
 * Threads: main thread.
 */
#ifndef PAGESERVER_KEEPER_H
#define PAGESERVER_KEEPER_H

#include <event2/event.h>

#include "common/err.h"
#include "pageserver/cache.h"
#include "pageserver/fcstay.h"
#include "pageserver/log.h"

/* names of descriptors that are no caches */
#define KEEPER_SOCKET "socket"
#define KEEPER_GATE "gate"

/* Clients look for their server the moment it is lost, and are back within
 * milliseconds; a minute is for those of a host that swaps, and for one that is
 * being debugged. After it a client gets the copy lane. */
#define ORPHAN_SECONDS 60

struct keeper;

struct keeper_host {
        struct event_base *base;
        struct cache_list *caches;
        struct fcstay **stays;          /* Firecracker's guests of the process before */
        struct log *log;
        /* Once: clients may be taken in. listener: from the manager, taken; or -1. */
        void (*open)(void *ctx, int listener);
        /* The process before did not make way: this one has to end. */
        void (*refused)(void *ctx);
        void *ctx;
};

/* host is copied. open() is called in here, or from the event loop after the gate. */
int keeper_start(const struct keeper_host *host, struct keeper **ret, struct err *e);
/* From here on nothing is taken from the store: it is the next process's. */
void keeper_leave(struct keeper *keeper);
void keeper_stop(struct keeper *keeper);

#endif
