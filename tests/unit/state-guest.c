/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/state-guest.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>

#include "common/check.h"
#include "tests/unit/suite.h"
#include "vmm/cpuid.h"

/* a halted guest says nothing: it is looked at again and again */
#define SETTLE_MS 50
#define SETTLE_TRIES 60
#define CODE_GPA 0x1000u
#define STACK_GPA 0x8000u

static void no_action(int sig)
{
        (void)sig;
}

void guest_init(void)
{
        struct sigaction act = { .sa_handler = no_action };     /* no SA_RESTART */

        sigaction(SIGALRM, &act, NULL);
}

/* sti; hlt; jmp back to hlt. Handlers: out their vector, iret. */
static void place_guest(struct vm *vm)
{
        static const uint8_t code[] = { 0xfb, 0xf4, 0xeb, 0xfd };
        static const unsigned vectors[] = { GUEST_TIMER_VECTOR, GUEST_NMI_VECTOR };
        uint8_t *low = ram_at(&vm->ram, 0, 1 << 16);

        memcpy(low + CODE_GPA, code, sizeof(code));
        for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
                uint16_t at = (uint16_t)(CODE_GPA + 0x100 * (i + 1));
                const uint8_t handler[] = { 0xb0, (uint8_t)vectors[i], 0xe6, GUEST_PORT, 0xcf };
                const uint16_t entry[2] = { at, 0 };

                memcpy(low + at, handler, sizeof(handler));
                memcpy(low + 4 * vectors[i], entry, sizeof(entry));
        }
}

void guest_start(struct vm *vm)
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

int guest_run(struct vm *vm, unsigned ms)
{
        struct kvm_run *run = vm->kvm.run[0];
        struct itimerval soon = { .it_value = { ms / 1000, ms % 1000 * 1000 },
                                  .it_interval.tv_sec = 1 };
        struct itimerval never = { 0 };
        int rc, vector = -1;

        setitimer(ITIMER_REAL, &soon, NULL);
        rc = ioctl(vm->kvm.vcpu_fd[0], KVM_RUN, NULL);
        setitimer(ITIMER_REAL, &never, NULL);
        if (rc == 0 && run->exit_reason == KVM_EXIT_IO && run->io.port == GUEST_PORT)
                vector = *((uint8_t *)run + run->io.data_offset);
        else if (rc == 0) {
                fprintf(stderr, "the guest left with exit reason %u\n", run->exit_reason);
                vector = GUEST_LEFT;
        }
        return vector;
}

void guest_complete(struct vm *vm)
{
        struct kvm_run *run = vm->kvm.run[0];

        run->immediate_exit = 1;
        (void)ioctl(vm->kvm.vcpu_fd[0], KVM_RUN, NULL);
        run->immediate_exit = 0;
}

bool guest_settle(struct vm *vm)
{
        struct kvm_regs r = { 0 };

        for (unsigned i = 0; i < SETTLE_TRIES && r.rip != CODE_GPA + 2; i++) {
                guest_run(vm, SETTLE_MS);
                guest_complete(vm);
                CU_ASSERT(vm_vcpu_call(vm, 0, KVM_GET_REGS, &r) == 0);
        }
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

void guest_arm_deadline(struct vm *vm)
{
        int khz = vm_vcpu_call(vm, 0, KVM_GET_TSC_KHZ, NULL);

        lapic_change(vm, 0x320, 2u << 17 | GUEST_TIMER_VECTOR);
        vm_set_msr(vm, 0, MSR_TSC_DEADLINE, read_tsc(vm) + (uint64_t)khz * 100);
}

void guest_arm_one_shot(struct vm *vm)
{
        lapic_change(vm, 0x3e0, 0xb);                   /* divide by 1: 1 GHz */
        lapic_change(vm, 0x320, GUEST_TIMER_VECTOR);
        lapic_change(vm, 0x380, 200000000);
        lapic_change(vm, 0x390, 100000000);
}

void guest_pend_interrupt(struct vm *vm)
{
        lapic_change(vm, 0x200 + GUEST_TIMER_VECTOR / 32 * 0x10, 1u << GUEST_TIMER_VECTOR % 32);
}

void guest_pend_nmi(struct vm *vm)
{
        struct kvm_vcpu_events ev;

        CU_ASSERT(vm_vcpu_call(vm, 0, KVM_GET_VCPU_EVENTS, &ev) == 0);
        ev.nmi.pending = 1;
        CU_ASSERT(vm_vcpu_call(vm, 0, KVM_SET_VCPU_EVENTS, &ev) == 0);
}
