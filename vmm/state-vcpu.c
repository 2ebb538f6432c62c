/* SPDX-License-Identifier: Apache-2.0 */
/* One vCPU: what is read and written, in which order.
 *
 * The three tables are the order; beside each step stands what it must come
 * before or after. A step without a function is one ioctl on one struct.
 *
 * INV-ORDER: KVM checks later values against earlier ones and drops some
 * silently: MSRs before the LAPIC lose the timer and hang an idle guest.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "vmm/state-priv.h"

/* KVM_X86_REG_KVM(KVM_REG_GUEST_SSP), 6.18; a 64-bit register */
#define REG_GUEST_SSP 0x2030000300000000ull

struct vcpu_io {
        struct kvm *kvm;
        unsigned cpu;
        struct state_vcpu *v;
        const struct state_reader *reader;      /* reading */
        const struct state_msrs *like;
        const struct tsc_plan *plan;    /* writing */
};

struct step {
        const char *what;
        unsigned long request;
        size_t offset;                  /* in struct state_vcpu */
        int (*run)(struct vcpu_io *io, struct err *e);
};

static int vcpu_call(struct vcpu_io *io, unsigned long request, void *arg)
{
        return kvm_call(io->kvm, io->kvm->vcpu_fd[io->cpu], request, arg);
}

static int run_steps(const struct step *steps, size_t n, struct vcpu_io *io, const char *verb,
                     struct err *e)
{
        for (size_t i = 0; i < n; i++) {
                const struct step *s = &steps[i];
                int rc;

                if (s->run) {
                        rc = s->run(io, e);
                        if (rc < 0)
                                return err_in(e, rc, "vCPU %u: %s", io->cpu, s->what);
                        continue;
                }
                rc = vcpu_call(io, s->request, (uint8_t *)io->v + s->offset);
                if (rc < 0)
                        return err_set(e, -rc, "vCPU %u: %s %s", io->cpu, verb, s->what);
        }
        return 0;
}

/* SREGS2 is SREGS up to here, then flags and PDPTRs for the interrupt bitmap,
 * which KVM_SET_VCPU_EVENTS gives as well. */
#define SREGS_COMMON_BYTES offsetof(struct kvm_sregs, interrupt_bitmap)
static_assert(SREGS_COMMON_BYTES == offsetof(struct kvm_sregs2, flags), "common beginning");

/* ---- read ---- */

static int read_cpuid(struct vcpu_io *io, struct err *e)
{
        io->v->cpuid.nent = STATE_CPUID_MAX;

        int rc = vcpu_call(io, KVM_GET_CPUID2, &io->v->cpuid);

        return rc < 0 ? err_set(e, -rc, "KVM_GET_CPUID2") : 0;
}

static int read_sregs(struct vcpu_io *io, struct err *e)
{
        int rc;

        if (io->kvm->has_sregs2) {
                rc = vcpu_call(io, KVM_GET_SREGS2, &io->v->sregs);
        } else {
                struct kvm_sregs old;

                rc = vcpu_call(io, KVM_GET_SREGS, &old);
                if (rc >= 0)
                        memcpy(&io->v->sregs, &old, SREGS_COMMON_BYTES);
        }
        return rc < 0 ? err_set(e, -rc, "KVM_GET_SREGS2") : 0;
}

static int read_xsave(struct vcpu_io *io, struct err *e)
{
        size_t bytes = MAX(io->kvm->xsave_bytes, sizeof(struct kvm_xsave));

        if (bytes > STATE_XSAVE_BYTES_MAX)
                return err_msg(e, E2BIG, "KVM has %zu bytes of it, we save up to %u", bytes,
                               STATE_XSAVE_BYTES_MAX);

        bool big = bytes > sizeof(struct kvm_xsave);
        int rc = vcpu_call(io, big ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, io->v->xsave);

        if (rc < 0)
                return err_set(e, -rc, "KVM_GET_XSAVE");
        io->v->xsave_bytes = bytes;
        return 0;
}

