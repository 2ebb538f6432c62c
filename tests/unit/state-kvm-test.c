/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: on this host's KVM a state that is set, saved, loaded into a second VM
 *       and saved again shows no unexpected difference, and what was on its way
 *       (timers, interrupts, an NMI) reaches the guest in the second VM.
 * Method: values by ioctl; a real mode guest of 20 bytes that halts and whose
 *       interrupt handlers write their vector to a port. Needs /dev/kvm. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "tests/unit/state-sample.h"
#include "tests/unit/suite.h"
#include "vmm/cpuid.h"

#define RAM_BYTES RAM_BYTES_MIN
#define TIMER_VECTOR 0x31u
#define NMI_VECTOR 2u
#define PORT 0x10
#define CODE_GPA 0x1000u
#define STACK_GPA 0x8000u

struct vm {
        struct kvm kvm;
        struct ram ram;
};

static bool vm_new(struct vm *vm, unsigned cpus)
{
        struct err e = { 0 };

        if (kvm_open(&vm->kvm, &e) < 0 || ram_init(&vm->ram, RAM_BYTES, &e) < 0 ||
            ram_map_anonymous(&vm->ram, false, false, &e) < 0 ||
            kvm_create(&vm->kvm, &vm->ram, cpus, &e) < 0) {
                fprintf(stderr, "%s\n", e.text);
                return false;
        }
        return true;
}

static void vm_fini(struct vm *vm)
{
        kvm_close(&vm->kvm);
        ram_unmap(&vm->ram);
}

static int vcpu_call(struct vm *vm, unsigned cpu, unsigned long request, void *arg)
{
        int rc = kvm_call(&vm->kvm, vm->kvm.vcpu_fd[cpu], request, arg);

        if (rc < 0)
                fprintf(stderr, "vCPU %u, request 0x%lx: %s\n", cpu, request, strerror(-rc));
        return rc;
}

struct saved {
        struct json_object *json;
        struct state_blob blob;
};

static bool vm_save(struct vm *vm, struct saved *s)
{
        struct err e = { 0 };

        *s = (struct saved){ 0 };
        if (state_save(&vm->kvm, &s->json, &s->blob, &e) == 0)
                return true;
        fprintf(stderr, "%s\n", e.text);
        return false;
}

static void saved_fini(struct saved *s)
{
        json_object_put(s->json);
        state_blob_fini(&s->blob);
}

/* From text, as out of a file; prints what it took. */
static bool vm_load(struct vm *vm, const struct saved *s)
{
        struct err e = { 0 };
        uint64_t start_ns = clock_now_ns();
        struct json_object *json = sample_reparse(s->json);
        uint64_t parsed_ns = clock_now_ns();

        vm->kvm.in_calls_ns = 0;

        int rc = state_load(&vm->kvm, json, &s->blob, &e);
        uint64_t loaded_ns = clock_now_ns();

        json_object_put(json);
        if (rc < 0)
                fprintf(stderr, "%s\n", e.text);
        fprintf(stderr, "%u vCPUs: print and parse %llu us, load %llu us, of it in KVM %llu us\n",
                vm->kvm.cpus, (unsigned long long)(parsed_ns - start_ns) / 1000,
                (unsigned long long)(loaded_ns - parsed_ns) / 1000,
                (unsigned long long)vm->kvm.in_calls_ns / 1000);
        return rc == 0;
}

static void count(void *ctx, const char *field, const char *was, const char *is)
{
        fprintf(stderr, "differs: %s %s -> %s\n", field, was, is);
        ++*(unsigned *)ctx;
}

static unsigned differences(const struct saved *a, const struct saved *b)
{
        unsigned n = 0;
        struct err e = { 0 };

        if (state_compare(a->json, &a->blob, b->json, &b->blob, count, &n, &e) < 0) {
                fprintf(stderr, "%s\n", e.text);
                return UINT32_MAX;
        }
        return n;
}

/* Saves a, loads b, saves b; the number of unexpected differences. */
static unsigned move(struct vm *a, struct vm *b)
{
        struct saved was, is;
        unsigned n = UINT32_MAX;

        if (!vm_save(a, &was))
                return n;
        memcpy(ram_at(&b->ram, 0, 1 << 20), ram_at(&a->ram, 0, 1 << 20), 1 << 20);
        if (vm_load(b, &was) && vm_save(b, &is)) {
                n = differences(&was, &is);
                saved_fini(&is);
        }
        saved_fini(&was);
        return n;
}

