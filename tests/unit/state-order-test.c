/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: the state of a VM arrives in another one, read and written in the
 *       orders that state-vcpu.c and state-vm.c give reasons for.
 * Method: a KVM of memory that logs its calls (state-fake.h). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "tests/unit/state-pair.h"
#include "tests/unit/suite.h"

static void count(void *ctx, const char *field, const char *was, const char *is)
{
        fprintf(stderr, "differs: %s %s -> %s\n", field, was, is);
        ++*(unsigned *)ctx;
}

static void arrives_whole(void)
{
        for (unsigned cpus = 1; cpus <= VCPUS_MAX; cpus++) {
                struct pair *p = pair_new(cpus);
                struct err e = { 0 };
                unsigned differences = 0;

                CU_ASSERT_FATAL(p->saved.json != NULL);
                CU_ASSERT(pair_load(p, &e) == 0);

                struct pair_saved again = pair_save(&p->to);

                CU_ASSERT(state_compare(p->saved.json, &p->saved.blob, again.json, &again.blob,
                                        count, &differences, &e) == 0);
                CU_ASSERT(differences == 0);
                pair_saved_fini(&again);
                pair_free(p);
        }
}

static void without_sregs2(void)
{
        struct pair *p = pair_new(1);
        struct err e = { 0 };

        p->to.kvm.has_sregs2 = false;
        p->to.refused_request = KVM_SET_SREGS2;
        CU_ASSERT(pair_load(p, &e) == -ENOTTY); /* the fake has no SREGS */
        CU_ASSERT(fake_first(&p->to, 0, KVM_SET_SREGS) >= 0);
        pair_free(p);
}

/* ---- order ---- */

struct before {
        unsigned long first, then;
};

static const struct before reads[] = {
        { KVM_GET_MP_STATE, KVM_GET_REGS }, { KVM_GET_MP_STATE, KVM_GET_SREGS2 },
        { KVM_GET_MP_STATE, KVM_GET_LAPIC },
        { KVM_GET_REGS, KVM_GET_VCPU_EVENTS }, { KVM_GET_MSRS, KVM_GET_VCPU_EVENTS },
        { KVM_GET_LAPIC, KVM_GET_VCPU_EVENTS }, { KVM_GET_DEBUGREGS, KVM_GET_VCPU_EVENTS },
        { KVM_GET_XCRS, KVM_GET_VCPU_EVENTS }, { KVM_GET_XSAVE, KVM_GET_VCPU_EVENTS },
};

static const struct before writes[] = {
        { KVM_SET_CPUID2, KVM_SET_SREGS2 }, { KVM_SET_SREGS2, KVM_SET_XCRS },
        { KVM_SET_SREGS2, KVM_SET_LAPIC }, { KVM_SET_XCRS, KVM_SET_XSAVE },
        { KVM_SET_XSAVE, KVM_SET_MSRS }, { KVM_SET_DEVICE_ATTR, KVM_SET_LAPIC },
        { KVM_SET_LAPIC, KVM_SET_MSRS }, { KVM_SET_REGS, KVM_SET_VCPU_EVENTS },
        { KVM_SET_LAPIC, KVM_SET_VCPU_EVENTS }, { KVM_SET_MSRS, KVM_SET_VCPU_EVENTS },
        { KVM_SET_VCPU_EVENTS, KVM_SET_MP_STATE }, { KVM_SET_DEBUGREGS, KVM_SET_MP_STATE },
};

static void check_orders(const struct fake *f, const struct before *order, size_t n)
{
        for (int cpu = 0; cpu < (int)f->kvm.cpus; cpu++)
                for (size_t i = 0; i < n; i++) {
                        int first = fake_last(f, cpu, order[i].first);
                        int then = fake_first(f, cpu, order[i].then);

                        CU_ASSERT(first >= 0 && then >= 0 && first < then);
                }
}

static void read_order(void)
{
        struct pair *p = pair_new(2);
        int chips = fake_first(&p->from, FAKE_VM, KVM_GET_IRQCHIP);

        check_orders(&p->from, reads, ARRAY_SIZE(reads));
        /* what comes earlier does not need a pause (state-capture-test.c) */
        int clock = fake_first(&p->from, FAKE_VM, KVM_GET_CLOCK);

        for (int cpu = 0; cpu < 2; cpu++) {
                /* the TSC with the clock, the others after the LAPIC */
                CU_ASSERT(fake_first(&p->from, cpu, KVM_GET_MSRS) == clock + 1 + cpu);
                CU_ASSERT(p->from.calls[clock + 1 + cpu].msr == MSR_TSC);
                CU_ASSERT(fake_last(&p->from, cpu, KVM_GET_LAPIC) <
                          fake_last(&p->from, cpu, KVM_GET_MSRS));
        }
        CU_ASSERT(fake_last(&p->from, 1, KVM_GET_VCPU_EVENTS) < chips);
        CU_ASSERT(fake_last(&p->from, FAKE_VM, KVM_GET_IRQCHIP) - chips == 2);
        pair_free(p);
}