static int read_xcrs(struct vcpu_io *io, struct err *e)
{
        if (!io->reader->has_xcrs)
                return 0;

        int rc = vcpu_call(io, KVM_GET_XCRS, &io->v->xcrs);

        return rc < 0 ? err_set(e, -rc, "KVM_GET_XCRS") : 0;
}

static int read_tsc(struct vcpu_io *io, struct err *e)
{
        return state_tsc_read(io->reader, io->cpu, &io->v->tsc, e);
}

static int read_msrs(struct vcpu_io *io, struct err *e)
{
        return state_msrs_read(io->kvm, io->cpu, io->like, &io->v->msrs, e);
}

static bool guest_has_shadow_stacks(const struct state_vcpu *v)
{
        for (uint32_t i = 0; i < v->cpuid.nent; i++)
                if (v->cpuid.entries[i].function == 7 && v->cpuid.entries[i].index == 0)
                        return v->cpuid.entries[i].ecx & (1u << 7);
        return false;
}

/* A KVM that can not tell it does not run guests with shadow stacks either. */
static int read_ssp(struct vcpu_io *io, struct err *e)
{
        struct kvm_one_reg reg = { REG_GUEST_SSP, (uintptr_t)&io->v->shadow_stack.ssp };

        (void)e;
        if (guest_has_shadow_stacks(io->v))
                io->v->shadow_stack.has_ssp = vcpu_call(io, KVM_GET_ONE_REG, &reg) == 0;
        return 0;
}

/* The SVM global interrupt flag is set unless a nested hypervisor cleared it. */
bool state_nested_in_use(const struct kvm_nested_state *n)
{
        if (n->size > sizeof(*n) ||
            (n->flags & (KVM_STATE_NESTED_GUEST_MODE | KVM_STATE_NESTED_RUN_PENDING)))
                return true;
        if (n->format == KVM_STATE_NESTED_FORMAT_VMX)
                return n->hdr.vmx.vmxon_pa != UINT64_MAX;
        return n->format == KVM_STATE_NESTED_FORMAT_SVM && !(n->flags & KVM_STATE_NESTED_GIF_SET);
}

static int check_nested(struct vcpu_io *io, struct err *e)
{
        struct kvm_nested_state *n = io->reader->nested;

        if (!n)
                return 0;
        n->size = io->reader->nested_bytes;

        int rc = vcpu_call(io, KVM_GET_NESTED_STATE, n);

        if (rc < 0)
                return err_set(e, -rc, "KVM_GET_NESTED_STATE");
        return state_nested_in_use(n) ?
               err_msg(e, ENOTSUP, "the guest runs a hypervisor of its own, which can not be "
                       "saved; stop it in the guest first") : 0;
}

#define STRUCT(member) .offset = offsetof(struct state_vcpu, member)

static const struct step reading[] = {
        { "CPUID", .run = read_cpuid },
        /* may accept a pending INIT or SIPI, which changes registers: before them */
        { "mp_state", KVM_GET_MP_STATE, STRUCT(mp_state) },
        { "registers", KVM_GET_REGS, STRUCT(regs) },
        { "system registers", .run = read_sregs },
        { "FPU state", .run = read_xsave },
        { "XCRs", .run = read_xcrs },
        { "debug registers", KVM_GET_DEBUGREGS, STRUCT(debugregs) },
        { "shadow stack pointer", .run = read_ssp },
        /* brings posted interrupts into the IRR */
        { "LAPIC", KVM_GET_LAPIC, STRUCT(lapic) },
        { "TSC", .run = read_tsc },
        { "MSRs", .run = read_msrs },
        { "nested state", .run = check_nested },
        /* last: the calls above may turn pending events into others */
        { "events", KVM_GET_VCPU_EVENTS, STRUCT(events) },
};

int state_vcpu_read(const struct state_reader *r, unsigned cpu, const struct state_msrs *like,
                    struct state_vcpu *ret, struct err *e)
{
        struct vcpu_io io = { .kvm = r->kvm, .cpu = cpu, .v = ret, .reader = r, .like = like };

        return run_steps(reading, ARRAY_SIZE(reading), &io, "read", e);
}

/* ---- write ---- */

