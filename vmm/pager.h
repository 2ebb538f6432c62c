/* SPDX-License-Identifier: Apache-2.0 */
/* pager.h - the monitor's side of lazy revert: RAM in a page server's care.
 *
 * Theory of operation is in pager.c.
 * Threads: pager_start() or its steps by the thread that builds the VM; afterwards a watch
 *          thread of its own owns the connection and never touches guest
 *          memory, so that a dead server can always be replaced (INV-REATTACH).
 *          The other functions may be called from any thread.
 */
#ifndef VMM_PAGER_H
#define VMM_PAGER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "common/rate.h"
#include "pageserver/client.h"
#include "qcowstore/store.h"
#include "vmm/ram.h"
#include "vmm/stripes.h"

struct pager;
struct starter;

struct pager_options {
        const struct qs_image *image;   /* files and tag are taken from it */
        const char *image_path;
        const char *socket;             /* a running page server; NULL = a private one */
        enum ps_lane lane;
        uint64_t prefetch_rate;
        unsigned hold_percent;
        bool hugepages;                 /* RAM is of hugetlbfs; the copy lane */
        struct starter *starter;        /* of the watch thread; may be NULL */
        bool record;                    /* first touches are noted; the copy lane */
        struct ps_client *server;       /* taken: a private one that was started; if it has
                                           died another is. NULL = start it */
};

struct pager_news {
        bool resident;
        bool bad_page;                  /* a vCPU waits for a page that cannot be had;
                                           until pager_retry() */
        uint64_t bad_gpa;
        char text[ERR_TEXT_MAX];        /* of the bad page or of a server that cannot be started */
        bool server_down;               /* being retried */
        unsigned restarts;
        bool prefetch_paused;           /* by an order of ours */
        enum ps_lane lane;
        struct ps_stats stats;
};

/* notify(ctx) from the watch thread whenever there is news. */
typedef void pager_notify_fn(void *ctx);

/* In two steps, so that a private server starts up while KVM is set up. */
int pager_new(const struct pager_options *options, pager_notify_fn *notify, void *ctx,
              struct pager **ret, struct err *e);
/* Maps ram (initialised, not mapped), registers it and has it served. */
int pager_start(struct pager *p, struct ram *ram, struct err *e);
/* The same in two steps, for who waits in between, and touches no RAM: starter, notify and ctx of
 * pager_new() are not used, and a server that has died is replaced in the second step. */
int pager_serve(struct pager *p, struct ram *ram, struct err *e);
int pager_adopt(struct pager *p, struct starter *starter, pager_notify_fn *notify, void *ctx,
                struct err *e);
/* A page of RAM that is not there yet gets this content instead of the image's, without the
 * server. False: it is there, or must be stored to the ordinary way, which may wait for the
 * server (huge pages come whole). */
bool pager_put(struct pager *p, uint64_t gpa, const void *page, size_t bytes);
/* RAM has been unmapped: whoever still waits for one of its pages goes on. */
void pager_wake(struct pager *p);
/* Ends watch thread and connection, and a private server that was never watched; guest memory
 * must not be used afterwards. */
void pager_free(struct pager *p);

/* The latest; refresh asks the server first and waits a moment for the answer. */
void pager_news(struct pager *p, bool refresh, struct pager_news *ret);
/* The guest runs, loading in the background may begin (order: NULL); or a new order,
 * which servers to come get too. */
void pager_prefetch(struct pager *p, const struct rate_order *order);
/* Bad pages are tried again and, if they still are, told again. */
void pager_retry(struct pager *p);
enum ps_lane pager_lane(struct pager *p);
/* What the guest touched until now, first touches first, as bytes that nobody has looked
 * at yet (qs_working_set_parse()); the caller frees. Waits for the server. -ESTALE: it
 * was replaced, and what it had noted is lost. */
int pager_record(struct pager *p, void **ret, size_t *ret_bytes, struct err *e);

/* ---- the reader lease (lease.h), of one caller at a time ---- */

/* RAM's userfaultfds; constant from pager_start() on, closed by pager_free(). */
const struct stripes *pager_stripes(const struct pager *p);
struct pager_patience {
        uint64_t deadline_ns;           /* clock_now_ns */
        /* asked now and then while the server is waited for; true = give up. NULL = never */
        bool (*cancelled)(void *ctx);
        void *ctx;
};

/* From its return on the caller is their only reader, whatever becomes of the server, until
 * pager_lease_end(); -ETIMEDOUT when patience has an end, and there is no lease then.
 * A message may come twice: its thread was woken for another reason. */
int pager_lease(struct pager *p, const struct pager_patience *patience, struct err *e);
/* Any thread that reads them: the addresses of missing pages. Waits for nobody, touches no
 * guest memory. */
void pager_pass(struct pager *p, const uint64_t *hva, size_t n);
/* Nobody reads them any more, and what was read has been passed on. The server does. */
void pager_lease_end(struct pager *p);

#endif
