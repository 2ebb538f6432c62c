/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a VM that has run goes back to a state of its own: nothing of what came after it
 *       reaches the guest, what was on its way at that time does, and guest memory that was
 *       written meanwhile takes effect, page tables too.
 * Method: the guest of state-guest.h, to which something is done after its state was saved;
 *         one that reads through page tables of its own. Needs /dev/kvm. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "common/auto.h"
#include "common/check.h"
#include "tests/unit/state-guest.h"
#include "tests/unit/suite.h"

static bool go_back(struct vm *vm, const struct vm_saved *s)
{
        AUTO_FREE struct machine_state *m = NULL;
        struct err e = { 0 };
        int rc = state_parse(&vm->kvm, s->json, &s->blob, &m, &e);

        if (rc == 0)
                rc = state_fits(&vm->kvm, m, &e);
        if (rc == 0)
                rc = kvm_remap(&vm->kvm, &vm->ram, &e);
        if (rc == 0)
                rc = state_reload(&vm->kvm, m, &e);
        if (rc < 0)
                fprintf(stderr, "%s\n", e.text);
        return rc == 0;
}

static void nothing(struct vm *vm)
{
        (void)vm;
}

/* vector: what the guest gets once after it went back, -1 = nothing */
static void goes_back(void (*before)(struct vm *), void (*after)(struct vm *), int vector)
{
        struct vm_saved was, is;
        struct vm vm;

        CU_ASSERT_FATAL(vm_new(&vm, 1));
        guest_start(&vm);
        CU_ASSERT_FATAL(guest_settle(&vm));
        before(&vm);
        CU_ASSERT_FATAL(vm_save(&vm, &was));
        after(&vm);
        CU_ASSERT(go_back(&vm, &was) && vm_save(&vm, &is));
        CU_ASSERT(vm_differences(&was, &is) == 0);
        vm_saved_fini(&is);
        state_before_resume(&vm.kvm);
        if (vector >= 0) {
                CU_ASSERT(guest_run(&vm, GUEST_PATIENCE_MS) == vector);
                guest_complete(&vm);
        }
        CU_ASSERT(guest_run(&vm, GUEST_SILENT_MS) == -1);
        vm_saved_fini(&was);
        vm_fini(&vm);
}

static void let_it_wake(struct vm *vm)
{
        CU_ASSERT(guest_run(vm, GUEST_PATIENCE_MS) == GUEST_TIMER_VECTOR);
        guest_complete(vm);
}

/* Deadline 0 in a save may be a tick that was lost: it comes. */
static void deadline_mode(struct vm *vm)
{
        guest_arm_deadline(vm);
        vm_set_msr(vm, 0, MSR_TSC_DEADLINE, 0);
}

static void later_deadline_is_gone(void)
{
        goes_back(nothing, guest_arm_deadline, -1);
}

static void later_one_shot_is_gone(void)
{
        goes_back(nothing, guest_arm_one_shot, -1);
}

static void later_interrupt_is_gone(void)
{
        goes_back(nothing, guest_pend_interrupt, -1);
}

static void later_nmi_is_gone(void)
{
        goes_back(nothing, guest_pend_nmi, -1);
}

static void fired_deadline_fires_again(void)
{
        goes_back(guest_arm_deadline, let_it_wake, GUEST_TIMER_VECTOR);
}

static void fired_one_shot_fires_again(void)
{
        goes_back(guest_arm_one_shot, let_it_wake, GUEST_TIMER_VECTOR);
}

static void taken_interrupt_comes_again(void)
{
        goes_back(guest_pend_interrupt, let_it_wake, GUEST_TIMER_VECTOR);
}

