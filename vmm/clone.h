/* SPDX-License-Identifier: Apache-2.0 */
/* clone.h - a running VM hands out what it is: RAM and state into two memfds, of which
 * others make VMs (clone-build.h). The guest goes on.
 *
 * Threads: the event loop's.
 */
#ifndef VMM_CLONE_H
#define VMM_CLONE_H

#include <json-c/json.h>
#include <stddef.h>

#include "common/err.h"
#include "vmm/rundir.h"

struct clone;
struct vm;

struct clone_request {
        char to[VM_NAME_MAX + 1];       /* where the client listens: clone-door.h */
};

/* Done once, on the event loop: result (borrowed) or the error. */
typedef void clone_done_fn(void *ctx, struct json_object *result, const struct err *e);

/* The body of PUT /clone; text is untrusted. */
int clone_request_parse(const char *text, size_t bytes, struct clone_request *ret,
                        struct err *e);
/* Starts it for the client behind sock, which gets the memfds (clone-door.h); the rest
 * happens on a thread, which posts VM_POST_CLONE. It is cancelled when the client goes. */
int clone_start(struct vm *vm, int sock, const struct clone_request *request,
                clone_done_fn *done, void *ctx, struct err *e);
/* On VM_POST_CLONE: joins, tells done(). */
void clone_finish(struct vm *vm);
/* Cancels and joins; done() is not called. */
void clone_abort(struct vm *vm);

#endif
