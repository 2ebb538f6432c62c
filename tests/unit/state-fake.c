/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/state-fake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"

#define DEV_FD 100
#define VM_FD 101
#define VCPU_FD 200

void fake_init(struct fake *f, struct machine_state *m)
{
        *f = (struct fake){
                .kvm = { .dev_fd = DEV_FD, .vm_fd = VM_FD, .cpus = m->cpus,
                         .xsave_bytes = sizeof(struct kvm_xsave), .has_tsc_offset = true,
                         .has_sregs2 = true },
                .m = m,
                .adjust_clock = KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC,
                .clock_flags = KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC,
                .host_tsc = 1000000, .host_khz = 2000000,
        };
        for (unsigned i = 0; i < VCPUS_MAX; i++)
                f->kvm.vcpu_fd[i] = VCPU_FD + (int)i;
}

void fake_fini(struct fake *f)
{
        free(f->m);
        f->m = NULL;
}

int fake_first(const struct fake *f, int cpu, unsigned long request)
{
        for (unsigned i = 0; i < f->ncalls; i++)
                if (f->calls[i].cpu == cpu && f->calls[i].request == request)
                        return (int)i;
        return -1;
}

int fake_last(const struct fake *f, int cpu, unsigned long request)
{
        for (int i = (int)f->ncalls - 1; i >= 0; i--)
                if (f->calls[i].cpu == cpu && f->calls[i].request == request)
                        return i;
        return -1;
}

/* ---- structs that are only kept ---- */

struct kept {
        unsigned long get, set;
        size_t offset, bytes;           /* in struct state_vcpu */
};

#define KEPT(get, set, member) \
        { get, set, offsetof(struct state_vcpu, member), sizeof(((struct state_vcpu *)0)->member) }

static const struct kept kept[] = {
        KEPT(KVM_GET_MP_STATE, KVM_SET_MP_STATE, mp_state),
        KEPT(KVM_GET_REGS, KVM_SET_REGS, regs),
        KEPT(KVM_GET_SREGS2, KVM_SET_SREGS2, sregs),
        KEPT(KVM_GET_XCRS, KVM_SET_XCRS, xcrs),
        KEPT(KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS, debugregs),
        KEPT(KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, events),
        KEPT(KVM_GET_LAPIC, KVM_SET_LAPIC, lapic),
        KEPT(KVM_GET_CPUID2, KVM_SET_CPUID2, cpuid),
};

/* ---- MSRs ---- */

static struct kvm_msr_entry *msr_find(struct state_vcpu *v, uint32_t index)
{
        for (uint32_t i = 0; i < v->msrs.nmsrs; i++)
                if (v->msrs.entries[i].index == index)
                        return &v->msrs.entries[i];
        return NULL;
}

static int msrs_call(struct fake *f, int cpu, unsigned long request, struct state_msrs *io)
{
        ASSERT(io->nmsrs < 256);
        for (uint32_t i = 0; i < io->nmsrs; i++) {
                struct kvm_msr_entry *want = &io->entries[i];
                struct kvm_msr_entry *has = msr_find(&f->m->vcpu[cpu], want->index);

                if (!has || (request == KVM_SET_MSRS && want->index == f->refused_msr))
                        return (int)i;
                if (request == KVM_GET_MSRS)
                        want->data = has->data;
                else
                        has->data = want->data;
                if (request == KVM_SET_MSRS && want->index == MSR_TSC)
                        f->tsc_written[cpu] = want->data;
        }
        return (int)io->nmsrs;
}

/* all of them; what is in `extra` of state-msr.c may be asked for twice */
static int index_list(struct fake *f, uint32_t *list)
{
        uint32_t n = 0;

        for (uint32_t i = 0; i < f->m->vcpu[0].msrs.nmsrs; i++)
                list[1 + n++] = f->m->vcpu[0].msrs.entries[i].index;
        list[0] = n;
        return 0;
}

/* ---- one vCPU ---- */

static int xsave_set(struct fake *f, int cpu, const uint8_t *area)
{
        uint64_t xstate_bv;

        memcpy(&xstate_bv, area + XSTATE_BV_OFFSET, sizeof(xstate_bv));
        if (f->xfeatures && (xstate_bv & ~f->xfeatures))
                return -EINVAL;
        memcpy(f->m->vcpu[cpu].xsave, area, f->kvm.xsave_bytes);
        return 0;
}

static int offset_call(struct fake *f, int cpu, bool set, const struct kvm_device_attr *attr)
{
        uint64_t *offset = (void *)(uintptr_t)attr->addr;

        if (set)
                f->m->vcpu[cpu].tsc.offset = *offset;
        else
                *offset = f->m->vcpu[cpu].tsc.offset;
        return 0;
}

static int nested_get(struct fake *f, struct kvm_nested_state *n)
{
        ASSERT(n->size >= f->nested_bytes);
        *n = f->nested;
        return 0;
}