static void triple_fault(struct vm *vm)
{
        struct kvm_enable_cap cap = { .cap = KVM_CAP_X86_TRIPLE_FAULT_EVENT, .args = { 1 } };
        struct kvm_vcpu_events ev;

        if (kvm_call(&vm->kvm, vm->kvm.vm_fd, KVM_ENABLE_CAP, &cap) < 0)
                return;                 /* a kernel that does not tell it */
        CU_ASSERT(vm_vcpu_call(vm, 0, KVM_GET_VCPU_EVENTS, &ev) == 0);
        ev.triple_fault.pending = 1;
        CU_ASSERT(vm_vcpu_call(vm, 0, KVM_SET_VCPU_EVENTS, &ev) == 0);
        cap.args[0] = 0;
        CU_ASSERT(kvm_call(&vm->kvm, vm->kvm.vm_fd, KVM_ENABLE_CAP, &cap) == 0);
}

static void later_triple_fault_is_gone(void)
{
        goes_back(nothing, triple_fault, -1);
}

/* Registers, chips, a PIT that ticks every 55 ms into an open IOAPIC pin. */
static void disturb(struct vm *vm)
{
        struct kvm_pit_state2 pit = { .channels[0] = { .count = 0xffff, .mode = 2 } };
        struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };
        struct kvm_regs r;

        CU_ASSERT(vm_vcpu_call(vm, 0, KVM_GET_REGS, &r) == 0);
        r.rax = r.rbx = 0x55;
        r.rflags |= 1u << 9;
        CU_ASSERT(vm_vcpu_call(vm, 0, KVM_SET_REGS, &r) == 0);
        vm_set_msr(vm, 0, 0xc0000102, 0x1234);          /* KERNEL_GS_BASE */
        CU_ASSERT(kvm_call(&vm->kvm, vm->kvm.vm_fd, KVM_GET_IRQCHIP, &chip) == 0);
        chip.chip.ioapic.redirtbl[0].fields.vector = GUEST_TIMER_VECTOR;
        chip.chip.ioapic.redirtbl[0].fields.mask = 0;
        CU_ASSERT(kvm_call(&vm->kvm, vm->kvm.vm_fd, KVM_SET_IRQCHIP, &chip) == 0);
        CU_ASSERT(kvm_call(&vm->kvm, vm->kvm.vm_fd, KVM_SET_PIT2, &pit) == 0);
        guest_pend_nmi(vm);
        guest_run(vm, GUEST_SILENT_MS);
        guest_complete(vm);
}

static void disturbed_is_as_before(void)
{
        goes_back(nothing, disturb, -1);
}

/* The timer mode stays: loading the LAPIC alone would start the later deadline again. */
static void tick_on_its_way(struct vm *vm)
{
        deadline_mode(vm);
        guest_pend_interrupt(vm);
}

static void later_tick_is_gone(void)
{
        goes_back(tick_on_its_way, guest_arm_deadline, GUEST_TIMER_VECTOR);
}

static void lost_tick_comes(void)
{
        goes_back(deadline_mode, guest_arm_deadline, GUEST_TIMER_VECTOR);
}

/* ---- a second CPU ----------------------------------------------------------- */

/* INIT reached it after the state: it was running, or never started. */
static void mp_state_goes_back(void)
{
        static const uint32_t states[] = {
                KVM_MP_STATE_UNINITIALIZED, KVM_MP_STATE_INIT_RECEIVED,
                KVM_MP_STATE_HALTED, KVM_MP_STATE_RUNNABLE,
        };
        struct vm vm;

        CU_ASSERT_FATAL(vm_new(&vm, 2));
        guest_start(&vm);
        CU_ASSERT(guest_settle(&vm));
        for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
                struct kvm_mp_state s = { states[i] };
                struct kvm_mp_state other = { states[(i + 1) % ARRAY_SIZE(states)] };
                struct vm_saved was;

                CU_ASSERT(vm_vcpu_call(&vm, 1, KVM_SET_MP_STATE, &s) == 0);
                CU_ASSERT_FATAL(vm_save(&vm, &was));
                CU_ASSERT(vm_vcpu_call(&vm, 1, KVM_SET_MP_STATE, &other) == 0);
                CU_ASSERT(go_back(&vm, &was));
                CU_ASSERT(vm_vcpu_call(&vm, 1, KVM_GET_MP_STATE, &s) == 0);
                CU_ASSERT(s.mp_state == states[i]);
                vm_saved_fini(&was);
        }
        vm_fini(&vm);
}