static int write_cpuid(struct vcpu_io *io, struct err *e)
{
        int rc = vcpu_call(io, KVM_SET_CPUID2, &io->v->cpuid);

        return rc < 0 ? err_set(e, -rc, "KVM_SET_CPUID2: this host can not give the guest its CPU")
                      : 0;
}

static int write_tsc_rate(struct vcpu_io *io, struct err *e)
{
        return state_tsc_rate_apply(io->kvm, io->cpu, &io->v->tsc, e);
}

static int write_sregs(struct vcpu_io *io, struct err *e)
{
        int rc;

        if (io->kvm->has_sregs2) {
                rc = vcpu_call(io, KVM_SET_SREGS2, &io->v->sregs);
        } else {
                struct kvm_sregs old = { 0 };

                memcpy(&old, &io->v->sregs, SREGS_COMMON_BYTES);
                rc = vcpu_call(io, KVM_SET_SREGS, &old);
        }
        return rc < 0 ? err_set(e, -rc, "KVM_SET_SREGS2") : 0;
}

static int write_xcrs(struct vcpu_io *io, struct err *e)
{
        if (io->v->xcrs.nr_xcrs == 0)
                return 0;

        int rc = vcpu_call(io, KVM_SET_XCRS, &io->v->xcrs);

        return rc < 0 ? err_set(e, -rc, "KVM_SET_XCRS") : 0;
}

/* The state components the guest can know of; x87 and SSE always. */
static uint64_t guest_xfeatures(const struct state_vcpu *v)
{
        for (uint32_t i = 0; i < v->cpuid.nent; i++) {
                const struct kvm_cpuid_entry2 *l = &v->cpuid.entries[i];

                if (l->function == 0xd && l->index == 0)
                        return 3 | l->eax | (uint64_t)l->edx << 32;
        }
        return 3;
}

/* KVM reads kvm->xsave_bytes whatever was saved. Newer ones refuse components
 * that the guest's CPUID lacks, which older ones saved; the guest has no use
 * for those. Without CPUID masking they may be in use, so first as saved. */
static int write_xsave(struct vcpu_io *io, struct err *e)
{
        if (io->kvm->xsave_bytes > STATE_XSAVE_BYTES_MAX)
                return err_msg(e, E2BIG, "KVM wants %zu bytes of it, we have up to %u",
                               io->kvm->xsave_bytes, STATE_XSAVE_BYTES_MAX);

        int rc = vcpu_call(io, KVM_SET_XSAVE, io->v->xsave);

        if (rc == -EINVAL) {
                AUTO_FREE uint8_t *masked = malloc(STATE_XSAVE_BYTES_MAX);
                uint64_t xstate_bv;

                if (!masked)
                        return err_msg(e, ENOMEM, "no memory");
                memcpy(masked, io->v->xsave, STATE_XSAVE_BYTES_MAX);
                memcpy(&xstate_bv, masked + XSTATE_BV_OFFSET, sizeof(xstate_bv));
                xstate_bv &= guest_xfeatures(io->v);
                memcpy(masked + XSTATE_BV_OFFSET, &xstate_bv, sizeof(xstate_bv));
                rc = vcpu_call(io, KVM_SET_XSAVE, masked);
        }
        return rc < 0 ? err_set(e, -rc, "KVM_SET_XSAVE: this host's CPU lacks registers that the "
                                "guest uses, or the state is damaged") : 0;
}

static int write_ssp(struct vcpu_io *io, struct err *e)
{
        struct kvm_one_reg reg = { REG_GUEST_SSP, (uintptr_t)&io->v->shadow_stack.ssp };

        if (!io->v->shadow_stack.has_ssp)
                return 0;

        int rc = vcpu_call(io, KVM_SET_ONE_REG, &reg);

        return rc < 0 ? err_set(e, -rc, "KVM_SET_ONE_REG") : 0;
}

static int write_tsc(struct vcpu_io *io, struct err *e)
{
        return state_tsc_apply(io->kvm, io->cpu, io->plan, e);
}