static int vcpu_request(struct fake *f, int cpu, unsigned long request, void *arg)
{
        struct state_vcpu *v = &f->m->vcpu[cpu];

        for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
                if (request == kept[i].get)
                        memcpy(arg, (uint8_t *)v + kept[i].offset, kept[i].bytes);
                else if (request == kept[i].set)
                        memcpy((uint8_t *)v + kept[i].offset, arg, kept[i].bytes);
                else
                        continue;
                return 0;
        }
        switch (request) {
        case KVM_GET_MSRS:
        case KVM_SET_MSRS:
                return msrs_call(f, cpu, request, arg);
        case KVM_GET_XSAVE:
        case KVM_GET_XSAVE2:
                memcpy(arg, v->xsave, f->kvm.xsave_bytes);
                return 0;
        case KVM_SET_XSAVE:
                return xsave_set(f, cpu, arg);
        case KVM_GET_TSC_KHZ:
                return (int)v->tsc.khz;
        case KVM_SET_TSC_KHZ:
                v->tsc.khz = (uint32_t)(uintptr_t)arg;
                return 0;
        case KVM_GET_DEVICE_ATTR:
        case KVM_SET_DEVICE_ATTR:
                return offset_call(f, cpu, request == KVM_SET_DEVICE_ATTR, arg);
        case KVM_GET_NESTED_STATE:
                return nested_get(f, arg);
        case KVM_KVMCLOCK_CTRL:
                return 0;
        default:
                return -ENOTTY;
        }
}

/* ---- the VM ---- */

static struct kvm_irqchip *chip_of(struct fake *f, uint32_t id)
{
        switch (id) {
        case KVM_IRQCHIP_PIC_MASTER:
                return &f->m->pic_master;
        case KVM_IRQCHIP_PIC_SLAVE:
                return &f->m->pic_slave;
        default:
                return &f->m->ioapic;
        }
}

static int clock_get(struct fake *f, struct kvm_clock_data *c)
{
        *c = (struct kvm_clock_data){ .clock = f->m->clock.clock, .flags = f->clock_flags };
        if (f->clock_flags & KVM_CLOCK_REALTIME)
                c->realtime = f->m->clock.realtime;
        if (f->clock_flags & KVM_CLOCK_HOST_TSC)
                c->host_tsc = f->host_tsc;
        f->host_tsc += f->host_tsc_step;
        return 0;
}

static int clock_set(struct fake *f, const struct kvm_clock_data *c)
{
        f->m->clock.clock = c->clock;
        if (c->flags & KVM_CLOCK_REALTIME)
                f->m->clock.clock += f->clock_passed_ns;
        return 0;
}

static int supported_cpuid(const struct fake *f, struct kvm_cpuid2 *table)
{
        if (!f->offered || table->nent < f->noffered)
                return f->offered ? -E2BIG : -ENOTTY;
        table->nent = f->noffered;
        memcpy(table->entries, f->offered, f->noffered * sizeof(f->offered[0]));
        return 0;
}

static int extension(struct fake *f, uintptr_t cap)
{
        switch (cap) {
        case KVM_CAP_XCRS:
                return 1;
        case KVM_CAP_ADJUST_CLOCK:
                return f->adjust_clock;
        case KVM_CAP_NESTED_STATE:
                return (int)f->nested_bytes;
        default:
                return 0;
        }
}

static int vm_request(struct fake *f, unsigned long request, void *arg)
{
        struct kvm_irqchip *chip = arg;

        switch (request) {
        case KVM_CHECK_EXTENSION:
                return extension(f, (uintptr_t)arg);
        case KVM_GET_MSR_INDEX_LIST:
                return index_list(f, arg);
        case KVM_GET_SUPPORTED_CPUID:
                return supported_cpuid(f, arg);
        case KVM_GET_CLOCK:
                return clock_get(f, arg);
        case KVM_SET_CLOCK:
                return clock_set(f, arg);
        case KVM_GET_TSC_KHZ:
                return f->host_khz;
        case KVM_GET_IRQCHIP:
                chip->chip = chip_of(f, chip->chip_id)->chip;
                return 0;
        case KVM_SET_IRQCHIP:
                chip_of(f, chip->chip_id)->chip = chip->chip;
                return 0;
        case KVM_GET_PIT2:
                memcpy(arg, &f->m->pit, sizeof(f->m->pit));
                return 0;
        case KVM_SET_PIT2:
                memcpy(&f->m->pit, arg, sizeof(f->m->pit));
                return 0;
        default:
                return -ENOTTY;
        }
}

int kvm_call(struct kvm *kvm, int fd, unsigned long request, void *arg)
{
        struct fake *f = (struct fake *)kvm;
        int cpu = fd >= VCPU_FD ? fd - VCPU_FD : FAKE_VM;
        struct fake_call *c = &f->calls[f->ncalls++];

        ASSERT(f->ncalls < FAKE_CALLS_MAX);
        *c = (struct fake_call){ .cpu = cpu, .request = request };
        if (request == KVM_GET_MSRS || request == KVM_SET_MSRS) {
                const struct state_msrs *io = arg;

                c->nmsrs = io->nmsrs;
                c->msr = io->entries[0].index;
        }
        if (request == f->refused_request)
                return -EINVAL;
        return cpu == FAKE_VM ? vm_request(f, request, arg) : vcpu_request(f, cpu, request, arg);
}
