/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: on this host's KVM a state that is set, saved, loaded into a second VM
 *       and saved again shows no unexpected difference.
 * Method: values by ioctl, the guest never runs. Needs /dev/kvm. */
#include <string.h>

#include "tests/unit/state-kvm.h"
#include "tests/unit/suite.h"
#include "vmm/cpuid.h"

#define TIMER_VECTOR 0x31u

static void set_segment(struct kvm_segment *s, uint16_t selector, uint8_t type, bool code)
{
        *s = (struct kvm_segment){ .limit = 0xffffffff, .selector = selector, .type = type,
                                   .present = 1, .s = 1, .g = 1, .l = code, .db = !code };
}

static void set_long_mode(struct vm *vm, unsigned cpu)
{
        struct kvm_sregs s;

        CU_ASSERT(vm_vcpu_call(vm, cpu, KVM_GET_SREGS, &s) == 0);
        set_segment(&s.cs, 0x10, 0xb, true);
        set_segment(&s.ds, 0x18, 0x3, false);
        set_segment(&s.es, 0x18, 0x3, false);
        set_segment(&s.ss, 0x18, 0x3, false);
        set_segment(&s.fs, 0x18, 0x3, false);
        set_segment(&s.gs, 0x18, 0x3, false);
        s.fs.base = 0x7f0000001000 + cpu;
        s.gs.base = 0xffff888000002000 + cpu;
        s.gdt = (struct kvm_dtable){ .base = 0xfffffe0000001000 + cpu, .limit = 0x7f };
        s.idt = (struct kvm_dtable){ .base = 0xfffffe0000000000, .limit = 0xfff };
        s.cr0 = 0x80050033;
        s.cr2 = 0x1234000 + cpu;
        s.cr3 = 0x2000;
        s.cr4 = 0x620;
        s.cr8 = 3;
        s.efer = 0x501;
        CU_ASSERT(vm_vcpu_call(vm, cpu, KVM_SET_SREGS, &s) == 0);
}

static void set_registers(struct vm *vm, unsigned cpu)
{
        struct kvm_regs r = { .rflags = 0x246, .rip = 0xffffffff81000000 + cpu };
        struct kvm_debugregs d = { .db = { 0x1000, 0x2000, 0x3000, 0x4000 + cpu },
                                   .dr6 = 0xffff0ff0, .dr7 = 0x400 };
        uint64_t *gpr = (uint64_t *)&r;

        for (unsigned i = 0; i < 16; i++)
                gpr[i] = 0xf00d000000000000 + 0x100 * cpu + i;
        CU_ASSERT(vm_vcpu_call(vm, cpu, KVM_SET_REGS, &r) == 0);
        CU_ASSERT(vm_vcpu_call(vm, cpu, KVM_SET_DEBUGREGS, &d) == 0);
}

static void set_xmm(struct vm *vm, unsigned cpu)
{
        struct kvm_xsave x;
        uint8_t *area = (uint8_t *)x.region;
        uint64_t x87_and_sse = 3;

        CU_ASSERT(vm_vcpu_call(vm, cpu, KVM_GET_XSAVE, &x) == 0);
        for (unsigned i = 0; i < 16 * 16; i++)
                area[160 + i] = (uint8_t)(1 + i * 7 + cpu);
        memcpy(area + XSTATE_BV_OFFSET, &x87_and_sse, sizeof(x87_and_sse));
        CU_ASSERT(vm_vcpu_call(vm, cpu, KVM_SET_XSAVE, &x) == 0);
}

static void set_msrs(struct vm *vm, unsigned cpu)
{
        vm_set_msr(vm, cpu, 0x174, 0x10);
        vm_set_msr(vm, cpu, 0x277, 0x0007040600070406);
        vm_set_msr(vm, cpu, 0x200, 0x80000006);
        vm_set_msr(vm, cpu, 0x201, 0x7f80000800);
        vm_set_msr(vm, cpu, 0x2ff, 0xc06);
        vm_set_msr(vm, cpu, 0xc0000081, 0x0023001000000000);
        vm_set_msr(vm, cpu, 0xc0000082, 0xffffffff81800000 + cpu);
        vm_set_msr(vm, cpu, 0xc0000102, 0xffff888000010000 + cpu);
        vm_set_msr(vm, cpu, 0x4b564d00, 0x5000);
        vm_set_msr(vm, cpu, 0x4b564d01, (0x6000 + 0x40 * cpu) | 1);
        vm_set_msr(vm, cpu, 0x4b564d04, (0x7000 + 0x40 * cpu) | 1);
}