/* INV-ORDER, INV-CHIPS, INV-CLOCK */
static void write_order(void)
{
        struct pair *p = pair_new(2);
        struct err e = { 0 };

        p->to.m->vcpu[0].tsc.khz = p->to.m->vcpu[1].tsc.khz = PAIR_KHZ + 1;
        CU_ASSERT(pair_load(p, &e) == 0);
        check_orders(&p->to, writes, ARRAY_SIZE(writes));

        /* each vCPU's model, then the clock, then the first TSC */
        int clock = fake_last(&p->to, FAKE_VM, KVM_SET_CLOCK);
        int chips = fake_first(&p->to, FAKE_VM, KVM_SET_IRQCHIP);

        CU_ASSERT(fake_last(&p->to, 1, KVM_SET_TSC_KHZ) > fake_last(&p->to, 1, KVM_SET_CPUID2));
        CU_ASSERT(fake_last(&p->to, 1, KVM_SET_TSC_KHZ) < clock);
        CU_ASSERT(clock < fake_first(&p->to, 0, KVM_SET_DEVICE_ATTR));
        for (int cpu = 0; cpu < 2; cpu++) {
                int last_msrs = fake_last(&p->to, cpu, KVM_SET_MSRS);

                CU_ASSERT(fake_last(&p->to, cpu, KVM_SET_MP_STATE) < chips);
                CU_ASSERT(p->to.calls[last_msrs].msr == MSR_TSC_DEADLINE);
                CU_ASSERT(p->to.calls[last_msrs].nmsrs == 1);
        }
        CU_ASSERT(fake_last(&p->to, FAKE_VM, KVM_SET_PIT2) > chips);
        pair_free(p);
}

static void each_failure_is_named(void)
{
        static const unsigned long requests[] = {
                KVM_SET_CPUID2, KVM_SET_SREGS2, KVM_SET_XCRS, KVM_SET_XSAVE, KVM_SET_DEBUGREGS,
                KVM_SET_REGS, KVM_SET_LAPIC, KVM_SET_MSRS, KVM_SET_VCPU_EVENTS, KVM_SET_MP_STATE,
                KVM_SET_DEVICE_ATTR, KVM_SET_CLOCK, KVM_SET_IRQCHIP, KVM_SET_PIT2, KVM_GET_MSRS,
        };

        for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
                struct pair *p = pair_new(2);
                struct err e = { 0 };

                p->to.refused_request = requests[i];
                CU_ASSERT(pair_load(p, &e) < 0 && strlen(e.text) > 40);
                pair_free(p);
        }
}

/* ---- single rules ---- */

static void counts_must_agree(void)
{
        struct pair *p = pair_new(2);
        struct err e = { 0 };

        p->to.kvm.cpus = 1;
        CU_ASSERT(pair_load(p, &e) == -EINVAL && strstr(e.text, "2 vCPUs, the VM has 1"));
        CU_ASSERT(p->to.ncalls == 0);
        pair_free(p);
}

static void xsave_components_of_the_guest(void)
{
        struct pair *p = pair_new(1);
        struct err e = { 0 };
        uint64_t saved_bv, has_bv;

        /* this KVM refuses all but x87 and SSE; so does the guest's CPUID (no leaf 0xd) */
        memcpy(&saved_bv, p->from.m->vcpu[0].xsave + XSTATE_BV_OFFSET, 8);
        p->to.xfeatures = 3;
        CU_ASSERT(saved_bv & ~3ull);
        CU_ASSERT(pair_load(p, &e) == 0);
        memcpy(&has_bv, p->to.m->vcpu[0].xsave + XSTATE_BV_OFFSET, 8);
        CU_ASSERT(has_bv == (saved_bv & 3));
        pair_free(p);
}

static void stopped_guests_are_told(void)
{
        struct pair *p = pair_new(2);

        p->to.refused_request = KVM_KVMCLOCK_CTRL;
        state_before_resume(&p->to.kvm);
        CU_ASSERT(fake_first(&p->to, 0, KVM_KVMCLOCK_CTRL) == 0);
        CU_ASSERT(fake_first(&p->to, 1, KVM_KVMCLOCK_CTRL) == 1);
        pair_free(p);
}

static const struct kvm_nested_state nested_idle_svm = {
        .size = 128, .format = KVM_STATE_NESTED_FORMAT_SVM, .flags = KVM_STATE_NESTED_GIF_SET };
static const struct kvm_nested_state nested_idle_vmx = {
        .size = 128, .format = KVM_STATE_NESTED_FORMAT_VMX, .hdr.vmx.vmxon_pa = UINT64_MAX };
