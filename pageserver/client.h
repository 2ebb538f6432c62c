/* SPDX-License-Identifier: Apache-2.0 */
/* client.h - how a monitor gives its guest's memory into the page server's care.
 *
 * Life of a session, seen from the monitor:
 *   1. ps_client_connect() or ps_client_spawn()
 *   2. ps_client_hello(): the image's descriptors go over, the lane and, in
 *      the shared lane, the image cache's descriptors come back
 *   3. the monitor maps RAM PROT_NONE (MAP_PRIVATE of the cache, or anonymous
 *      in the copy lane), creates userfaultfds (uffd.h), registers the ranges
 *      for missing pages and only then mprotects them (INV-HOLE)
 *   4. ps_client_attach(): duplicates of the userfaultfds go over; from its
 *      return on faults are served and prefetch runs
 *   5. ps_client_event() whenever the socket is readable
 * The monitor keeps its own descriptors of every userfaultfd (INV-HELD), and
 * for a private server those of cache and filled map too: when the server dies
 * it starts another, says hello with them and attaches again (INV-REATTACH).
 *
 * Threads: one thread at a time per client. The thread that serves a client's
 *          events must never touch guest memory.
 * Errors:  0 or negative errno with a sentence; -EPIPE = the server is gone,
 *          -ETIMEDOUT = it does not answer a hello or an attach, or takes nothing.
 */
#ifndef PAGESERVER_CLIENT_H
#define PAGESERVER_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"

#define PS_REGIONS_MAX 512
#define PS_UFFDS_MAX 64
#define PS_IMAGES_MAX 65                /* files of a chain */

enum ps_lane { PS_LANE_AUTO, PS_LANE_SHARED, PS_LANE_COPY };

/* Bytes per second; */
#define PS_PREFETCH_OFF 0ull
#define PS_PREFETCH_UNLIMITED UINT64_MAX

/* One run of guest memory that one userfaultfd watches. 2 MiB aligned but for
 * the ends of RAM. */
struct ps_region {
        uint64_t hva;                   /* in the monitor */
        uint64_t bytes;
        uint64_t gpa;                   /* = offset in image and cache */
        uint32_t uffd;                  /* index into the attach call's list */
};

struct ps_hello {
        /* opened for reading; duplicated: the image, its parent, that one's and so
         * on, exactly as many as the chain has. No name in an image is followed. */
        const int *image_fds;
        size_t nimages;
        const char *image_path;         /* for messages only */
        const char *tag;                /* NULL = default */
        enum ps_lane lane;
        uint64_t prefetch_rate;
        unsigned hold_percent;          /* attach answers only when so much is loaded */
        uint32_t page_bytes;            /* of RAM: 0 = 4 KiB, or 2 MiB (hugetlbfs) */
        /* The userfaultfds report UFFD_EVENT_REMOVE: what is given back is zeros
         * afterwards. Needs the copy lane. */
        bool removes;
        bool record;                    /* for ps_client_ask_record(); the copy lane too */
        /* of an earlier private server, else -1 */
        int cache_fd;                   /* writable */
        int filled_fd;
        /* of an earlier server of any kind, else -1 */
        int map_fd;                     /* what RAM is mapped from already */
        int removed_fd;
};

struct ps_welcome {
        enum ps_lane lane;              /* SHARED or COPY */
        uint64_t disk_bytes;
        uint32_t cluster_bytes;
        /* shared lane; the caller's to close, -1 where not given */
        int map_fd;                     /* read-only cache: what RAM is mapped from */
        int cache_fd;                   /* writable: private servers only */
        int filled_fd;                  /* private servers only */
        int removed_fd;                 /* with removes: for the server's successor */
};

struct ps_stats {
        uint64_t demand_faults;         /* messages served */
        uint64_t demand_bytes;
        uint64_t prefetch_bytes;
        uint64_t zero_bytes;            /* given as zero pages, no read */
        uint64_t present_bytes;         /* in place, of total_bytes */
        uint64_t total_bytes;
        uint64_t bad_clusters;
        /* CLOCK_MONOTONIC; 0 = not yet */
        uint64_t attached_ns;
        uint64_t fault_ns[3];           /* when the 1st, 16th and 256th fault was served */
        uint64_t resident_ns;
        uint64_t removed_bytes;
        uint64_t prefetch_rate;         /* that applies now */
        uint64_t queued;                /* faults that wait for another worker's fetch */
        /* from reading a fault's message to waking its thread; 0 = none yet */
        uint64_t demand_p50_ns;
        uint64_t demand_p99_ns;
        uint64_t demand_max_ns;
};

enum ps_event_type {
        PS_EVENT_RESIDENT,              /* nothing is missing any more */
        PS_EVENT_BAD_PAGE,              /* a fault at gpa cannot be served: text says why;
                                           its thread waits until ps_client_retry() */
        PS_EVENT_STATS,                 /* the answer to ps_client_ask_stats() */
        PS_EVENT_RECORD,                /* the answer to ps_client_ask_record() */
        PS_EVENT_LEASED,                /* to ps_client_lease(): of that number */
};

struct ps_event {
        enum ps_event_type type;
        uint64_t gpa;
        char text[256];
        struct ps_stats stats;
        uint64_t lease;
        int record_fd;                  /* the caller's to close: a memfd, sealed, that holds
                                           what a WORKING-SET section does */
};

struct ps_client;

int ps_client_connect(const char *socket_path, struct ps_client **ret, struct err *e);
/* Starts `program --private` with one end of a socket pair; it ends when the
 * last copy of our end is closed. */
int ps_client_spawn(const char *program, struct ps_client **ret, struct err *e);
void ps_client_free(struct ps_client *client);
/* poll for reading; hang-up = the server is gone */
int ps_client_fd(const struct ps_client *client);
/* The server is lost to us. A spawned one is ended if it should live yet (nobody
 * else talks to it, its successor gets the same memory) and buried. */
void ps_client_abandon(struct ps_client *client);
/* of a spawned server, else 0 */
pid_t ps_client_pid(const struct ps_client *client);

int ps_client_hello(struct ps_client *client, const struct ps_hello *hello,
                    struct ps_welcome *ret, struct err *e);
/* reattach: wake every thread that waits on the ranges, for an earlier server
 * may have read their messages. */
int ps_client_attach(struct ps_client *client, const struct ps_region *regions, size_t n,
                     const int *uffds, size_t nuffds, bool reattach, struct err *e);
/* Receives one event; blocks if there is none. */
int ps_client_event(struct ps_client *client, struct ps_event *ret, struct err *e);
int ps_client_ask_stats(struct ps_client *client, struct err *e);
int ps_client_ask_record(struct ps_client *client, struct err *e);
int ps_client_prefetch(struct ps_client *client, uint64_t rate, struct err *e);
/* Try bad pages again: their waiters are woken and fault anew. */
int ps_client_retry(struct ps_client *client, struct err *e);

/* The reader lease (INV-READER): from PS_EVENT_LEASED on the server reads the userfaultfds no
 * more, until *ret_fd, the caller's, is closed. Whoever reads them passes on what is missing,
 * as soon as it is called for. One lease at a time; number tells the answer to this one from
 * that to an earlier one. Not for clients with `removes`. */
int ps_client_lease(struct ps_client *client, uint64_t number, int *ret_fd, struct err *e);
/* Addresses of missing faults. Any thread; waits for nothing. How many the server has taken,
 * from the first on: not all of them when it does not keep up. -EPIPE: it has gone. */
ssize_t ps_lease_pass(int fd, const uint64_t *hva, size_t n);

#endif
