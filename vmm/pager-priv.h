/* SPDX-License-Identifier: Apache-2.0 */
/* pager-priv.h - the inside of a pager: for pager.c, and for pager-server.c, which finds it
 * servers.
 */
#ifndef VMM_PAGER_PRIV_H
#define VMM_PAGER_PRIV_H

#include <pthread.h>

#include "common/lock.h"
#include "vmm/greeting.h"
#include "vmm/lease.h"
#include "vmm/pace.h"
#include "vmm/pager.h"
#include "vmm/recording.h"
#include "vmm/stripes.h"

struct pager {
        /* set before the watch thread starts, constant after */
        struct greeting greeting;
        char *socket;
        bool given;                     /* the first server was started by another */
        unsigned hold_percent;
        struct starter *starter;        /* of whoever adopted it, as the next two */
        pager_notify_fn *notify;
        void *ctx;
        struct stripes stripes;
        int wake_fd;
        pthread_t watch;
        bool watching;

        /* watch thread (and pager_serve() before it) */
        struct ps_client *client;

        /* any thread */
        struct pace pace;
        struct recording recording;
        struct lease lease;

        struct lock lock;
        struct cond answered;
        struct pager_news news GUARDED_BY(lock);
        uint64_t answers GUARDED_BY(lock);
        bool want_stats GUARDED_BY(lock);
        bool want_retry GUARDED_BY(lock);
        bool want_prefetch GUARDED_BY(lock);
        bool quit GUARDED_BY(lock);
};

void pager_set_lane(struct pager *p, enum ps_lane lane);

/* The watch thread, or who starts before there is one. */
int pager_server_start(struct pager *p, bool is_private, struct ps_client **ret, struct err *e);
int pager_server_hello(struct pager *p, struct ps_client *client, enum ps_lane lane,
                       unsigned hold, uint64_t prefetch_rate, struct ps_welcome *ret,
                       struct err *e);
int pager_server_attach(struct pager *p, struct ps_client *client, bool again, struct err *e);
/* One attempt at another server in the place of one that was lost: p->client. */
int pager_server_replace(struct pager *p, bool daemon_only, struct err *e);

#endif
