/* SPDX-License-Identifier: Apache-2.0 */
/* vmcall.h - a request of vmm serve's to the control socket of a VM (control.h).
 *
 * What a VM sends is untrusted: it is JSON of a bounded length, or an error.
 * Threads: the loop's; nothing here waits.
 */
#ifndef VMM_SERVE_VMCALL_H
#define VMM_SERVE_VMCALL_H

#include <event2/event.h>
#include <json-c/json.h>
#include <stddef.h>

#include "common/err.h"

struct vmcall;

/* Once, and never from within vmcall_new(). status: of the VM's answer, whose body is o,
 * borrowed; or 0, and e says why there is none. The call may be freed in it. */
typedef void vmcall_done_fn(void *ctx, int status, struct json_object *o, const struct err *e);

/* A line of an answer that comes in lines; o is borrowed. All but the last are told here, and
 * the last, with the status, to done. The call is not to be freed in it. */
typedef void vmcall_line_fn(void *ctx, struct json_object *o);

struct vmcall_options {
        struct event_base *base;
        const char *name;               /* of the VM */
        const char *method, *path;
        const char *body;               /* NULL = none */
        unsigned seconds;               /* without a byte; 0 = as long as it takes */
        vmcall_done_fn *done;
        vmcall_line_fn *line;           /* NULL = the answer is one object */
        void *ctx;
};

int vmcall_new(const struct vmcall_options *o, struct vmcall **ret, struct err *e);
/* A call that is not done is given up: the VM sees its client hang up. */
void vmcall_free(struct vmcall *c);

/* All that came. -EBADMSG. *ret_o is the caller's. */
int vmcall_parse(const char *text, size_t bytes, int *ret_status, struct json_object **ret_o,
                 struct err *e);

#endif
