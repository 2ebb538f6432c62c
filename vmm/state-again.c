/* SPDX-License-Identifier: Apache-2.0 */
/* A state into a VM that has run since.
 *
 * Theory of operation
 *
 * Loading writes all that can be read. A VM that has run holds more than that, and some of it
 * stands in the way of what is written. So it is brought to where a new VM is, as far as it
 * matters, then loaded as one:
 *  - the PIT's timer may fire between the loading of the interrupt controllers and its own;
 *  - an INIT or SIPI that was sent but not taken would reach the vCPU after it was loaded,
 *    and only reading mp_state makes KVM take it;
 *  - a TSC deadline stays armed when a LAPIC in the same timer mode is loaded over it, and
 *    one that was saved as 0 is not written (state-msr.c);
 *  - with MSR XFD set KVM drops components of the FPU state that is written (AMX tiles);
 *  - TLBs may have what stood in the guest's page tables before RAM was written, and KVM does
 *    not know; a change of CR4 makes it drop the vCPU's root, and flush at the next entry;
 *  - a triple fault that is about to be reported stays so, unless KVM_SET_VCPU_EVENTS says
 *    otherwise, which needs a capability; it is on for that moment only, since what is saved
 *    with it on cannot be loaded by older kernels.
 * The rest is overwritten as it stands: pending exceptions, interrupts and NMIs by the events,
 * posted interrupts and one-shot timers by the LAPIC, what the IOAPIC and PIC latched by
 * theirs, a vCPU's I/O in flight ended when it was parked. CPUID cannot change any more (5.16),
 * and some kernels refuse the very same too (6.1 of Debian): so it is compared, and not
 * written. An MSR that reads as it was saved is not
 * written: those that register a page of the guest (kvmclock, steal time) stay registered.
 *
 * The clock goes on as in a revert (state-clock.c): by the time since the save. For a VM's
 * own state that is what it shows anyhow, so neither it nor the TSC goes back.
 */
#include <errno.h>

#include "common/check.h"
#include "vmm/state-priv.h"

#define MSR_XFD 0x1c4u
/* of no effect on a guest that does not run, and every CPU has it */
#define CR4_PGE (1u << 7)

/* KVM's for a channel that was never programmed: no timer */
#define PIT_MODE_NONE 0xff

/* ---- does it fit ---------------------------------------------------------------- */

/* What KVM changes in the table by itself, as the guest sets CR4, XCR0 and the APIC base. */
static const struct {
        uint32_t function, index;
        struct { uint32_t eax, ebx, ecx, edx; } bits;
} kvms_own[] = {
        { 0x1, 0, { .ecx = 1u << 27 | 1u << 3, .edx = 1u << 9 } },      /* OSXSAVE, MWAIT, APIC */
        { 0x7, 0, { .ecx = 1u << 4 } },                                 /* OSPKE */
        { 0xd, 0, { .ebx = UINT32_MAX } },                              /* bytes in use */
        { 0xd, 1, { .ebx = UINT32_MAX } },
        { 0x40000001, 0, { .eax = 1u << 7 } },                          /* PV_UNHALT */
};

static void drop_kvms_own(struct kvm_cpuid_entry2 *l)
{
        for (size_t i = 0; i < ARRAY_SIZE(kvms_own); i++) {
                if (l->function != kvms_own[i].function || l->index != kvms_own[i].index)
                        continue;
                l->eax &= ~kvms_own[i].bits.eax;
                l->ebx &= ~kvms_own[i].bits.ebx;
                l->ecx &= ~kvms_own[i].bits.ecx;
                l->edx &= ~kvms_own[i].bits.edx;
        }
}

static bool same_leaf(struct kvm_cpuid_entry2 a, struct kvm_cpuid_entry2 b)
{
        drop_kvms_own(&a);
        drop_kvms_own(&b);
        return a.function == b.function && a.index == b.index && a.flags == b.flags &&
               a.eax == b.eax && a.ebx == b.ebx && a.ecx == b.ecx && a.edx == b.edx;
}

static int check_cpuid(struct kvm *kvm, unsigned cpu, const struct state_cpuid *saved,
                       struct err *e)
{
        struct state_cpuid now = { .nent = STATE_CPUID_MAX };
        int rc = kvm_call(kvm, kvm->vcpu_fd[cpu], KVM_GET_CPUID2, &now);

