/* SPDX-License-Identifier: Apache-2.0 */
/* fetch-priv.h - what fetch.c (life, requests), fetch-read.c (fetchers) and fetch-take.c
 * (the pusher's side) share. All *_locked: under f->lock. */
#ifndef PAGESERVER_ADAPTERS_QEMU_FETCH_PRIV_H
#define PAGESERVER_ADAPTERS_QEMU_FETCH_PRIV_H

#include <pthread.h>

#include "common/lock.h"
#include "pageserver/adapters/qemu/fetch.h"
#include "pageserver/adapters/qemu/load.h"
#include "pageserver/adapters/qemu/requests.h"

/* A read of the background: long enough for the file, short enough for the cache. */
#define FETCH_LOAD_BYTES (256u << 10)
/* Loads ahead of the pusher, and loads for requests, where units are small. */
#define FETCH_AHEAD_MAX 8u
#define FETCH_URGENT_MAX 16u
#define FETCH_LOADS_MAX (FETCH_AHEAD_MAX + FETCH_URGENT_MAX)
/* Huge pages make loads huge: then they are fewer. */
#define FETCH_AHEAD_BYTES (8u << 20)
#define FETCH_URGENT_BYTES (32u << 20)
#define FETCH_THREADS_MAX 16u

struct fetcher {
        struct fetch *fetch;
        struct qs_reader *reader;
        bool urgent_only;
        bool started;
        pthread_t thread;
};

struct fetch {
        /* constant after fetch_new() */
        struct hostpages *pages;
        bool zeros;
        unsigned nahead;                /* loads [0, nahead) are the background's */
        unsigned nloads;
        unsigned nfetchers;
        struct fetcher fetcher[FETCH_THREADS_MAX + 1];

        struct lock lock;
        struct cond work;               /* for fetchers, and fetch_want() that waits for room */
        struct cond ready;              /* for the pusher */
        struct prefetch order;          /* a lock of its own, inside of this one */
        struct requests requests GUARDED_BY(lock);
        struct load load[FETCH_LOADS_MAX] GUARDED_BY(lock);
        uint64_t tickets GUARDED_BY(lock);
        uint64_t taken_bytes GUARDED_BY(lock);  /* of all units that are */
        uint64_t until_bytes GUARDED_BY(lock);
        bool limited GUARDED_BY(lock);          /* until_bytes is not all there is */
        bool going GUARDED_BY(lock);
        bool held GUARDED_BY(lock);
        bool swept GUARDED_BY(lock);            /* nothing is left to pick */
        /* A page that the batch before has only a part of goes on before all else. */
        struct load *begun GUARDED_BY(lock);
        uint64_t begun_at GUARDED_BY(lock), begun_end GUARDED_BY(lock);
        bool closed GUARDED_BY(lock);
        bool failed GUARDED_BY(lock);
        struct err err GUARDED_BY(lock);
        struct fetch_stats stats GUARDED_BY(lock);
};

/* The page was sent, or a load has or gets it: true. Else somebody must fetch it. */
bool fetch_admit_locked(struct fetch *f, uint64_t page) REQUIRES(f->lock);
/* NULL: all are in use */
struct load *fetch_free_load_locked(struct fetch *f, bool urgent) REQUIRES(f->lock);
void fetch_work(struct fetcher *w);

#endif
