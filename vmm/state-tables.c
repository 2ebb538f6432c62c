/* SPDX-License-Identifier: Apache-2.0 */
/* The field tables. Sizes are pinned: a kernel header that grows a struct
 * must be looked at, not only compiled. */
#include "common/check.h"
#include "vmm/state-priv.h"

#define BYTES_OF(type, member) sizeof(((type *)0)->member)
#define FIELD(type, member) { #member, offsetof(type, member), BYTES_OF(type, member), 1, 0 }
/* a plain array of numbers */
#define ITEMS(type, member)                                                               \
        { #member, offsetof(type, member), BYTES_OF(type, member[0]),                     \
          ARRAY_SIZE(((type *)0)->member), BYTES_OF(type, member[0]) }
/* one member of an array of structs */
#define COLUMN(type, array, member)                                                       \
        { #array "." #member, offsetof(type, array[0].member),                            \
          BYTES_OF(type, array[0].member), ARRAY_SIZE(((type *)0)->array),                \
          BYTES_OF(type, array[0]) }

#define TABLE(table, json_name, type, field_array)                                        \
        static const struct state_table table = {                                         \
                json_name, field_array, ARRAY_SIZE(field_array), sizeof(type) }

#define R(m) FIELD(struct kvm_regs, m)
static const struct state_field regs_fields[] = {
        R(rax), R(rbx), R(rcx), R(rdx), R(rsi), R(rdi), R(rsp), R(rbp),
        R(r8), R(r9), R(r10), R(r11), R(r12), R(r13), R(r14), R(r15), R(rip), R(rflags),
};
TABLE(regs_table, "regs", struct kvm_regs, regs_fields);
static_assert(sizeof(struct kvm_regs) == 18 * 8, "all of kvm_regs is in the table");

#define S(m) FIELD(struct kvm_sregs2, m)
#define SEGMENT(seg)                                                                      \
        S(seg.base), S(seg.limit), S(seg.selector), S(seg.type), S(seg.present),          \
        S(seg.dpl), S(seg.db), S(seg.s), S(seg.l), S(seg.g), S(seg.avl), S(seg.unusable)
static const struct state_field sregs_fields[] = {
        SEGMENT(cs), SEGMENT(ds), SEGMENT(es), SEGMENT(fs), SEGMENT(gs), SEGMENT(ss),
        SEGMENT(tr), SEGMENT(ldt),
        S(gdt.base), S(gdt.limit), S(idt.base), S(idt.limit),
        S(cr0), S(cr2), S(cr3), S(cr4), S(cr8), S(efer), S(apic_base), S(flags),
        ITEMS(struct kvm_sregs2, pdptrs),
};
TABLE(sregs_table, "sregs", struct kvm_sregs2, sregs_fields);
static_assert(sizeof(struct kvm_sregs2) == 8 * 24 + 2 * 16 + 8 * 8 + 4 * 8,
              "all of kvm_sregs2 is in the table");

static const struct state_field xcrs_fields[] = {
        FIELD(struct kvm_xcrs, nr_xcrs), FIELD(struct kvm_xcrs, flags),
        COLUMN(struct kvm_xcrs, xcrs, xcr), COLUMN(struct kvm_xcrs, xcrs, value),
};
TABLE(xcrs_table, "xcrs", struct kvm_xcrs, xcrs_fields);
static_assert(sizeof(struct kvm_xcrs) == 8 + 16 * 16 + 16 * 8, "kvm_xcrs is as it was");

static const struct state_field debugregs_fields[] = {
        ITEMS(struct kvm_debugregs, db), FIELD(struct kvm_debugregs, dr6),
        FIELD(struct kvm_debugregs, dr7), FIELD(struct kvm_debugregs, flags),
};
TABLE(debugregs_table, "debugregs", struct kvm_debugregs, debugregs_fields);
static_assert(sizeof(struct kvm_debugregs) == 7 * 8 + 9 * 8, "kvm_debugregs is as it was");

#define E(m) FIELD(struct kvm_vcpu_events, m)
static const struct state_field events_fields[] = {
        E(exception.injected), E(exception.nr), E(exception.has_error_code),
        E(exception.pending), E(exception.error_code),
        E(interrupt.injected), E(interrupt.nr), E(interrupt.soft), E(interrupt.shadow),
        E(nmi.injected), E(nmi.pending), E(nmi.masked),
        E(sipi_vector), E(flags),
        E(smi.smm), E(smi.pending), E(smi.smm_inside_nmi), E(smi.latched_init),
        E(triple_fault.pending), E(exception_has_payload), E(exception_payload),
};
TABLE(events_table, "events", struct kvm_vcpu_events, events_fields);
static_assert(sizeof(struct kvm_vcpu_events) == 64, "kvm_vcpu_events is as it was");

static const struct state_field mp_state_fields[] = { FIELD(struct kvm_mp_state, mp_state) };
TABLE(mp_state_table, "mp_state", struct kvm_mp_state, mp_state_fields);
static_assert(sizeof(struct kvm_mp_state) == 4, "all of kvm_mp_state is in the table");