        if (rc < 0)
                return err_set(e, -rc, "vCPU %u: read CPUID", cpu);
        for (uint32_t i = 0; i < MAX(now.nent, saved->nent); i++) {
                if (i >= now.nent || i >= saved->nent ||
                    !same_leaf(now.entries[i], saved->entries[i]))
                        return err_msg(e, EINVAL, "vCPU %u: it is of another model of CPU (leaf "
                                       "0x%x of CPUID differs): use 'vmm revert'", cpu,
                                       i < saved->nent ? saved->entries[i].function : 0);
        }
        return 0;
}

int state_fits(struct kvm *kvm, const struct machine_state *m, struct err *e)
{
        int rc = 0;

        for (unsigned i = 0; i < m->cpus && rc == 0; i++)
                rc = check_cpuid(kvm, i, &m->vcpu[i].cpuid, e);
        return rc;
}

/* ---- what stands in the way ------------------------------------------------------ */

static int stop_pit(struct kvm *kvm, struct err *e)
{
        struct kvm_pit_state2 pit = { 0 };

        for (size_t i = 0; i < ARRAY_SIZE(pit.channels); i++)
                pit.channels[i].mode = PIT_MODE_NONE;

        int rc = kvm_call(kvm, kvm->vm_fd, KVM_SET_PIT2, &pit);

        return rc < 0 ? err_set(e, -rc, "stop the PIT") : 0;
}

/* One that is not there needs nothing. */
static int clear_msr(struct kvm *kvm, unsigned cpu, uint32_t index, struct err *e)
{
        uint64_t value;

        if (state_msr_read(kvm, cpu, index, &value, NULL) < 0 || value == 0)
                return 0;
        return state_msr_write(kvm, cpu, index, 0, e);
}

static int change_cr4(struct kvm *kvm, unsigned cpu, unsigned long get, unsigned long set,
                      void *sregs, __u64 *cr4)
{
        int rc = kvm_call(kvm, kvm->vcpu_fd[cpu], get, sregs);

        if (rc < 0)
                return rc;
        *cr4 ^= CR4_PGE;
        return kvm_call(kvm, kvm->vcpu_fd[cpu], set, sregs);
}

static int drop_root(struct kvm *kvm, unsigned cpu, struct err *e)
{
        struct kvm_sregs2 two;
        struct kvm_sregs one;
        __u64 *cr4 = kvm->has_sregs2 ? &two.cr4 : &one.cr4;
        int rc = kvm->has_sregs2
                 ? change_cr4(kvm, cpu, KVM_GET_SREGS2, KVM_SET_SREGS2, &two, cr4)
                 : change_cr4(kvm, cpu, KVM_GET_SREGS, KVM_SET_SREGS, &one, cr4);

        return rc < 0 ? err_set(e, -rc, "drop what its TLB has") : 0;
}

static int quiet_vcpu(struct kvm *kvm, unsigned cpu, struct err *e)
{
        struct kvm_mp_state state;
        int rc = kvm_call(kvm, kvm->vcpu_fd[cpu], KVM_GET_MP_STATE, &state);

        if (rc < 0)
                return err_set(e, -rc, "let it take what was sent to it");
        rc = clear_msr(kvm, cpu, MSR_TSC_DEADLINE, e);
        if (rc == 0)
                rc = clear_msr(kvm, cpu, MSR_XFD, e);
        return rc == 0 ? drop_root(kvm, cpu, e) : rc;
}

static int quiet(struct kvm *kvm, struct err *e)
{
        int rc = stop_pit(kvm, e);

        for (unsigned i = 0; i < kvm->cpus && rc == 0; i++) {
                rc = quiet_vcpu(kvm, i, e);
                if (rc < 0)
                        return err_in(e, rc, "vCPU %u", i);
        }
        return rc;
}

/* Where KVM knows of none, none can be undone. */
static bool name_triple_faults(struct kvm *kvm, bool on)
{
        struct kvm_enable_cap cap = { .cap = KVM_CAP_X86_TRIPLE_FAULT_EVENT, .args = { on } };

        return kvm_call(kvm, kvm->vm_fd, KVM_ENABLE_CAP, &cap) == 0;
}

static void without_triple_fault(struct machine_state *m)
{
        for (unsigned i = 0; i < m->cpus; i++) {
                m->vcpu[i].events.flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
                m->vcpu[i].events.triple_fault.pending = 0;
        }
}

int state_reload(struct kvm *kvm, struct machine_state *m, struct err *e)
{
        ASSERT(m->cpus == kvm->cpus);

        bool named = name_triple_faults(kvm, true);
        int rc = quiet(kvm, e);

        if (named)
                without_triple_fault(m);
        if (rc == 0)
                rc = state_machine_apply(kvm, m, true, e);
        if (named)
                (void)name_triple_faults(kvm, false);
        return rc < 0 ? err_in(e, rc, "take the machine back to its state") : 0;
}
