/* SPDX-License-Identifier: Apache-2.0 */
/* bring.h - bringing units of an image to a session.
 *
 * A unit is what is fetched and installed as a whole: a cluster of the image, or a
 * page of the client where that is larger (2 MiB).
 *
 * Threads: worker threads, each with its own serve_ctx.
 */
#ifndef PAGESERVER_BRING_H
#define PAGESERVER_BRING_H

#include <stdbool.h>
#include <stdint.h>

#include "pageserver/busy.h"
#include "pageserver/session.h"

/* Taken at once where nobody waits: a few times the cost of its system calls. More gained
 * nothing. */
#define BRING_RUN_BYTES (128u << 10)
#define BRING_BUF_BYTES (1u << QS_CLUSTER_BITS_MAX)

struct serve_ctx {
        unsigned worker;                /* whose work it is */
        unsigned hand;                  /* and which thread's: its readers */
        struct busy busy;
        void *buf;                      /* BRING_BUF_BYTES, page aligned */
        uint64_t woken_ns;              /* when the thread of the last fault was, if before
                                           its unit was whole; else 0 */
};

enum brought {
        BROUGHT_PRESENT,        /* it was there                                */
        BROUGHT_DATA,           /* read and installed; the fault's page woken  */
        BROUGHT_ZERO,           /* zero pages given                            */
        BROUGHT_QUEUED,         /* another worker brings it and wakes us       */
        BROUGHT_RETRY,          /* the client's mappings change: ask again     */
        BROUGHT_BAD,            /* it cannot be had; the err says why          */
};

/* The unit in which a fault at gpa waits. */
enum brought bring_fault(struct session *s, struct serve_ctx *ctx, uint64_t gpa, struct err *e);

/* Some of the units [first, end), at least the first: *ret_n of them, at most
 * BRING_RUN_BYTES. */
enum brought bring_run(struct session *s, struct serve_ctx *ctx, uint64_t first, uint64_t end,
                       uint64_t *ret_n, struct err *e);

/* Lets the threads look again that wait in the unit. */
void bring_wake(struct session *s, uint64_t unit);

#endif