static const struct state_field tsc_fields[] = {
        FIELD(struct state_tsc, khz), FIELD(struct state_tsc, has_offset),
        FIELD(struct state_tsc, offset), FIELD(struct state_tsc, value),
};
TABLE(tsc_table, "tsc", struct state_tsc, tsc_fields);

static const struct state_field shadow_stack_fields[] = {
        FIELD(struct state_shadow_stack, has_ssp), FIELD(struct state_shadow_stack, ssp),
};
TABLE(shadow_stack_table, "shadow_stack", struct state_shadow_stack, shadow_stack_fields);

#define K(m) FIELD(struct kvm_clock_data, m)
static const struct state_field clock_fields[] = {
        K(clock), K(flags), K(realtime), K(host_tsc),
};
TABLE(clock_table, "clock", struct kvm_clock_data, clock_fields);
static_assert(sizeof(struct kvm_clock_data) == 48, "kvm_clock_data is as it was");

#define P(m) FIELD(struct kvm_pic_state, m)
static const struct state_field pic_fields[] = {
        P(last_irr), P(irr), P(imr), P(isr), P(priority_add), P(irq_base), P(read_reg_select),
        P(poll), P(special_mask), P(init_state), P(auto_eoi), P(rotate_on_auto_eoi),
        P(special_fully_nested_mode), P(init4), P(elcr), P(elcr_mask),
};
TABLE(pic_master_table, "pic_master", struct kvm_pic_state, pic_fields);
TABLE(pic_slave_table, "pic_slave", struct kvm_pic_state, pic_fields);
static_assert(sizeof(struct kvm_pic_state) == 16, "all of kvm_pic_state is in the table");

#define I(m) FIELD(struct kvm_ioapic_state, m)
static const struct state_field ioapic_fields[] = {
        I(base_address), I(ioregsel), I(id), I(irr),
        COLUMN(struct kvm_ioapic_state, redirtbl, bits),
};
TABLE(ioapic_table, "ioapic", struct kvm_ioapic_state, ioapic_fields);
static_assert(sizeof(struct kvm_ioapic_state) == 24 + 24 * 8, "kvm_ioapic_state is as it was");

#define C(m) COLUMN(struct kvm_pit_state2, channels, m)
static const struct state_field pit_fields[] = {
        C(count), C(latched_count), C(count_latched), C(status_latched), C(status),
        C(read_state), C(write_state), C(write_latch), C(rw_mode), C(mode), C(bcd), C(gate),
        C(count_load_time), FIELD(struct kvm_pit_state2, flags),
};
TABLE(pit_table, "pit", struct kvm_pit_state2, pit_fields);
static_assert(sizeof(struct kvm_pit_state2) == 3 * 24 + 4 + 9 * 4, "kvm_pit_state2 is as it was");

#define L(m) FIELD(struct kvm_cpuid_entry2, m)
static const struct state_field cpuid_fields[] = {
        L(function), L(index), L(flags), L(eax), L(ebx), L(ecx), L(edx),
};
const struct state_table state_cpuid_row = {
        "cpuid", cpuid_fields, ARRAY_SIZE(cpuid_fields), sizeof(struct kvm_cpuid_entry2)
};
static_assert(sizeof(struct kvm_cpuid_entry2) == 10 * 4, "kvm_cpuid_entry2 is as it was");

static const struct state_field msr_fields[] = {
        FIELD(struct kvm_msr_entry, index), FIELD(struct kvm_msr_entry, data),
};
const struct state_table state_msr_row = {
        "msrs", msr_fields, ARRAY_SIZE(msr_fields), sizeof(struct kvm_msr_entry)
};
static_assert(sizeof(struct kvm_msr_entry) == 16, "kvm_msr_entry is as it was");

const struct state_section state_vm_sections[] = {
        { &clock_table, offsetof(struct machine_state, clock) },
        { &pic_master_table, offsetof(struct machine_state, pic_master.chip.pic) },
        { &pic_slave_table, offsetof(struct machine_state, pic_slave.chip.pic) },
        { &ioapic_table, offsetof(struct machine_state, ioapic.chip.ioapic) },
        { &pit_table, offsetof(struct machine_state, pit) },
};
const size_t state_vm_nsections = ARRAY_SIZE(state_vm_sections);

const struct state_section state_vcpu_sections[] = {
        { &mp_state_table, offsetof(struct state_vcpu, mp_state) },
        { &regs_table, offsetof(struct state_vcpu, regs) },
        { &sregs_table, offsetof(struct state_vcpu, sregs) },
        { &xcrs_table, offsetof(struct state_vcpu, xcrs) },
        { &debugregs_table, offsetof(struct state_vcpu, debugregs) },
        { &events_table, offsetof(struct state_vcpu, events) },
        { &tsc_table, offsetof(struct state_vcpu, tsc) },
        { &shadow_stack_table, offsetof(struct state_vcpu, shadow_stack) },
};
const size_t state_vcpu_nsections = ARRAY_SIZE(state_vcpu_sections);