static const struct kvm_nested_state nested_vmxon = {
        .size = 128, .format = KVM_STATE_NESTED_FORMAT_VMX, .hdr.vmx.vmxon_pa = 0x1000 };
static const struct kvm_nested_state nested_gif_clear = {
        .size = 128, .format = KVM_STATE_NESTED_FORMAT_SVM };
static const struct kvm_nested_state nested_big = {
        .size = 4224, .format = KVM_STATE_NESTED_FORMAT_SVM, .flags = KVM_STATE_NESTED_GIF_SET };
static const struct kvm_nested_state nested_guest = {
        .size = 128, .format = KVM_STATE_NESTED_FORMAT_SVM,
        .flags = KVM_STATE_NESTED_GIF_SET | KVM_STATE_NESTED_GUEST_MODE };

static void nested_guests_are_refused(void)
{
        struct fake f;
        struct pair_saved s = { 0 };
        struct err e = { 0 };

        CU_ASSERT(!state_nested_in_use(&nested_idle_svm) && !state_nested_in_use(&nested_idle_vmx));
        CU_ASSERT(state_nested_in_use(&nested_vmxon) && state_nested_in_use(&nested_gif_clear));
        CU_ASSERT(state_nested_in_use(&nested_big) && state_nested_in_use(&nested_guest));

        fake_init(&f, pair_plausible(1, 5));
        f.nested_bytes = 128 + 4096;
        f.nested = nested_vmxon;
        CU_ASSERT(state_save(&f.kvm, &s.json, &s.blob, &e) == -ENOTSUP);
        CU_ASSERT(s.json == NULL && strstr(e.text, "hypervisor of its own") != NULL);
        f.nested = nested_idle_svm;
        CU_ASSERT(state_save(&f.kvm, &s.json, &s.blob, &e) == 0);
        pair_saved_fini(&s);
        fake_fini(&f);
}

struct deadline_case {
        uint64_t saved;
        uint32_t lvtt;
        int irr, isr, injected;         /* vector or -1 */
        uint64_t written;
};

#define DEADLINE_MODE (2u << 17)

static const struct deadline_case deadlines[] = {
        { 5, DEADLINE_MODE | 0xec, -1, -1, -1, 5 },
        { 0, DEADLINE_MODE | 0xec, -1, -1, -1, 1 },             /* fired and lost, perhaps */
        { 0, DEADLINE_MODE | 0xec, 0xec, -1, -1, 0 },
        { 0, DEADLINE_MODE | 0xec, -1, 0xec, -1, 0 },
        { 0, DEADLINE_MODE | 0xec, -1, -1, 0xec, 0 },
        { 0, DEADLINE_MODE | 0xec, 0xeb, 0xed, 0x30, 1 },       /* others' */
        { 0, DEADLINE_MODE | 0x100ec, -1, -1, -1, 0 },          /* masked */
        { 0, 0xec, -1, -1, -1, 0 },                             /* one-shot */
        { 0, 0x200ec, -1, -1, -1, 0 },                          /* periodic */
};

static void set_vector(struct kvm_lapic_state *l, unsigned reg, int vector)
{
        if (vector >= 0)
                l->regs[reg + (unsigned)vector / 32 * 0x10 + (unsigned)vector % 32 / 8] |=
                        (char)(1 << vector % 8);
}

static void lost_ticks_are_given_back(void)
{
        AUTO_FREE struct state_vcpu *v = malloc(sizeof(*v));

        ASSERT(v != NULL);
        for (size_t i = 0; i < ARRAY_SIZE(deadlines); i++) {
                const struct deadline_case *c = &deadlines[i];

                memset(v, 0, sizeof(*v));
                v->msrs.nmsrs = 1;
                v->msrs.entries[0] = (struct kvm_msr_entry){ .index = 0x6e0, .data = c->saved };
                memcpy(v->lapic.regs + 0x320, &c->lvtt, sizeof(c->lvtt));
                set_vector(&v->lapic, 0x200, c->irr);
                set_vector(&v->lapic, 0x100, c->isr);
                v->events.interrupt.injected = c->injected >= 0;
                v->events.interrupt.nr = (uint8_t)c->injected;
                CU_ASSERT(state_vcpu_deadline(v) == c->written);
        }
}

static const CU_TestInfo cases[] = {
        { "all arrives in another VM", arrives_whole },
        { "SREGS where SREGS2 is missing", without_sregs2 },
        { "read order", read_order },
        { "write order", write_order },
        { "each refused call is an error with a sentence", each_failure_is_named },
        { "the number of vCPUs must agree", counts_must_agree },
        { "XSAVE components beyond the guest's CPUID", xsave_components_of_the_guest },
        { "stopped guests are told", stopped_guests_are_told },
        { "guests with nested guests are refused", nested_guests_are_refused },
        { "lost timer ticks are given back", lost_ticks_are_given_back },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("state-order", cases);
}
