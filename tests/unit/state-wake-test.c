/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: what was on its way to a guest when it was saved (timers, interrupts,
 *       an NMI) reaches it in the second VM.
 * Method: a real mode guest that halts and whose interrupt handlers write
 *       their vector to a port. Needs /dev/kvm. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>

#include "common/check.h"
#include "tests/unit/state-kvm.h"
#include "tests/unit/suite.h"
#include "vmm/cpuid.h"

#define TIMER_VECTOR 0x31u
#define NMI_VECTOR 2u
#define PORT 0x10
#define CODE_GPA 0x1000u
#define STACK_GPA 0x8000u

static void no_action(int sig)
{
        (void)sig;
}

/* sti; hlt; jmp back to hlt. Handlers: out their vector, iret. */
static void place_guest(struct vm *vm)
{
        static const uint8_t code[] = { 0xfb, 0xf4, 0xeb, 0xfd };
        static const unsigned vectors[] = { TIMER_VECTOR, NMI_VECTOR };
        uint8_t *low = ram_at(&vm->ram, 0, 1 << 16);

        memcpy(low + CODE_GPA, code, sizeof(code));
        for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
                uint16_t at = (uint16_t)(CODE_GPA + 0x100 * (i + 1));
                const uint8_t handler[] = { 0xb0, (uint8_t)vectors[i], 0xe6, PORT, 0xcf };
                const uint16_t entry[2] = { at, 0 };

                memcpy(low + at, handler, sizeof(handler));
                memcpy(low + 4 * vectors[i], entry, sizeof(entry));
        }
}

static void start_guest(struct vm *vm)
{
        struct kvm_regs r = { .rip = CODE_GPA, .rsp = STACK_GPA, .rflags = 2 };
        struct kvm_sregs s;
        struct err e = { 0 };

        CU_ASSERT(cpuid_set_all(&vm->kvm, &e) == 0);
        place_guest(vm);
        CU_ASSERT(vm_vcpu_call(vm, 0, KVM_GET_SREGS, &s) == 0);
        s.cs.base = 0;
        s.cs.selector = 0;
        CU_ASSERT(vm_vcpu_call(vm, 0, KVM_SET_SREGS, &s) == 0);
        CU_ASSERT(vm_vcpu_call(vm, 0, KVM_SET_REGS, &r) == 0);
}

/* The vector the guest writes, or -1 when it stays silent for seconds. */
static int run_guest(struct vm *vm, unsigned seconds)
{
        struct kvm_run *run = vm->kvm.run[0];
        struct itimerval soon = { .it_value.tv_sec = seconds, .it_interval.tv_sec = 1 };
        struct itimerval never = { 0 };
        int rc, vector = -1;

        setitimer(ITIMER_REAL, &soon, NULL);
        rc = ioctl(vm->kvm.vcpu_fd[0], KVM_RUN, NULL);
        setitimer(ITIMER_REAL, &never, NULL);
        if (rc == 0 && run->exit_reason == KVM_EXIT_IO && run->io.port == PORT)
                vector = *((uint8_t *)run + run->io.data_offset);
        else if (rc == 0)
                fprintf(stderr, "the guest left with exit reason %u\n", run->exit_reason);
        return vector;
}

/* Lets it reach hlt. */
static bool settle_guest(struct vm *vm)
{
        struct kvm_run *run = vm->kvm.run[0];
        struct kvm_regs r;

        run_guest(vm, 1);
        /* completes what KVM has begun */
        run->immediate_exit = 1;
        (void)ioctl(vm->kvm.vcpu_fd[0], KVM_RUN, NULL);
        run->immediate_exit = 0;
        CU_ASSERT(vm_vcpu_call(vm, 0, KVM_GET_REGS, &r) == 0);
        return r.rip == CODE_GPA + 2;
}

static uint64_t read_tsc(struct vm *vm)
{
        uint64_t tsc = 0;
        struct err e = { 0 };

        CU_ASSERT(state_msr_read(&vm->kvm, 0, MSR_TSC, &tsc, &e) == 0);
        return tsc;
}

static void lapic_change(struct vm *vm, unsigned reg, uint32_t v)
{
        struct kvm_lapic_state l;

        CU_ASSERT(vm_vcpu_call(vm, 0, KVM_GET_LAPIC, &l) == 0);
        lapic_set(&l, 0xf0, 0x1ff);
        lapic_set(&l, reg, v);
        CU_ASSERT(vm_vcpu_call(vm, 0, KVM_SET_LAPIC, &l) == 0);
}

static void arm_deadline(struct vm *vm)
{
        int khz = vm_vcpu_call(vm, 0, KVM_GET_TSC_KHZ, NULL);

        lapic_change(vm, 0x320, 2u << 17 | TIMER_VECTOR);
        vm_set_msr(vm, 0, MSR_TSC_DEADLINE, read_tsc(vm) + (uint64_t)khz * 100);
}

static void arm_one_shot(struct vm *vm)
{
        lapic_change(vm, 0x3e0, 0xb);                   /* divide by 1: 1 GHz */
        lapic_change(vm, 0x320, TIMER_VECTOR);
        lapic_change(vm, 0x380, 200000000);
        lapic_change(vm, 0x390, 100000000);
}

static void pend_interrupt(struct vm *vm)
{
        lapic_change(vm, 0x200 + TIMER_VECTOR / 32 * 0x10, 1u << TIMER_VECTOR % 32);
}

static void pend_nmi(struct vm *vm)
{
        struct kvm_vcpu_events ev;

        CU_ASSERT(vm_vcpu_call(vm, 0, KVM_GET_VCPU_EVENTS, &ev) == 0);
        ev.nmi.pending = 1;
        CU_ASSERT(vm_vcpu_call(vm, 0, KVM_SET_VCPU_EVENTS, &ev) == 0);
}

/* The event is prepared in a halted guest, which never sees it: another VM does. */
static void reaches_second_vm(void (*prepare)(struct vm *), int vector)
{
        struct vm a, b;

        CU_ASSERT_FATAL(vm_new(&a, 1) && vm_new(&b, 1));
        start_guest(&a);
        CU_ASSERT_FATAL(settle_guest(&a));
        prepare(&a);
        CU_ASSERT(vm_move(&a, &b) == 0);
        state_before_resume(&b.kvm);
        CU_ASSERT(run_guest(&b, 3) == vector);
        vm_fini(&a);
        vm_fini(&b);
}

static void deadline_fires(void)
{
        reaches_second_vm(arm_deadline, TIMER_VECTOR);
}

static void one_shot_fires(void)
{
        reaches_second_vm(arm_one_shot, TIMER_VECTOR);
}

static void interrupt_comes(void)
{
        reaches_second_vm(pend_interrupt, TIMER_VECTOR);
}

static void nmi_comes(void)
{
        reaches_second_vm(pend_nmi, NMI_VECTOR);
}

static void nothing_armed(struct vm *vm)
{
        (void)vm;
}

/* The others would pass if anything woke the guest. */
static void silence_stays(void)
{
        reaches_second_vm(nothing_armed, -1);
}

static const CU_TestInfo cases[] = {
        { "an armed TSC deadline fires in the second VM", deadline_fires },
        { "an armed one-shot timer fires in the second VM", one_shot_fires },
        { "a pending interrupt comes in the second VM", interrupt_comes },
        { "a pending NMI comes in the second VM", nmi_comes },
        { "an idle guest stays idle", silence_stays },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        struct sigaction act = { .sa_handler = no_action };     /* no SA_RESTART */
        int skip = vm_skip();

        sigaction(SIGALRM, &act, NULL);
        return skip ? skip : suite_main("state-wake", cases);
}
