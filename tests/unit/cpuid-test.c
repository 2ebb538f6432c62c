/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: the guest's CPUID shows our topology and none of what cannot be saved.
 * Method: made-up Intel and AMD tables for 1 to 8 vCPUs; then the real one of
 * this host where there is /dev/kvm. */
#include "vmm/cpuid.h"

#include <string.h>
#include <unistd.h>

#include "common/check.h"
#include "tests/unit/suite.h"

#define ROOM 32

union table {
        struct kvm_cpuid2 head;
        uint8_t room[sizeof(struct kvm_cpuid2) + ROOM * sizeof(struct kvm_cpuid_entry2)];
};

static const struct kvm_cpuid_entry2 intel[] = {
        { .function = 0, .eax = 0x1f, .ebx = 0x756e6547 },
        { .function = 1, .ebx = 0x55661234, .ecx = 1u << 5 | 1u << 15 | 1u << 24 | 1, .edx = 0x1 },
        { .function = 4, .index = 0, .eax = 0xfc01c121 },       /* L1 */
        { .function = 4, .index = 1, .eax = 0xfc1fc163 },       /* L3 */
        { .function = 4, .index = 2, .eax = 0 },
        { .function = 0xa, .eax = 0x8300805 },
        { .function = 0xb, .index = 0, .ebx = 99, .edx = 77 },
        { .function = 0x1f, .index = 0, .ebx = 99, .edx = 77 },
        { .function = 0x40000001, .eax = 0xffffffff },
        { .function = 0x80000001, .ecx = 1 },
        { .function = 0x80000008, .eax = 0x3027 },
};

static const struct kvm_cpuid_entry2 amd[] = {
        { .function = 0, .eax = 0x10, .ebx = 0x68747541 },
        { .function = 1, .edx = 1u << 28 },
        { .function = 0x80000001, .ecx = 1u << 2 | 1u << 23 | 1u << 24 | 1u << 28 | 1u << 22 },
        { .function = 0x80000008, .eax = 0x3030, .ecx = 0x607f },
        { .function = 0x8000000a, .eax = 1, .ebx = 0x8000, .edx = 0xff },
        { .function = 0x8000001d, .index = 3, .eax = 0x3c163 },
        { .function = 0x8000001e, .eax = 9, .ebx = 0x109, .ecx = 0x300 },
};

static void fill(union table *t, const struct kvm_cpuid_entry2 *from, unsigned n, unsigned cpu,
                 unsigned cpus, bool deadline)
{
        ASSERT(n + CPUID_LEAVES_ADDED <= ROOM);
        t->head.nent = n;
        memcpy(t->head.entries, from, n * sizeof(*from));
        cpuid_for_vcpu(&t->head, cpu, cpus, deadline);
        ASSERT(t->head.nent <= n + CPUID_LEAVES_ADDED);
}

static const struct kvm_cpuid_entry2 *leaf(const union table *t, uint32_t function, uint32_t index)
{
        static const struct kvm_cpuid_entry2 none = { .function = ~0u };

        for (unsigned i = 0; i < t->head.nent; i++) {
                if (t->head.entries[i].function == function && t->head.entries[i].index == index)
                        return &t->head.entries[i];
        }
        return &none;
}

static void intel_topology(void)
{
        static const struct {
                unsigned cpu, cpus, bits;
        } t[] = { { 0, 1, 0 }, { 1, 2, 1 }, { 2, 3, 2 }, { 3, 4, 2 }, { 4, 5, 3 }, { 7, 8, 3 } };

        for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
                union table c;

                fill(&c, intel, ARRAY_SIZE(intel), t[i].cpu, t[i].cpus, i % 2);
                CU_ASSERT_EQUAL(leaf(&c, 1, 0)->ebx,
                                t[i].cpu << 24 | t[i].cpus << 16 | 0x1234);
                CU_ASSERT_EQUAL(leaf(&c, 1, 0)->edx, 1u | (t[i].cpus > 1 ? 1u << 28 : 0));
                CU_ASSERT_EQUAL(leaf(&c, 4, 0)->eax, (t[i].cpus - 1) << 26 | 0x121);
                CU_ASSERT_EQUAL(leaf(&c, 4, 1)->eax,
                                (t[i].cpus - 1) << 26 | (t[i].cpus - 1) << 14 | 0x163);
                CU_ASSERT_EQUAL(leaf(&c, 4, 2)->eax, 0);
                CU_ASSERT_EQUAL(leaf(&c, 0xb, 0)->ebx, 1);
                CU_ASSERT_EQUAL(leaf(&c, 0xb, 0)->ecx, 0x100);
                CU_ASSERT_EQUAL(leaf(&c, 0xb, 1)->eax, t[i].bits);
                CU_ASSERT_EQUAL(leaf(&c, 0xb, 1)->ebx, t[i].cpus);
                CU_ASSERT_EQUAL(leaf(&c, 0xb, 1)->ecx, 0x201);
                CU_ASSERT_EQUAL(leaf(&c, 0xb, 2)->ebx, 0);
                for (unsigned level = 0; level < 3; level++)
                        CU_ASSERT_EQUAL(leaf(&c, 0xb, level)->edx, t[i].cpu);
                CU_ASSERT_EQUAL(leaf(&c, 0x1f, 0)->function, ~0u);
        }
}