static int write_msrs(struct vcpu_io *io, struct err *e)
{
        return state_msrs_apply(io->kvm, io->cpu, &io->v->msrs, state_vcpu_deadline(io->v), e);
}

/* All vCPUs exist: creating one starts a new TSC generation. */
static const struct step writing_model[] = {
        /* CR4, EFER, XCR0, FPU components and MSRs are checked against it; the first, for
         * it is left out for a vCPU that has run */
        { "CPUID", .run = write_cpuid },
        /* before any TSC value or deadline */
        { "TSC rate", .run = write_tsc_rate },
};

static const struct step writing[] = {
        /* the APIC base in it switches the LAPIC page's layout; EFER and CR4
         * come before XCRs and MSRs */
        { "system registers", .run = write_sregs },
        { "XCRs", .run = write_xcrs },
        /* before MSR XFD, which would make KVM drop components */
        { "FPU state", .run = write_xsave },
        { "debug registers", KVM_SET_DEBUGREGS, STRUCT(debugregs) },
        /* clears pending exceptions: before events */
        { "registers", KVM_SET_REGS, STRUCT(regs) },
        { "shadow stack pointer", .run = write_ssp },
        /* before the LAPIC starts its timer and before the deadline */
        { "TSC", .run = write_tsc },
        /* after the APIC base; cancels the timer: before the deadline */
        { "LAPIC", KVM_SET_LAPIC, STRUCT(lapic) },
        { "MSRs", .run = write_msrs },
        { "events", KVM_SET_VCPU_EVENTS, STRUCT(events) },
        /* a halted vCPU with a pending interrupt wakes at its first run */
        { "mp_state", KVM_SET_MP_STATE, STRUCT(mp_state) },
};

int state_vcpu_apply_model(struct kvm *kvm, unsigned cpu, struct state_vcpu *v, bool has_run,
                           struct err *e)
{
        struct vcpu_io io = { .kvm = kvm, .cpu = cpu, .v = v };

        return run_steps(writing_model + has_run, ARRAY_SIZE(writing_model) - has_run, &io, "set",
                         e);
}

int state_vcpu_apply(struct kvm *kvm, unsigned cpu, struct state_vcpu *v,
                     const struct tsc_plan *plan, struct err *e)
{
        struct vcpu_io io = { .kvm = kvm, .cpu = cpu, .v = v, .plan = plan };

        return run_steps(writing, ARRAY_SIZE(writing), &io, "set", e);
}

/* ---- the deadline ---- */

#define LAPIC_ISR 0x100
#define LAPIC_IRR 0x200
#define LAPIC_LVTT 0x320
#define LVTT_MASKED (1u << 16)
#define LVTT_MODE (3u << 17)
#define LVTT_MODE_DEADLINE (2u << 17)

static uint32_t lapic_reg(const struct kvm_lapic_state *l, unsigned reg)
{
        uint32_t v;

        memcpy(&v, l->regs + reg, sizeof(v));
        return v;
}

static bool lapic_bit(const struct kvm_lapic_state *l, unsigned first_reg, unsigned vector)
{
        return lapic_reg(l, first_reg + vector / 32 * 0x10) & (1u << vector % 32);
}

/* Deadline 0 with an unmasked deadline timer whose interrupt is nowhere: it
 * may have fired and got lost on the way. A spurious tick in the past costs
 * nothing, a lost one hangs the guest. */
uint64_t state_vcpu_deadline(const struct state_vcpu *v)
{
        uint64_t deadline = state_msr_value(&v->msrs, MSR_TSC_DEADLINE);
        uint32_t lvtt = lapic_reg(&v->lapic, LAPIC_LVTT);
        unsigned vector = lvtt & 0xff;
        bool on_its_way = lapic_bit(&v->lapic, LAPIC_IRR, vector) ||
                          lapic_bit(&v->lapic, LAPIC_ISR, vector) ||
                          (v->events.interrupt.injected && v->events.interrupt.nr == vector);

        if (deadline == 0 && (lvtt & LVTT_MODE) == LVTT_MODE_DEADLINE && !(lvtt & LVTT_MASKED) &&
            !on_its_way)
                return 1;
        return deadline;
}
