/* SPDX-License-Identifier: Apache-2.0 */
/* server-priv.h - shared by the files of the service. */
#ifndef VMM_SERVE_SERVER_PRIV_H
#define VMM_SERVE_SERVER_PRIV_H

#include <event2/event.h>
#include <stdint.h>

#include "vmm/rundir.h"
#include "vmm/serve/door.h"
#include "vmm/serve/exchange.h"
#include "vmm/serve/pool.h"
#include "vmm/serve/server.h"

#define SERVE_DOORS_MAX 2

/* What GET /metrics shows. */
struct serve_counts {
        uint64_t requests;
        uint64_t created, create_failed, create_refused;
        uint64_t pooled;                /* of those created */
        uint64_t snapshots;
};

/* Work that is under way: the server ends it when it ends itself. First in its struct. */
struct errand {
        struct errand *next, **link;
        void (*drop)(struct errand *);
};

struct server {
        const struct serve_options *options;
        struct event_base *base;
        struct door *door[SERVE_DOORS_MAX];
        struct pool *pool;
        struct event *signal_event[2];
        struct errand *errands;
        unsigned creating;
        struct serve_counts counts;
};

void errand_begin(struct server *s, struct errand *e, void (*drop)(struct errand *));
void errand_end(struct errand *e);

/* name: in the path, where its route has one; else "" */
typedef void serve_act_fn(struct server *s, struct exchange *x, const char *name);

/* creation.c */
serve_act_fn serve_create;
/* vms.c */
serve_act_fn serve_list, serve_show, serve_patch, serve_snapshot;
/* ending.c */
serve_act_fn serve_delete;
/* metrics.c */
serve_act_fn serve_metrics;

#endif
