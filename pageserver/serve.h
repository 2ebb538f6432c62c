/* SPDX-License-Identifier: Apache-2.0 */
/* serve.h - what a worker does for a session: for a fault, or ahead of one.
 *
 * Threads: worker threads, each with its own serve_ctx.
 */
#ifndef PAGESERVER_SERVE_H
#define PAGESERVER_SERVE_H

#include <stdint.h>

#include "pageserver/bring.h"

#define SERVE_NEVER UINT64_MAX

/* A fault at gpa, which one of the session's feeds gave at read_ns. */
void serve_fault(struct session *s, struct serve_ctx *ctx, uint64_t gpa, uint64_t read_ns);

/* Does one step of what no fault asked for (at most BRING_RUN_BYTES), if there is any.
 * Returns when to call again: 0 = at once, SERVE_NEVER = after a fault or a kick, else
 * a time (clock_now_ns). */
uint64_t serve_background(struct session *s, struct serve_ctx *ctx, uint64_t now_ns);

/* Before the first fault: afterwards nothing is allocated. */
void serve_prepare(struct session *s, struct serve_ctx *ctx);

#endif
