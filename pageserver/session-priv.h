/* SPDX-License-Identifier: Apache-2.0 */
/* session-priv.h - the inside of a session, for session.c, peer.c and serve.c. */
#ifndef PAGESERVER_SESSION_PRIV_H
#define PAGESERVER_SESSION_PRIV_H

#include <sys/types.h>

#include "common/histogram.h"
#include "pageserver/bits.h"
#include "pageserver/outbox.h"
#include "pageserver/prefetch.h"
#include "pageserver/record.h"
#include "pageserver/session.h"
#include "pageserver/sink.h"

struct session_counters {
        _Atomic uint64_t demand_faults;
        _Atomic uint64_t demand_bytes;
        _Atomic uint64_t prefetch_bytes;
        _Atomic uint64_t zero_bytes;
        _Atomic uint64_t attached_ns;
        _Atomic uint64_t fault_ns[3];
        _Atomic uint64_t resident_ns;
        _Atomic uint64_t queued;                /* faults that wait for another worker */
        /* from reading the message to waking its thread */
        struct histogram demand_ns;
        struct histogram prefetch_ns;           /* of one step */
};

struct session {
        /* set at the start, constant after */
        struct session_host *host;
        unsigned id;
        int pidfd;                              /* -1 = the peer cannot be seen */
        pid_t pid;                              /* 0 = cannot be seen */
        uid_t uid;

        /* main thread only */
        int sock;
        bool hung_up;
        void *peer_state;                       /* its peer's (peer.h) */
        uint64_t hanging_since_ns;              /* 0 = it does not, or not for long */

        /* set by the main thread before SERVING, constant after */
        char *path;                             /* of the image, as the client calls it */
        struct qs_ram_range *working_set;       /* as the image says it; NULL = it does not */
        size_t working_set_n;
        struct cache *cache;                    /* shared lane */
        struct source *source;                  /* cache's, or of the copy lane: own, */
        bool source_lent;                       /* unless it is its door's */
        struct fillmap *map;                    /* cache's, or own in the copy lane */
        struct regions *regions;
        struct sink sink;
        struct removed *removed;                /* NULL = nothing is given back */
        bool removed_is_new;                    /* not of an earlier server */
        bool recording;                         /* first touches go into record */
        uint32_t page_bytes;                    /* of the client's memory */
        unsigned cluster_bits;
        uint64_t clusters;                      /* of the image */
        unsigned unit_bits;                     /* cluster or page, the larger */
        uint64_t units;
        uint64_t total_bytes;
        unsigned hold_percent;
        unsigned nuffds;
        int uffd[PSMSG_UFFDS_MAX];
        struct feed feed[PSMSG_UFFDS_MAX];

        /* home worker only (id modulo workers) */
        uint64_t next_look_ns;

        /* any thread, atomic or with a lock of their own */
        _Atomic enum session_state state;
        _Atomic unsigned holders;               /* workers that know it, threads that hang */
        _Atomic enum withheld withheld;
        _Atomic bool holding;                   /* ATTACHED is held back */
        _Atomic uint64_t asked_rate;            /* of prefetch, before the host's limit */
        _Atomic int feed_error;                 /* negative errno of a broken feed */
        struct bits zeroed;                     /* units given as zero pages */
        struct bits bad;                        /* units that prefetch leaves alone */
        struct record record;                   /* all zeros if not recording */
        _Atomic size_t announced;               /* extents of the working set, to the disk */
        struct prefetch prefetch;
        struct readers readers;                 /* see there */
        struct outbox outbox;
        struct session_counters count;
};

static inline uint64_t session_unit_bytes(const struct session *s)
{
        return 1ull << s->unit_bits;
}

static inline uint64_t session_gpa(const struct session *s, uint64_t unit)
{
        return unit << s->unit_bits;
}

/* Bytes of the client's regions that are in place. Looks at every bit. */
uint64_t session_present_bytes(const struct session *s);

/* the rate that applies after the host's limit */
uint64_t session_rate(const struct session *s, uint64_t asked);

/* ATTACHED may go out now; at most once */
void session_hold_done(struct session *s);

#endif
