/* SPDX-License-Identifier: Apache-2.0 */
/* The whole machine: clock, vCPUs, interrupt controllers, timer. */
#include "vmm/state.h"

#include <errno.h>
#include <stdlib.h>

#include "common/auto.h"
#include "common/check.h"
#include "vmm/cpu-compat.h"
#include "vmm/state-priv.h"

/* INV-CHIPS: after the vCPUs. Setting the IOAPIC injects what its irr holds
 * into LAPICs, which a later KVM_SET_LAPIC would overwrite. */
struct chip {
        const char *what;
        size_t offset;                  /* of a struct kvm_irqchip in machine_state */
        uint32_t id;
};

static const struct chip chips[] = {
        { "first PIC", offsetof(struct machine_state, pic_master), KVM_IRQCHIP_PIC_MASTER },
        { "second PIC", offsetof(struct machine_state, pic_slave), KVM_IRQCHIP_PIC_SLAVE },
        { "IOAPIC", offsetof(struct machine_state, ioapic), KVM_IRQCHIP_IOAPIC },
};

static int chips_call(struct kvm *kvm, struct machine_state *m, unsigned long chip_request,
                      unsigned long pit_request, const char *verb, struct err *e)
{
        for (size_t i = 0; i < ARRAY_SIZE(chips); i++) {
                struct kvm_irqchip *chip = (void *)((uint8_t *)m + chips[i].offset);

                chip->chip_id = chips[i].id;

                int rc = kvm_call(kvm, kvm->vm_fd, chip_request, chip);

                if (rc < 0)
                        return err_set(e, -rc, "%s the %s", verb, chips[i].what);
        }

        int rc = kvm_call(kvm, kvm->vm_fd, pit_request, &m->pit);

        return rc < 0 ? err_set(e, -rc, "%s the PIT", verb) : 0;
}

/* The clock first: with the last vCPU parked it is the instant of the state. */
int state_machine_read(const struct state_reader *r, struct machine_state *m, struct err *e)
{
        m->cpus = r->kvm->cpus;

        int rc = state_clock_read(r->kvm, m, e);

        for (unsigned i = 0; i < m->cpus && rc == 0; i++)
                rc = state_vcpu_read(r, i, i ? &m->vcpu[0].msrs : &r->msrs, &m->vcpu[i], e);
        if (rc == 0)
                rc = chips_call(r->kvm, m, KVM_GET_IRQCHIP, KVM_GET_PIT2, "read", e);
        return rc;
}

int state_machine_apply(struct kvm *kvm, struct machine_state *m, bool has_run, struct err *e)
{
        struct tsc_plan plan;
        int rc = 0;

        for (unsigned i = 0; i < m->cpus && rc == 0; i++)
                rc = state_vcpu_apply_model(kvm, i, &m->vcpu[i], has_run, e);
        if (rc == 0)
                rc = state_clock_apply(kvm, m, &plan, e);
        for (unsigned i = 0; i < m->cpus && rc == 0; i++)
                rc = state_vcpu_apply(kvm, i, &m->vcpu[i], &plan, e);
        if (rc == 0)
                rc = chips_call(kvm, m, KVM_SET_IRQCHIP, KVM_SET_PIT2, "set", e);
        if (rc == 0)
                rc = state_clock_settle(kvm, m, &plan, e);
        return rc;
}

int state_parse(const struct kvm *kvm, struct json_object *kvm_state,
                const struct state_blob *blob, struct machine_state **ret, struct err *e)
{
        AUTO_FREE struct machine_state *m = NULL;
        int rc = state_decode(kvm_state, blob, &m, e);

        if (rc < 0)
                return rc;
        if (m->cpus != kvm->cpus)
                return err_msg(e, EINVAL, "saved machine state: it has %u vCPUs, the VM has %u",
                               m->cpus, kvm->cpus);
        *ret = ptr_take(&m);
        return 0;
}

int state_load(struct kvm *kvm, struct json_object *kvm_state, const struct state_blob *blob,
               struct err *e)
{
        AUTO_FREE struct machine_state *m = NULL;
        int rc = state_parse(kvm, kvm_state, blob, &m, e);

        return rc == 0 ? state_load_parsed(kvm, m, e) : rc;
}

int state_load_parsed(struct kvm *kvm, struct machine_state *m, struct err *e)
{
        struct cpu_model guest;
        int rc = state_machine_apply(kvm, m, false, e);

        if (rc == 0)
                return 0;
        state_cpu_model(m, &guest);
        rc = cpu_compat_explain(kvm, &guest, rc, e);
        return err_in(e, rc, "restore the machine state");
}

/* All vCPUs differ in what numbers them only. */
void state_cpu_model(const struct machine_state *m, struct cpu_model *ret)
{
        const struct state_vcpu *v = &m->vcpu[0];

        cpu_model_read(v->cpuid.entries, v->cpuid.nent, v->tsc.khz, ret);
}

/* Sets PVCLOCK_GUEST_STOPPED, so that the guest's watchdogs stay quiet. KVM
 * answers EINVAL where the guest has no kvmclock: nothing to tell it. */
void state_before_resume(struct kvm *kvm)
{
        for (unsigned i = 0; i < kvm->cpus; i++)
                (void)kvm_call(kvm, kvm->vcpu_fd[i], KVM_KVMCLOCK_CTRL, NULL);
}