static void set_chips(struct vm *vm)
{
        struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };
        struct kvm_pit_state2 pit;

        CU_ASSERT(kvm_call(&vm->kvm, vm->kvm.vm_fd, KVM_GET_IRQCHIP, &chip) == 0);
        for (unsigned i = 0; i < KVM_IOAPIC_NUM_PINS; i++)
                chip.chip.ioapic.redirtbl[i].bits = 0x10000 | (0x30 + i) | (uint64_t)i << 56;
        chip.chip.ioapic.ioregsel = 0x12;
        CU_ASSERT(kvm_call(&vm->kvm, vm->kvm.vm_fd, KVM_SET_IRQCHIP, &chip) == 0);
        chip.chip_id = KVM_IRQCHIP_PIC_MASTER;
        CU_ASSERT(kvm_call(&vm->kvm, vm->kvm.vm_fd, KVM_GET_IRQCHIP, &chip) == 0);
        chip.chip.pic.imr = 0xfb;
        chip.chip.pic.irq_base = 0x30;
        CU_ASSERT(kvm_call(&vm->kvm, vm->kvm.vm_fd, KVM_SET_IRQCHIP, &chip) == 0);
        CU_ASSERT(kvm_call(&vm->kvm, vm->kvm.vm_fd, KVM_GET_PIT2, &pit) == 0);
        pit.channels[2].count = 0x4321;
        pit.channels[2].mode = 3;
        CU_ASSERT(kvm_call(&vm->kvm, vm->kvm.vm_fd, KVM_SET_PIT2, &pit) == 0);
}

static void set_vcpu(struct vm *vm, unsigned cpu)
{
        struct kvm_mp_state halted = { KVM_MP_STATE_HALTED };
        struct kvm_vcpu_events ev;
        struct kvm_lapic_state l;

        set_long_mode(vm, cpu);
        set_registers(vm, cpu);
        set_xmm(vm, cpu);
        CU_ASSERT(vm_vcpu_call(vm, cpu, KVM_GET_LAPIC, &l) == 0);
        lapic_set(&l, 0xf0, 0x1ff);                 /* enabled */
        lapic_set(&l, 0x220, 1u << 7);              /* IRR: vector 0x47 */
        lapic_set(&l, 0x320, 2u << 17 | TIMER_VECTOR);
        CU_ASSERT(vm_vcpu_call(vm, cpu, KVM_SET_LAPIC, &l) == 0);
        set_msrs(vm, cpu);
        vm_set_msr(vm, cpu, MSR_TSC_DEADLINE, 1ull << 62); /* in a century */
        CU_ASSERT(vm_vcpu_call(vm, cpu, KVM_GET_VCPU_EVENTS, &ev) == 0);
        ev.interrupt.injected = 1;
        ev.interrupt.nr = 0xec;
        ev.nmi.pending = 1;
        ev.nmi.masked = 1;
        CU_ASSERT(vm_vcpu_call(vm, cpu, KVM_SET_VCPU_EVENTS, &ev) == 0);
        CU_ASSERT(vm_vcpu_call(vm, cpu, KVM_SET_MP_STATE, &halted) == 0);
}

static void values_arrive(void)
{
        for (unsigned cpus = 1; cpus <= 2; cpus++) {
                struct vm a, b;
                struct err e = { 0 };

                CU_ASSERT_FATAL(vm_new(&a, cpus) && vm_new(&b, cpus));
                CU_ASSERT(cpuid_set_all(&a.kvm, &e) == 0);
                for (unsigned i = 0; i < cpus; i++)
                        set_vcpu(&a, i);
                set_chips(&a);
                CU_ASSERT(vm_move(&a, &b) == 0);
                vm_fini(&a);
                vm_fini(&b);
        }
}

/* A VM as created is a state as well; its APs wait for INIT. */
static void fresh_vm_arrives(void)
{
        struct vm a, b;
        struct err e = { 0 };

        CU_ASSERT_FATAL(vm_new(&a, 2) && vm_new(&b, 2));
        CU_ASSERT(cpuid_set_all(&a.kvm, &e) == 0);
        CU_ASSERT(vm_move(&a, &b) == 0);
        vm_fini(&a);
        vm_fini(&b);
}

/* What this KVM keeps must not be equal by accident. */
static void differences_show(void)
{
        struct vm a;
        struct err e = { 0 };
        struct vm_saved was, is;

        CU_ASSERT_FATAL(vm_new(&a, 1));
        CU_ASSERT(cpuid_set_all(&a.kvm, &e) == 0);
        CU_ASSERT_FATAL(vm_save(&a, &was));
        set_vcpu(&a, 0);
        set_chips(&a);
        CU_ASSERT_FATAL(vm_save(&a, &is));
        CU_ASSERT(vm_differences(&was, &is) > 150);
        vm_saved_fini(&was);
        vm_saved_fini(&is);
        vm_fini(&a);
}

static const CU_TestInfo cases[] = {
        { "differences show", differences_show },
        { "values in every register arrive", values_arrive },
        { "a fresh VM arrives", fresh_vm_arrives },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        int skip = vm_skip();

        return skip ? skip : suite_main("state-kvm", cases);
}
