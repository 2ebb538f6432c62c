/* SPDX-License-Identifier: Apache-2.0 */
/* state-priv.h - a whole saved machine as structs, shared by the state-*.c files.
 *
 *      KVM --state_machine_read--> struct machine_state --state_encode--> JSON and blob
 *      KVM <-state_machine_apply-- struct machine_state <-state_decode--- JSON and blob
 *
 * state_decode is where foreign bytes end: it needs no KVM (so it is fuzzed)
 * and what comes out of it is inside every limit below. The values themselves
 * are KVM's to check: its ioctls take them from any user.
 */
#ifndef VMM_STATE_PRIV_H
#define VMM_STATE_PRIV_H

#include <assert.h>
#include <stdbool.h>

#include "vmm/state-json.h"
#include "vmm/state.h"

/* the kernel's own KVM_MAX_CPUID_ENTRIES */
#define STATE_CPUID_MAX 256
/* about 150 in KVM's longest list, 190 beside it; room for newer kernels */
#define STATE_MSRS_MAX 1024
/* 11 KiB with AMX; room for newer CPUs */
#define STATE_XSAVE_BYTES_MAX (32u << 10)

/* of the XSAVE header, which says what components the area holds */
#define XSTATE_BV_OFFSET 512

#define MSR_TSC 0x10u
#define MSR_TSC_DEADLINE 0x6e0u

/* the kernel's flexible arrays with a limit */
struct state_cpuid {
        uint32_t nent;
        uint32_t padding;
        struct kvm_cpuid_entry2 entries[STATE_CPUID_MAX];
};
static_assert(offsetof(struct state_cpuid, entries) == sizeof(struct kvm_cpuid2),
              "laid out as struct kvm_cpuid2");

struct state_msrs_head {
        uint32_t nmsrs;
        uint32_t pad;
};
static_assert(sizeof(struct state_msrs_head) == sizeof(struct kvm_msrs), "struct kvm_msrs");

struct state_msrs {
        uint32_t nmsrs;
        struct kvm_msr_entry entries[STATE_MSRS_MAX];
};

/* What KVM has as single values. */
struct state_tsc {
        uint64_t value;                 /* MSR 0x10 right after the VM's clock was read */
        uint64_t offset;                /* guest TSC = host TSC + offset */
        uint32_t khz;
        uint8_t has_offset;             /* 0: KVM has none to read, or the TSC is scaled */
};

struct state_shadow_stack {
        uint64_t ssp;
        uint8_t has_ssp;
};

struct state_vcpu {
        struct kvm_mp_state mp_state;
        struct kvm_regs regs;
        struct kvm_sregs2 sregs;
        struct kvm_xcrs xcrs;           /* nr_xcrs 0: the CPU has none */
        struct kvm_debugregs debugregs;
        struct kvm_vcpu_events events;
        struct state_tsc tsc;
        struct state_shadow_stack shadow_stack;
        struct state_cpuid cpuid;
        struct state_msrs msrs;
        struct kvm_lapic_state lapic;
        size_t xsave_bytes;
        /* zero behind xsave_bytes; KVM may read more than was saved */
        uint8_t xsave[STATE_XSAVE_BYTES_MAX];
};

struct machine_state {
        struct kvm_clock_data clock;    /* realtime is always there */
        struct kvm_irqchip pic_master, pic_slave, ioapic;
        struct kvm_pit_state2 pit;
        unsigned cpus;
        struct state_vcpu vcpu[VCPUS_MAX];
};

/* What reading needs to know or have, made while the guest runs. Nothing of it
 * changes while the VM lives: all of it is KVM's and the VM's, not a vCPU's. */
struct state_reader {
        struct kvm *kvm;
        bool has_xcrs;
        int host_khz;                   /* where KVM can scale; not above 0: unknown */
        uint32_t nested_bytes;          /* 0: KVM has no nested state */
        struct kvm_nested_state *nested;        /* room for it; owned */
        struct state_msrs msrs;         /* their indices: what to ask the first vCPU for */
};
/* state-capture.c. After a failure too it is to be freed. */
int state_reader_init(struct state_reader *r, struct kvm *kvm, struct err *e);
void state_reader_fini(struct state_reader *r);

