/* SPDX-License-Identifier: Apache-2.0 */
/* lease.h - the monitor as the only reader of the userfaultfds that it shares with its page
 * server (INV-READER; the server's half is pageserver/readers.h).
 *
 * Theory of operation
 *
 * A live save (the caller) reads all messages itself, answers those of pages that it has
 * protected, and passes on those of missing pages. The watch thread owns the connection: it
 * asks for the lease, and asks each server anew that comes in the place of one that died.
 * The caller reads on meanwhile and notices nothing.
 *
 * INV-PASSED: a missing fault that the caller has read is in the socket of a server that
 *             reads it to its end, or its thread is woken when there is a socket to pass it
 *             on by, or when the lease ends, and faults anew. So whatever comes while there
 *             is none is dropped, and what was in that of a dead server is faulted anew at
 *             the reattach.
 *
 * Threads: as said at each function.
 */
#ifndef VMM_LEASE_H
#define VMM_LEASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/lock.h"
#include "pageserver/client.h"
#include "vmm/stripes.h"

struct lease {
        struct lock lock;               /* a leaf */
        struct cond changed;
        bool wanted GUARDED_BY(lock);   /* by the caller, until lease_end() */
        bool held GUARDED_BY(lock);     /* the server has said so */
        bool dropped GUARDED_BY(lock);  /* something may have been */
        uint64_t number GUARDED_BY(lock);
        int fd GUARDED_BY(lock);        /* to pass on by; -1 = there is nobody */
        struct err why GUARDED_BY(lock);        /* it cannot be asked for; code 0: it can */
};

void lease_init(struct lease *l);
void lease_fini(struct lease *l);

/* The caller. Asks for it; then the watch thread is to be rung. */
void lease_begin(struct lease *l);
/* Until it is held, or with a sentence until deadline_ns (clock_now_ns). */
int lease_await(struct lease *l, uint64_t deadline_ns, struct err *e);
/* Any of the caller's threads, between the two. Waits for nobody; addresses of missing
 * faults in RAM. */
void lease_pass(struct lease *l, const struct stripes *s, const uint64_t *hva, size_t n);
/* The caller, whose threads read no more and have passed on what they read. Also after a
 * lease_await() that failed, or with no lease at all. */
void lease_end(struct lease *l, const struct stripes *s);

/* ---- the watch thread ---- */

/* Asks if that is to be done. False: it is, but could not be; again in a while. */
bool lease_ask(struct lease *l, struct ps_client *client, const struct stripes *s);
/* PS_EVENT_LEASED */
void lease_granted(struct lease *l, uint64_t number);
/* The server is gone. */
void lease_lost(struct lease *l);

#endif