static void what_cannot_be_saved_is_masked(void)
{
        union table c;

        fill(&c, intel, ARRAY_SIZE(intel), 0, 2, true);
        CU_ASSERT_EQUAL(leaf(&c, 1, 0)->ecx, 1u | 1u << 21 | 1u << 24 | 1u << 31);
        CU_ASSERT_EQUAL(leaf(&c, 0xa, 0)->eax, 0);
        CU_ASSERT_EQUAL(leaf(&c, 0x40000001, 0)->eax, 0x01003aeb);
        CU_ASSERT_EQUAL(leaf(&c, 0x80000001, 0)->ecx, 1);
        CU_ASSERT_EQUAL(leaf(&c, 0x80000008, 0)->ecx, 0);
        fill(&c, intel, ARRAY_SIZE(intel), 0, 2, false);
        CU_ASSERT_EQUAL(leaf(&c, 1, 0)->ecx & 1u << 24, 0);
}

static void amd_topology(void)
{
        union table c;

        fill(&c, amd, ARRAY_SIZE(amd), 2, 3, false);
        CU_ASSERT_EQUAL(leaf(&c, 0x80000001, 0)->ecx, 1u << 1 | 1u << 22);
        CU_ASSERT_EQUAL(leaf(&c, 0x80000008, 0)->ecx, 2u << 12 | 2);
        CU_ASSERT_EQUAL(leaf(&c, 0x8000000a, 0)->edx, 0);
        CU_ASSERT_EQUAL(leaf(&c, 0x8000001d, 3)->eax, 2u << 14 | 0x163);
        CU_ASSERT_EQUAL(leaf(&c, 0x8000001e, 0)->eax, 2);
        CU_ASSERT_EQUAL(leaf(&c, 0x8000001e, 0)->ebx, 2);
        CU_ASSERT_EQUAL(leaf(&c, 0x8000001e, 0)->ecx, 0);
        /* a CPU without leaf 0xb does not get one */
        CU_ASSERT_EQUAL(leaf(&c, 0xb, 0)->function, ~0u);
        fill(&c, amd, ARRAY_SIZE(amd), 0, 1, false);
        CU_ASSERT_EQUAL(leaf(&c, 0x80000001, 0)->ecx, 1u << 22);
        CU_ASSERT_EQUAL(leaf(&c, 1, 0)->edx, 0);
}

static void kvm_takes_it(void)
{
        struct ram ram;
        struct kvm kvm;
        struct err e = { 0 };

        if (access("/dev/kvm", R_OK | W_OK) < 0)
                return;
        CU_ASSERT_EQUAL_FATAL(ram_init(&ram, RAM_BYTES_MIN, &e), 0);
        CU_ASSERT_EQUAL_FATAL(ram_map_anonymous(&ram, false, RAM_SMALL, &e), 0);
        CU_ASSERT_EQUAL_FATAL(kvm_open(&kvm, &e), 0);
        CU_ASSERT_EQUAL_FATAL(kvm_create(&kvm, &ram, VCPUS_MAX, &e), 0);
        CU_ASSERT_EQUAL(cpuid_set_all(&kvm, &e), 0);
        kvm_close(&kvm);
        ram_unmap(&ram);
}

static const CU_TestInfo cases[] = {
        { "Intel: topology", intel_topology },
        { "AMD: topology, SVM and PMU masked", amd_topology },
        { "what cannot be saved is masked", what_cannot_be_saved_is_masked },
        { "this host's KVM takes the table", kvm_takes_it },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("cpuid", cases);
}