/* ---- values in every register ---- */

static void set_msr(struct vm *vm, unsigned cpu, uint32_t index, uint64_t value)
{
        struct err e = { 0 };
        int rc = state_msr_write(&vm->kvm, cpu, index, value, &e);

        if (rc < 0)
                fprintf(stderr, "%s\n", e.text);
        CU_ASSERT(rc == 0);
}

static void set_segment(struct kvm_segment *s, uint16_t selector, uint8_t type, bool code)
{
        *s = (struct kvm_segment){ .limit = 0xffffffff, .selector = selector, .type = type,
                                   .present = 1, .s = 1, .g = 1, .l = code, .db = !code };
}

static void set_long_mode(struct vm *vm, unsigned cpu)
{
        struct kvm_sregs s;

        CU_ASSERT(vcpu_call(vm, cpu, KVM_GET_SREGS, &s) == 0);
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
        CU_ASSERT(vcpu_call(vm, cpu, KVM_SET_SREGS, &s) == 0);
}

static void set_registers(struct vm *vm, unsigned cpu)
{
        struct kvm_regs r = { .rflags = 0x246, .rip = 0xffffffff81000000 + cpu };
        struct kvm_debugregs d = { .db = { 0x1000, 0x2000, 0x3000, 0x4000 + cpu },
                                   .dr6 = 0xffff0ff0, .dr7 = 0x400 };
        uint64_t *gpr = (uint64_t *)&r;

        for (unsigned i = 0; i < 16; i++)
                gpr[i] = 0xf00d000000000000 + 0x100 * cpu + i;
        CU_ASSERT(vcpu_call(vm, cpu, KVM_SET_REGS, &r) == 0);
        CU_ASSERT(vcpu_call(vm, cpu, KVM_SET_DEBUGREGS, &d) == 0);
}

static void set_xmm(struct vm *vm, unsigned cpu)
{
        struct kvm_xsave x;
        uint8_t *area = (uint8_t *)x.region;
        uint64_t x87_and_sse = 3;

        CU_ASSERT(vcpu_call(vm, cpu, KVM_GET_XSAVE, &x) == 0);
        for (unsigned i = 0; i < 16 * 16; i++)
                area[160 + i] = (uint8_t)(1 + i * 7 + cpu);
        memcpy(area + XSTATE_BV_OFFSET, &x87_and_sse, sizeof(x87_and_sse));
        CU_ASSERT(vcpu_call(vm, cpu, KVM_SET_XSAVE, &x) == 0);
}

static void set_msrs(struct vm *vm, unsigned cpu)
{
        set_msr(vm, cpu, 0x174, 0x10);
        set_msr(vm, cpu, 0x277, 0x0007040600070406);
        set_msr(vm, cpu, 0x200, 0x80000006);
        set_msr(vm, cpu, 0x201, 0x7f80000800);
        set_msr(vm, cpu, 0x2ff, 0xc06);
        set_msr(vm, cpu, 0xc0000081, 0x0023001000000000);
        set_msr(vm, cpu, 0xc0000082, 0xffffffff81800000 + cpu);
        set_msr(vm, cpu, 0xc0000102, 0xffff888000010000 + cpu);
        set_msr(vm, cpu, 0x4b564d00, 0x5000);
        set_msr(vm, cpu, 0x4b564d01, (0x6000 + 0x40 * cpu) | 1);
        set_msr(vm, cpu, 0x4b564d04, (0x7000 + 0x40 * cpu) | 1);
}

static void set_lapic_reg(struct kvm_lapic_state *l, unsigned reg, uint32_t v)
{
        memcpy(l->regs + reg, &v, sizeof(v));
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
        CU_ASSERT(vcpu_call(vm, cpu, KVM_GET_LAPIC, &l) == 0);
        set_lapic_reg(&l, 0xf0, 0x1ff);                 /* enabled */
        set_lapic_reg(&l, 0x220, 1u << 7);              /* IRR: vector 0x47 */
        set_lapic_reg(&l, 0x320, 2u << 17 | TIMER_VECTOR);
        CU_ASSERT(vcpu_call(vm, cpu, KVM_SET_LAPIC, &l) == 0);
        set_msrs(vm, cpu);
        set_msr(vm, cpu, MSR_TSC_DEADLINE, 1ull << 62); /* in a century */
        CU_ASSERT(vcpu_call(vm, cpu, KVM_GET_VCPU_EVENTS, &ev) == 0);
        ev.interrupt.injected = 1;
        ev.interrupt.nr = 0xec;
        ev.nmi.pending = 1;
        ev.nmi.masked = 1;
        CU_ASSERT(vcpu_call(vm, cpu, KVM_SET_VCPU_EVENTS, &ev) == 0);
        CU_ASSERT(vcpu_call(vm, cpu, KVM_SET_MP_STATE, &halted) == 0);
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
                CU_ASSERT(move(&a, &b) == 0);
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
        CU_ASSERT(move(&a, &b) == 0);
        vm_fini(&a);
        vm_fini(&b);
}

