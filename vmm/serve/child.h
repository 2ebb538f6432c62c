/* SPDX-License-Identifier: Apache-2.0 */
/* child.h - the service's end of a process that will be a VM (vmm/blank.h).
 *
 * Ownership: child_free() lets go of the process, it does not end it: one that has its order
 *            lives on as a VM, one that has none sees the end of its socket, and ends.
 * Threads:   the loop's.
 */
#ifndef VMM_SERVE_CHILD_H
#define VMM_SERVE_CHILD_H

#include <event2/event.h>
#include <json-c/json.h>

#include "common/err.h"
#include "vmm/prepared.h"
#include "vmm/sandbox.h"

struct child;
struct confine;

/* Never from within the functions below. The child may be freed in each. */
struct child_ops {
        void (*ready)(void *ctx);                               /* what was wanted is prepared */
        void (*report)(void *ctx, struct json_object *o);       /* borrowed; of a VM that runs */
        /* The process said why there is no VM, e->code as there; or it died, -EPIPE. */
        void (*failed)(void *ctx, const struct err *e);
};

/* What a process is to be ready for (vmm/blank.h). */
struct guess {
        struct shape shape;             /* cpus 0: for nothing */
        char *expected;                 /* expect_of(); NULL = no image */
};

/* What a process is to be from its start on. */
struct child_kind {
        struct guess guess;             /* borrowed */
        enum sandbox_mode sandbox;
        const struct confine *confine;
};

/* Starts a process. ops are borrowed. */
int child_new(struct event_base *base, const struct child_kind *kind,
              const struct child_ops *ops, void *ctx, struct child **ret, struct err *e);
/* Who is told from now on. */
void child_hand_over(struct child *c, const struct child_ops *ops, void *ctx);
/* Once. request: a body that create_request_decode() took. */
int child_order(struct child *c, const char *name, uint64_t start_ns,
                struct json_object *request, struct err *e);
/* Ends the process, whatever it waits for. Nothing is told of it: child_free() comes next. */
void child_kill(struct child *c);
void child_free(struct child *c);

#endif