/* A start-up signal, as the first CPU would send it. */
static void send_sipi(struct vm *vm)
{
        struct kvm_msi sipi = { .address_lo = 0xfee00000u | 1u << 12, .data = 6u << 8 | 0x10 };

        CU_ASSERT(kvm_call(&vm->kvm, vm->kvm.vm_fd, KVM_SIGNAL_MSI, &sipi) > 0);
}

static void later_sipi_is_gone(void)
{
        struct kvm_mp_state s = { KVM_MP_STATE_INIT_RECEIVED };
        struct vm_saved was;
        struct vm vm;

        CU_ASSERT_FATAL(vm_new(&vm, 2));
        guest_start(&vm);
        CU_ASSERT(guest_settle(&vm));
        CU_ASSERT(vm_vcpu_call(&vm, 1, KVM_SET_MP_STATE, &s) == 0);
        CU_ASSERT_FATAL(vm_save(&vm, &was));
        CU_ASSERT(go_back(&vm, &was));          /* KVM has a map of APICs now */
        send_sipi(&vm);
        CU_ASSERT(go_back(&vm, &was));
        CU_ASSERT(vm_vcpu_call(&vm, 1, KVM_GET_MP_STATE, &s) == 0);
        CU_ASSERT(s.mp_state == KVM_MP_STATE_INIT_RECEIVED);
        send_sipi(&vm);
        CU_ASSERT(vm_vcpu_call(&vm, 1, KVM_GET_MP_STATE, &s) == 0);
        CU_ASSERT(s.mp_state == KVM_MP_STATE_RUNNABLE);
        vm_saved_fini(&was);
        vm_fini(&vm);
}

static void other_cpu_is_refused(void)
{
        AUTO_FREE struct machine_state *m = NULL;
        struct vm_saved was;
        struct err e = { 0 };
        struct vm vm;

        CU_ASSERT_FATAL(vm_new(&vm, 1));
        guest_start(&vm);
        CU_ASSERT(guest_settle(&vm));
        CU_ASSERT_FATAL(vm_save(&vm, &was));
        CU_ASSERT_FATAL(state_parse(&vm.kvm, was.json, &was.blob, &m, &e) == 0);
        CU_ASSERT(state_fits(&vm.kvm, m, &e) == 0);
        m->vcpu[0].cpuid.entries[1].ecx ^= 1u << 27;    /* OSXSAVE: KVM's own */
        CU_ASSERT(state_fits(&vm.kvm, m, &e) == 0);
        m->vcpu[0].cpuid.entries[1].ecx ^= 1u << 20;
        CU_ASSERT(state_fits(&vm.kvm, m, &e) == -EINVAL);
        m->vcpu[0].cpuid.entries[1].ecx ^= 1u << 20;
        m->vcpu[0].cpuid.nent--;
        CU_ASSERT(state_fits(&vm.kvm, m, &e) == -EINVAL);
        vm_saved_fini(&was);
        vm_fini(&vm);
}

/* ---- page tables ------------------------------------------------------------ */

#define TABLES_GPA 0x10000u             /* one for each of four levels */
#define LEAF_GPA (TABLES_GPA + 3 * 0x1000)
#define WINDOW_GVA 0x100000u
#define A_GPA 0x20000u
#define B_GPA 0x21000u
#define PAGING_CODE_GPA 0x2000u
#define PRESENT_WRITABLE 3u

static void map_window(struct vm *vm, uint64_t gpa)
{
        uint64_t *leaf = ram_at(&vm->ram, LEAF_GPA, 0x1000);

        leaf[WINDOW_GVA >> 12] = gpa | PRESENT_WRITABLE;
}

/* The first 2 MiB as they are, but for the window. */
static void place_tables(struct vm *vm)
{
        uint64_t *table = ram_at(&vm->ram, TABLES_GPA, 4 * 0x1000);
        uint64_t *leaf = table + 3 * 512;

        for (unsigned i = 0; i < 3; i++)
                table[i * 512] = (TABLES_GPA + (i + 1) * 0x1000) | PRESENT_WRITABLE;
        for (uint64_t i = 0; i < 512; i++)
                leaf[i] = i << 12 | PRESENT_WRITABLE;
        map_window(vm, A_GPA);
        *(uint8_t *)ram_at(&vm->ram, A_GPA, 1) = 'A';
        *(uint8_t *)ram_at(&vm->ram, B_GPA, 1) = 'B';
}

