/* SPDX-License-Identifier: Apache-2.0 */
/* PUT /snapshot/load: a process that waits, empty, becomes a VM */
#include <errno.h>
#include <stdlib.h>

#include "common/auto.h"
#include "common/clock.h"
#include "common/json.h"
#include "vmm/control-priv.h"
#include "vmm/create.h"
#include "vmm/launch.h"
#include "vmm/prepared.h"
#include "vmm/vm.h"

static int load(struct vm *vm, struct create_request *q, struct err *e)
{
        vm->state = VM_STARTING;

        int rc = create_build(vm, q, e);

        if (rc == 0)
                rc = vm_started(vm, !q->resume, e);
        if (rc == 0)
                rc = launch_settle(vm, e);
        prepared_free(ptr_take(&vm->prepared));
        return rc;
}

/* Of what was begun nothing can be begun anew: the VM ends, once its client knows. */
static void give_up(struct request *r, const struct err *e)
{
        struct vm *vm = r->control->vm;

        vm->state = VM_EMPTY;
        vm_stop_soon(vm);
        control_reply_result(r->control, r->http, e->code, e);
}

/* The event loop stands still meanwhile: there is nothing else yet that it could do. */
void control_load(struct request *r)
{
        AUTO_FREE struct create_request *q = malloc(sizeof(*q));
        struct vm *vm = r->control->vm;
        struct err e;
        int rc = q ? create_request_parse_load(r->body, r->body_bytes, q, &e)
                   : err_msg(&e, ENOMEM, "no memory for a VM");

        if (rc == 0 && vm->state != VM_EMPTY)
                rc = err_msg(&e, EBUSY, "VM '%s' has a guest already: load into one that was "
                             "started with 'vmm run NAME --empty'", vm->name);
        if (rc < 0) {
                control_reply_result(r->control, r->http, rc, &e);
                return;
        }
        vm->phases.start_ns = vm->phases.order_ns = clock_now_ns();
        vm->phases.process_ns = vm->phases.start_ns;
        if (load(vm, q, &e) < 0) {
                give_up(r, &e);
                return;
        }

        AUTO_JSON *o = vm_describe(vm);

        control_reply(r->control, r->http, 200, o);
}
