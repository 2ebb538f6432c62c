/* SPDX-License-Identifier: Apache-2.0 */
/* serve.h - bringing clusters to a session: for a fault, or ahead of one.
 *
 * Threads: worker threads, each with its own serve_ctx.
 */
#ifndef PAGESERVER_SERVE_H
#define PAGESERVER_SERVE_H

#include <stdint.h>

#include "pageserver/session.h"

#define SERVE_NEVER UINT64_MAX
#define SERVE_BUF_BYTES (1u << QS_CLUSTER_BITS_MAX)

struct serve_ctx {
        unsigned worker;
        void *buf;                      /* SERVE_BUF_BYTES, page aligned */
};

/* A fault at gpa, which one of the session's feeds gave. */
void serve_fault(struct session *s, struct serve_ctx *ctx, uint64_t gpa);

/* Does one step of what no fault asked for (at most one cluster's work), if there
 * is any. Returns when to call again: 0 = at once, SERVE_NEVER = after a fault or
 * a kick, else a time (clock_now_ns). */
uint64_t serve_background(struct session *s, struct serve_ctx *ctx, uint64_t now_ns);

#endif