/* mov al, [WINDOW_GVA]; out GUEST_PORT, al; again */
static void place_reader(struct vm *vm)
{
        static const uint8_t code[] = {
                0xa0, 0, 0, WINDOW_GVA >> 16, 0, 0, 0, 0, 0, 0xe6, GUEST_PORT, 0xeb, 0xf3,
        };

        memcpy(ram_at(&vm->ram, PAGING_CODE_GPA, sizeof(code)), code, sizeof(code));
}

static void start_reader(struct vm *vm)
{
        struct kvm_regs r = { .rip = PAGING_CODE_GPA, .rflags = 2 };
        struct kvm_segment flat = { .limit = 0xffffffff, .present = 1, .s = 1, .g = 1 };
        struct kvm_sregs s;

        guest_start(vm);
        place_tables(vm);
        place_reader(vm);
        CU_ASSERT(vm_vcpu_call(vm, 0, KVM_GET_SREGS, &s) == 0);
        s.cr0 = 0x80000031;
        s.cr3 = TABLES_GPA;
        s.cr4 = 0x20;
        s.efer = 0x500;
        s.cs = s.ds = s.es = s.fs = s.gs = s.ss = flat;
        s.cs.type = 11;
        s.cs.l = 1;
        s.cs.selector = 8;
        s.ds.type = s.es.type = s.fs.type = s.gs.type = s.ss.type = 3;
        s.ds.db = s.es.db = s.fs.db = s.gs.db = s.ss.db = 1;
        CU_ASSERT(vm_vcpu_call(vm, 0, KVM_SET_SREGS, &s) == 0);
        CU_ASSERT(vm_vcpu_call(vm, 0, KVM_SET_REGS, &r) == 0);
}

/* As RAM is put back by a rollback: stored to, while KVM does not look. */
static void tables_take_effect(void)
{
        struct vm_saved was;
        struct vm vm;

        CU_ASSERT_FATAL(vm_new(&vm, 1));
        start_reader(&vm);
        CU_ASSERT(guest_run(&vm, GUEST_PATIENCE_MS) == 'A');
        guest_complete(&vm);
        CU_ASSERT_FATAL(vm_save(&vm, &was));
        for (unsigned i = 0; i < 10; i++) {
                CU_ASSERT(guest_run(&vm, GUEST_PATIENCE_MS) == (i % 2 ? 'B' : 'A'));
                guest_complete(&vm);
                map_window(&vm, i % 2 ? A_GPA : B_GPA);
                CU_ASSERT(go_back(&vm, &was));
        }
        vm_saved_fini(&was);
        vm_fini(&vm);
}

static const CU_TestInfo cases[] = {
        { "a deadline armed later does not fire", later_deadline_is_gone },
        { "nor does a one-shot timer", later_one_shot_is_gone },
        { "an interrupt that came later is gone", later_interrupt_is_gone },
        { "so is an NMI", later_nmi_is_gone },
        { "so is a triple fault", later_triple_fault_is_gone },
        { "a deadline that has fired fires again", fired_deadline_fires_again },
        { "so does a one-shot timer", fired_one_shot_fires_again },
        { "an interrupt that was taken comes again", taken_interrupt_comes_again },
        { "a tick that may be lost comes", lost_tick_comes },
        { "one that was on its way comes, a later one does not", later_tick_is_gone },
        { "registers, MSRs, PIT and IOAPIC are as before", disturbed_is_as_before },
        { "a second CPU is where it was", mp_state_goes_back },
        { "a SIPI that came later does not start it", later_sipi_is_gone },
        { "the state of another CPU is refused", other_cpu_is_refused },
        { "page tables that were written take effect", tables_take_effect },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        int skip = vm_skip();

        guest_init();
        return skip ? skip : suite_main("state-again", cases);
}
