/* SPDX-License-Identifier: Apache-2.0 */
/* metrics.h - what the server does, as others may read it: taken at one moment into
 * plain structs, written from those as JSON and as Prometheus text.
 *
 * Times are taken one after the other while workers go on, so that sums may differ
 * by what happens meanwhile.
 * Ownership: a look holds its own copies; nothing of it points into the server.
 * Threads:   taking on the main thread; writing is pure.
 */
#ifndef PAGESERVER_METRICS_H
#define PAGESERVER_METRICS_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "common/histogram.h"
#include "pageserver/session.h"

struct members;

/* As much as is shown of a path and of a tag, with the NUL. */
#define METRICS_PATH_BYTES 1024
#define METRICS_TAG_BYTES 64

struct metrics_client {
        unsigned id;
        pid_t pid;                      /* 0 = cannot be seen */
        uid_t uid;
        const char *state;
        const char *lane;               /* "" = not chosen yet */
        char image[METRICS_PATH_BYTES];
        char tag[METRICS_TAG_BYTES];
        uint64_t region_bytes;
        uint64_t present_bytes;         /* of them */
        uint64_t demand_faults;
        uint64_t demand_bytes;
        uint64_t prefetch_bytes;
        uint64_t zero_bytes;
        uint64_t removed_bytes;
        uint64_t bad_units;
        uint64_t queued_faults;
        uint64_t prefetch_rate;         /* that is allowed, also while paused */
        bool prefetch_paused;
        uint64_t attached_for_ns;       /* 0 = not yet */
        uint64_t resident_after_ns;     /* since attaching; 0 = not yet */
        uint64_t hanging_for_ns;        /* a thread, in what it does for it; 0 = none */
        struct histogram_view demand;
        struct histogram_view prefetch;
};

struct metrics_cache {
        uint64_t id;                    /* never two of the same at a time */
        uid_t uid;
        char image[METRICS_PATH_BYTES];
        char tag[METRICS_TAG_BYTES];
        unsigned clients;
        uint64_t bytes;
        uint64_t filled_bytes;
        uint64_t memory_bytes;          /* that the host spends on it */
};

struct metrics {
        unsigned workers;
        unsigned hanging;               /* threads */
        uint64_t clients_ever;
        struct session_sum all;         /* of all clients there ever were */
        struct metrics_client *client;
        size_t clients;
        struct metrics_cache *cache;
        size_t caches;
};

/* main thread */
void metrics_look_at_client(struct session *s, uint64_t now_ns, struct metrics_client *ret);
void metrics_look_at_cache(const struct cache *c, struct metrics_cache *ret);

/* an object, the caller's to put */
struct json_object *metrics_client_json(const struct metrics_client *c);
struct json_object *metrics_cache_json(const struct metrics_cache *c);
/* Prometheus' text format 0.0.4; errors are the stream's */
#define METRICS_TEXT_TYPE "text/plain; version=0.0.4; charset=utf-8"
void metrics_text(const struct metrics *m, FILE *out);
/* Main thread: of all clients and caches, now. *ret_text is the caller's to free.
 * 0 or -ENOMEM. */
int metrics_print(const struct members *members, char **ret_text, size_t *ret_bytes);

#endif
