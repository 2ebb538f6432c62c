/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cpuid.h"

#include <asm/kvm_para.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"

/* Theory of operation
 *
 * KVM's supported table is the start. Changed are the topology (one socket, one
 * thread a core, APIC id = index), what KVM leaves to us to announce, and four
 * things are taken away:
 *  - asynchronous page faults: they tell the guest "ready" from a work item that
 *    a restored VM does not have, and our pager makes just the faults that start
 *    them;
 *  - features of KVM's own that we do not know: they may have state that we do not save;
 *  - the PMU: dozens of MSRs that tie a saved guest to one CPU model;
 *  - nested virtualisation: its state is not saved.
 */

/* KVM_GET_SUPPORTED_CPUID has about 50 entries today; a bound for growing. */
#define CPUID_ENTRIES_MAX 1024

#define VENDOR_AMD_EBX 0x68747541u      /* "Auth"enticAMD */
#define VENDOR_HYGON_EBX 0x6f677948u    /* "Hygo"nGenuine */

#define BIT(n) (1u << (n))

/* Their state, if any, is in MSRs 0x11, 0x12 and 0x4b564d00-07. */
#define KVM_FEATURES_KEPT                                                                 \
        (BIT(KVM_FEATURE_CLOCKSOURCE) | BIT(KVM_FEATURE_NOP_IO_DELAY) |                   \
         BIT(KVM_FEATURE_CLOCKSOURCE2) | BIT(KVM_FEATURE_STEAL_TIME) |                    \
         BIT(KVM_FEATURE_PV_EOI) | BIT(KVM_FEATURE_PV_UNHALT) |                           \
         BIT(KVM_FEATURE_PV_TLB_FLUSH) | BIT(KVM_FEATURE_PV_SEND_IPI) |                   \
         BIT(KVM_FEATURE_POLL_CONTROL) | BIT(KVM_FEATURE_PV_SCHED_YIELD) |                \
         BIT(KVM_FEATURE_CLOCKSOURCE_STABLE_BIT))

struct topology {
        unsigned cpu, cpus;
        unsigned id_bits;               /* of the APIC id that name the core */
        bool amd;
        bool tsc_deadline;
};

static uint32_t with_field(uint32_t reg, unsigned high, unsigned low, uint32_t v)
{
        uint32_t mask = (BIT(high - low + 1) - 1) << low;

        return (reg & ~mask) | (v << low & mask);
}

static uint32_t with_bit(uint32_t reg, unsigned bit, bool on)
{
        return with_field(reg, bit, bit, on);
}

static void clear(struct kvm_cpuid_entry2 *l)
{
        l->eax = l->ebx = l->ecx = l->edx = 0;
}

static void leaf_features(struct kvm_cpuid_entry2 *l, const struct topology *t)
{
        l->ebx = with_field(l->ebx, 31, 24, t->cpu);
        l->ebx = with_field(l->ebx, 23, 16, t->cpus);
        l->ecx = with_bit(l->ecx, 5, false);            /* VMX */
        l->ecx = with_bit(l->ecx, 15, false);           /* PDCM: IA32_PERF_CAPABILITIES */
        l->ecx = with_bit(l->ecx, 21, true);            /* x2APIC */
        l->ecx = with_bit(l->ecx, 24, t->tsc_deadline);
        l->ecx = with_bit(l->ecx, 31, true);            /* hypervisor */
        l->edx = with_bit(l->edx, 28, t->cpus > 1);     /* HTT: EBX[23:16] counts */
}

/* Leaves 4 (Intel) and 0x8000001d (AMD): L3 is shared by all, the others by none. */
static void leaf_cache(struct kvm_cpuid_entry2 *l, const struct topology *t)
{
        unsigned type = l->eax & 0x1f, level = l->eax >> 5 & 7;

        if (type == 0)
                return;
        l->eax = with_field(l->eax, 25, 14, level == 3 ? t->cpus - 1 : 0);
        if (l->function == 4)
                l->eax = with_field(l->eax, 31, 26, t->cpus - 1);
}

static void leaf_amd_features(struct kvm_cpuid_entry2 *l, const struct topology *t)
{
        if (t->amd)
                l->ecx = with_bit(l->ecx, 1, t->cpus > 1);      /* CmpLegacy */
        l->ecx = with_bit(l->ecx, 2, false);                    /* SVM */
        l->ecx = with_bit(l->ecx, 23, false);                   /* PerfCtrExtCore */
        l->ecx = with_bit(l->ecx, 24, false);                   /* PerfCtrExtNB */
        l->ecx = with_bit(l->ecx, 28, false);                   /* PerfCtrExtLLC */
}

static void change_leaf(struct kvm_cpuid_entry2 *l, const struct topology *t)
{
        switch (l->function) {
        case 1:
                leaf_features(l, t);
                break;
        case 4:
        case 0x8000001d:
                leaf_cache(l, t);
                break;
        case KVM_CPUID_FEATURES:
                l->eax &= KVM_FEATURES_KEPT;
                break;
        case 0xa:               /* PMU */
        case 0x23:
        case 0x80000022:
        case 0x8000000a:        /* SVM */
                clear(l);
                break;
        case 0x80000001:
                leaf_amd_features(l, t);
                break;
        case 0x80000008:
                if (t->amd)
                        l->ecx = t->id_bits << 12 | (t->cpus - 1);
                break;
        case 0x8000001e:
                l->eax = t->cpu;
                l->ebx = t->cpu;
                l->ecx = 0;
                break;
        }
}