/* state-vm.c. vCPUs are parked; only KVM's calls. */
int state_machine_read(const struct state_reader *r, struct machine_state *m, struct err *e);
/* has_run: the vCPUs have, and have their CPUID for good. */
int state_machine_apply(struct kvm *kvm, struct machine_state *m, bool has_run, struct err *e);

/* state-tables.c: all sections, in the order of the JSON text */
struct state_section {
        const struct state_table *table;
        size_t offset;                  /* in struct machine_state or state_vcpu */
};
extern const struct state_section state_vm_sections[];
extern const size_t state_vm_nsections;
extern const struct state_section state_vcpu_sections[];
extern const size_t state_vcpu_nsections;
extern const struct state_table state_cpuid_row, state_msr_row;

/* state-doc.c. *ret and *ret_blob are the caller's. */
int state_encode(const struct machine_state *m, struct json_object **ret,
                 struct state_blob *ret_blob, struct err *e);
int state_decode(struct json_object *o, const struct state_blob *blob,
                 struct machine_state **ret, struct err *e);

/* state-clock.c: what is written to the TSC of each vCPU */
struct tsc_plan {
        bool by_offset;
        uint64_t offset[VCPUS_MAX];     /* by_offset */
        uint64_t value;                 /* else: MSR 0x10 of all */
};
/* The clock and with it the TSC values: the instant of the state. */
int state_clock_read(struct kvm *kvm, struct machine_state *m, struct err *e);
/* The rest of struct state_tsc. */
int state_tsc_read(const struct state_reader *r, unsigned cpu, struct state_tsc *tsc,
                   struct err *e);
/* The rate of the VM, which is the host's since we never set it (KVM 5.18); not above 0:
 * unknown. */
int state_host_khz(struct kvm *kvm);
/* After CPUID and before any TSC value. */
int state_tsc_rate_apply(struct kvm *kvm, unsigned cpu, const struct state_tsc *saved,
                         struct err *e);
/* All vCPUs have their rate. Sets the VM's clock. */
int state_clock_apply(struct kvm *kvm, const struct machine_state *m, struct tsc_plan *ret,
                      struct err *e);
int state_tsc_apply(struct kvm *kvm, unsigned cpu, const struct tsc_plan *plan, struct err *e);
/* After all vCPUs are loaded. */
int state_clock_settle(struct kvm *kvm, const struct machine_state *m,
                       const struct tsc_plan *plan, struct err *e);

/* state-msr.c: the indices of all that this KVM may have, whatever vCPU. */
int state_msrs_list(struct kvm *kvm, struct state_msrs *ret, struct err *e);
/* like: what to ask for, the list or another vCPU's; those that do not read are left out */
int state_msrs_read(struct kvm *kvm, unsigned cpu, const struct state_msrs *like,
                    struct state_msrs *ret, struct err *e);
/* All but the TSC; the TSC deadline last, with this value. */
int state_msrs_apply(struct kvm *kvm, unsigned cpu, const struct state_msrs *saved,
                     uint64_t deadline, struct err *e);
int state_msr_read(struct kvm *kvm, unsigned cpu, uint32_t index, uint64_t *ret, struct err *e);
int state_msr_write(struct kvm *kvm, unsigned cpu, uint32_t index, uint64_t value,
                    struct err *e);
/* 0 when it was not saved */
uint64_t state_msr_value(const struct state_msrs *msrs, uint32_t index);

/* state-vcpu.c: the two halves are before and after state_clock_apply */
int state_vcpu_read(const struct state_reader *r, unsigned cpu, const struct state_msrs *like,
                    struct state_vcpu *ret, struct err *e);
int state_vcpu_apply_model(struct kvm *kvm, unsigned cpu, struct state_vcpu *v, bool has_run,
                           struct err *e);
int state_vcpu_apply(struct kvm *kvm, unsigned cpu, struct state_vcpu *v,
                     const struct tsc_plan *plan, struct err *e);
/* What to write to 0x6e0, which is not always what was read. */
uint64_t state_vcpu_deadline(const struct state_vcpu *v);
bool state_nested_in_use(const struct kvm_nested_state *n);

/* state-compare.c */
void state_compare_machines(const struct machine_state *a, const struct machine_state *b,
                            state_diff_fn *diff, void *ctx);
/* the reason why a difference there is expected, or NULL; *mask: which bits */
const char *state_expected_to_differ(const char *section, const char *key, uint64_t *ret_mask);

#endif
