/* SPDX-License-Identifier: Apache-2.0 */
/* rollback.h - a VM goes back to a snapshot of its own, in place: its process, sockets,
 * console and page server stay, and only the memory that differs is touched.
 *
 * Threads: the event loop's.
 */
#ifndef VMM_ROLLBACK_H
#define VMM_ROLLBACK_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"
#include "qcowstore/store.h"

struct vm;
struct rollback;

struct rollback_request {
        char tag[QS_TAG_MAX + 1];       /* "" = the one the VM was last saved to or came from */
        bool paused;                    /* it stays paused afterwards */
};

/* The body of PUT /snapshot/rollback; text is untrusted. */
int rollback_parse(const char *text, size_t bytes, struct rollback_request *ret, struct err *e);

/* Done once, on the event loop: result (borrowed) or the error. */
typedef void rollback_done_fn(void *ctx, struct json_object *result, const struct err *e);

/* Starts it, of a running, paused or halted VM; the rest happens on its thread, which
 * posts VM_POST_ROLLBACK. */
int rollback_start(struct vm *vm, const struct rollback_request *request,
                   rollback_done_fn *done, void *ctx, struct err *e);
/* On VM_POST_ROLLBACK: joins, lets the VM go on, or halts one that cannot; tells done(). */
void rollback_finish(struct vm *vm);
/* Cancels what can be cancelled and joins; done() is not called. */
void rollback_abort(struct vm *vm);

#endif