static bool is_x2apic_topology(const struct kvm_cpuid_entry2 *l)
{
        return l->function == 0xb || l->function == 0x1f;
}

/* KVM's copies show the host's cores: they are dropped for leaf 0xb of our own. */
static void replace_x2apic_topology(struct kvm_cpuid2 *table, const struct topology *t)
{
        const struct kvm_cpuid_entry2 levels[CPUID_LEAVES_ADDED] = {
                { .index = 0, .eax = 0, .ebx = 1, .ecx = 0x100 },               /* thread */
                { .index = 1, .eax = t->id_bits, .ebx = t->cpus, .ecx = 0x201 },/* core */
                { .index = 2, .ecx = 2 },                                       /* end */
        };
        unsigned kept = 0;

        for (unsigned i = 0; i < table->nent; i++) {
                if (!is_x2apic_topology(&table->entries[i]))
                        table->entries[kept++] = table->entries[i];
        }
        if (kept < table->nent) {
                for (unsigned i = 0; i < ARRAY_SIZE(levels); i++, kept++) {
                        table->entries[kept] = levels[i];
                        table->entries[kept].function = 0xb;
                        table->entries[kept].flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
                        table->entries[kept].edx = t->cpu;
                }
        }
        table->nent = kept;
}

static bool is_amd(const struct kvm_cpuid2 *table)
{
        for (unsigned i = 0; i < table->nent; i++) {
                if (table->entries[i].function == 0)
                        return table->entries[i].ebx == VENDOR_AMD_EBX ||
                               table->entries[i].ebx == VENDOR_HYGON_EBX;
        }
        return false;
}

void cpuid_for_vcpu(struct kvm_cpuid2 *table, unsigned cpu, unsigned cpus, bool tsc_deadline)
{
        struct topology t = { .cpu = cpu, .cpus = cpus, .amd = is_amd(table),
                              .tsc_deadline = tsc_deadline };

        ASSERT(cpu < cpus && cpus <= VCPUS_MAX);
        while (BIT(t.id_bits) < cpus)
                t.id_bits++;
        for (unsigned i = 0; i < table->nent; i++)
                change_leaf(&table->entries[i], &t);
        replace_x2apic_topology(table, &t);
}

static size_t table_bytes(unsigned entries)
{
        return sizeof(struct kvm_cpuid2) + entries * sizeof(struct kvm_cpuid_entry2);
}

/* *ret is the caller's to free and has room for CPUID_LEAVES_ADDED more. */
static int supported(struct kvm *kvm, struct kvm_cpuid2 **ret, struct err *e)
{
        for (unsigned entries = 128; entries <= CPUID_ENTRIES_MAX; entries *= 2) {
                AUTO_FREE struct kvm_cpuid2 *table =
                        calloc(1, table_bytes(entries + CPUID_LEAVES_ADDED));

                if (!table)
                        return err_msg(e, ENOMEM, "no memory for the CPUID table");
                table->nent = entries;

                int rc = kvm_call(kvm, kvm->dev_fd, KVM_GET_SUPPORTED_CPUID, table);

                if (rc == 0) {
                        *ret = ptr_take(&table);
                        return 0;
                }
                if (rc != -E2BIG)
                        return err_set(e, -rc, "KVM: ask for the supported CPUID");
        }
        return err_msg(e, E2BIG, "KVM supports more than %d CPUID leaves", CPUID_ENTRIES_MAX);
}

/* older kernels leave the bit out of the table and say it here */
static bool has_tsc_deadline(struct kvm *kvm)
{
        return kvm_call(kvm, kvm->dev_fd, KVM_CHECK_EXTENSION,
                        (void *)KVM_CAP_TSC_DEADLINE_TIMER) > 0;
}

int cpuid_of_new(struct kvm *kvm, struct kvm_cpuid2 **ret, struct err *e)
{
        int rc = supported(kvm, ret, e);

        if (rc == 0)
                cpuid_for_vcpu(*ret, 0, kvm->cpus, has_tsc_deadline(kvm));
        return rc;
}

int cpuid_set_all(struct kvm *kvm, struct err *e)
{
        AUTO_FREE struct kvm_cpuid2 *host = NULL;
        int rc = supported(kvm, &host, e);

        if (rc < 0)
                return rc;

        bool tsc_deadline = has_tsc_deadline(kvm);
        size_t bytes = table_bytes(host->nent + CPUID_LEAVES_ADDED);
        AUTO_FREE struct kvm_cpuid2 *table = malloc(bytes);

        if (!table)
                return err_msg(e, ENOMEM, "no memory for the CPUID table");
        for (unsigned i = 0; i < kvm->cpus; i++) {
                memcpy(table, host, bytes);
                cpuid_for_vcpu(table, i, kvm->cpus, tsc_deadline);
                rc = kvm_call(kvm, kvm->vcpu_fd[i], KVM_SET_CPUID2, table);
                if (rc < 0)
                        return err_set(e, -rc, "KVM: set the CPUID of vCPU %u", i);
        }
        return 0;
}