/* What this KVM keeps must not be equal by accident. */
static void differences_show(void)
{
        struct vm a;
        struct err e = { 0 };
        struct saved was, is;

        CU_ASSERT_FATAL(vm_new(&a, 1));
        CU_ASSERT(cpuid_set_all(&a.kvm, &e) == 0);
        CU_ASSERT_FATAL(vm_save(&a, &was));
        set_vcpu(&a, 0);
        set_chips(&a);
        CU_ASSERT_FATAL(vm_save(&a, &is));
        CU_ASSERT(differences(&was, &is) > 150);
        saved_fini(&was);
        saved_fini(&is);
        vm_fini(&a);
}

/* ---- what is on its way ---- */

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
        CU_ASSERT(vcpu_call(vm, 0, KVM_GET_SREGS, &s) == 0);
        s.cs.base = 0;
        s.cs.selector = 0;
        CU_ASSERT(vcpu_call(vm, 0, KVM_SET_SREGS, &s) == 0);
        CU_ASSERT(vcpu_call(vm, 0, KVM_SET_REGS, &r) == 0);
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

/* Lets it reach hlt; false when this KVM can not run it. */
static bool settle_guest(struct vm *vm)
{
        struct kvm_run *run = vm->kvm.run[0];
        struct kvm_regs r;

        run_guest(vm, 1);
        /* completes what KVM has begun */
        run->immediate_exit = 1;
        (void)ioctl(vm->kvm.vcpu_fd[0], KVM_RUN, NULL);
        run->immediate_exit = 0;
        CU_ASSERT(vcpu_call(vm, 0, KVM_GET_REGS, &r) == 0);
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

        CU_ASSERT(vcpu_call(vm, 0, KVM_GET_LAPIC, &l) == 0);
        set_lapic_reg(&l, 0xf0, 0x1ff);
        set_lapic_reg(&l, reg, v);
        CU_ASSERT(vcpu_call(vm, 0, KVM_SET_LAPIC, &l) == 0);
}

static void arm_deadline(struct vm *vm)
{
        int khz = vcpu_call(vm, 0, KVM_GET_TSC_KHZ, NULL);

        lapic_change(vm, 0x320, 2u << 17 | TIMER_VECTOR);
        set_msr(vm, 0, MSR_TSC_DEADLINE, read_tsc(vm) + (uint64_t)khz * 100);
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

        CU_ASSERT(vcpu_call(vm, 0, KVM_GET_VCPU_EVENTS, &ev) == 0);
        ev.nmi.pending = 1;
        CU_ASSERT(vcpu_call(vm, 0, KVM_SET_VCPU_EVENTS, &ev) == 0);
}

/* The event is prepared in a halted guest, which never sees it: another VM does. */
static void reaches_second_vm(void (*prepare)(struct vm *), int vector)
{
        struct vm a, b;

        CU_ASSERT_FATAL(vm_new(&a, 1) && vm_new(&b, 1));
        start_guest(&a);
        if (!settle_guest(&a)) {
                fprintf(stderr, "not run: this KVM does not bring a real mode guest to hlt\n");
        } else {
                prepare(&a);
                CU_ASSERT(move(&a, &b) == 0);
                state_before_resume(&b.kvm);
                CU_ASSERT(run_guest(&b, 3) == vector);
        }
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
        { "differences show", differences_show },
        { "values in every register arrive", values_arrive },
        { "a fresh VM arrives", fresh_vm_arrives },
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
        struct kvm kvm;
        struct err e = { 0 };

        if (kvm_open(&kvm, &e) < 0) {
                fprintf(stderr, "skipped: %s\n", e.text);
                kvm_close(&kvm);
                return SUITE_SKIP;
        }
        kvm_close(&kvm);
        sigaction(SIGALRM, &act, NULL);
        return suite_main("state-kvm", cases);
}
