/* SPDX-License-Identifier: Apache-2.0 */
/* A state that is read in the guest's pause and written down after it.
 *
 * Theory of operation
 *
 * What a pause has to contain are the calls on the vCPUs, the clock and the chips.
 * KVM answers calls on a vCPU only while it is parked (they take its mutex), so
 * CPUID is read there too: KVM changes some of its bits with CR4, XCR0 and the
 * APIC base. What belongs to KVM or to the VM is asked for before, and memory is
 * there before, with its pages: the kernel hands them out at the first touch.
 */
#include "vmm/state.h"

#include <errno.h>
#include <stdlib.h>

#include "common/auto.h"
#include "common/check.h"
#include "vmm/state-priv.h"

struct state_capture {
        struct state_reader reader;
        bool taken;
        struct machine_state m;         /* of its vCPUs those that the VM has are touched */
};

/* ---- what is known before ---- */

static int extension(struct kvm *kvm, unsigned cap)
{
        return kvm_call(kvm, kvm->vm_fd, KVM_CHECK_EXTENSION, (void *)(uintptr_t)cap);
}

int state_reader_init(struct state_reader *r, struct kvm *kvm, struct err *e)
{
        int nested_bytes = extension(kvm, KVM_CAP_NESTED_STATE);

        *r = (struct state_reader){
                .kvm = kvm,
                .has_xcrs = extension(kvm, KVM_CAP_XCRS) > 0,
                .host_khz = kvm->has_tsc_control ? state_host_khz(kvm) : 0,
        };
        if (nested_bytes >= (int)sizeof(struct kvm_nested_state)) {
                r->nested = calloc(1, (size_t)nested_bytes);
                if (!r->nested)
                        return err_msg(e, ENOMEM, "no memory for the machine state");
                r->nested_bytes = (uint32_t)nested_bytes;
        }
        return state_msrs_list(kvm, &r->msrs, e);
}

void state_reader_fini(struct state_reader *r)
{
        free(r->nested);
        r->nested = NULL;
}

/* ---- capture ---- */

#define PAGE_BYTES 4096

/* volatile: it is zero already, and a compiler knows that */
static void touch(void *memory, size_t bytes)
{
        volatile uint8_t *at = memory;

        for (size_t i = 0; i < bytes; i += PAGE_BYTES)
                at[i] = 0;
        at[bytes - 1] = 0;
}

int state_capture_new(struct kvm *kvm, struct state_capture **ret, struct err *e)
{
        ASSERT(kvm->cpus >= 1 && kvm->cpus <= VCPUS_MAX);

        struct state_capture *c = calloc(1, sizeof(*c));

        if (!c)
                return err_msg(e, ENOMEM, "no memory for the machine state");
        touch(&c->m, offsetof(struct machine_state, vcpu) + kvm->cpus * sizeof(c->m.vcpu[0]));

        int rc = state_reader_init(&c->reader, kvm, e);

        if (rc < 0) {
                state_capture_free(c);
                return err_in(e, rc, "save the machine state");
        }
        if (c->reader.nested)
                touch(c->reader.nested, c->reader.nested_bytes);
        *ret = c;
        return 0;
}

int state_capture_take(struct state_capture *c, struct err *e)
{
        ASSERT(!c->taken);

        int rc = state_machine_read(&c->reader, &c->m, e);

        c->taken = rc == 0;
        return rc < 0 ? err_in(e, rc, "save the machine state") : 0;
}

int state_capture_encode(const struct state_capture *c, struct json_object **ret_kvm,
                         struct state_blob *ret_blob, struct err *e)
{
        ASSERT(c->taken);

        int rc = state_encode(&c->m, ret_kvm, ret_blob, e);

        return rc < 0 ? err_in(e, rc, "save the machine state") : 0;
}

void state_capture_free(struct state_capture *c)
{
        if (!c)
                return;
        state_reader_fini(&c->reader);
        free(c);
}

int state_save(struct kvm *kvm, struct json_object **ret_kvm, struct state_blob *ret_blob,
               struct err *e)
{
        struct state_capture *c;
        int rc = state_capture_new(kvm, &c, e);

        if (rc < 0)
                return rc;
        rc = state_capture_take(c, e);
        if (rc == 0)
                rc = state_capture_encode(c, ret_kvm, ret_blob, e);
        state_capture_free(c);
        return rc;
}
