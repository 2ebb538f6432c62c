/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a VM comes up with all its descriptors, and half a VM can be closed.
 * Method: the real /dev/kvm (skipped without one). */
#include "vmm/kvm.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/unit/suite.h"

static void create_and_close(void)
{
        struct kvm kvm;
        struct ram ram;
        struct err e = { 0 };

        CU_ASSERT_EQUAL_FATAL(ram_init(&ram, RAM_BYTES_MIN, &e), 0);
        CU_ASSERT_EQUAL_FATAL(ram_map_anonymous(&ram, true, false, &e), 0);
        CU_ASSERT_EQUAL_FATAL(kvm_open(&kvm, &e), 0);
        CU_ASSERT_EQUAL(kvm_create(&kvm, &ram, 3, &e), 0);
        CU_ASSERT_EQUAL(kvm.cpus, 3);
        for (unsigned i = 0; i < 3; i++) {
                CU_ASSERT(kvm.vcpu_fd[i] >= 0);
                CU_ASSERT_PTR_NOT_NULL(kvm.run[i]);
        }
        CU_ASSERT(kvm.xsave_bytes >= 4096);
        CU_ASSERT(kvm.in_calls_ns > 0);
        kvm_irq_line(&kvm, 4, true);
        kvm_irq_line(&kvm, 4, false);
        printf("xsave %zu sregs2 %d tsc offset %d tsc control %d ", kvm.xsave_bytes,
               kvm.has_sregs2, kvm.has_tsc_offset, kvm.has_tsc_control);
        kvm_close(&kvm);
        kvm_close(&kvm);
        ram_unmap(&ram);
}

static void vcpu_count_is_checked(void)
{
        struct kvm kvm;
        struct ram ram;

        CU_ASSERT_EQUAL_FATAL(ram_init(&ram, RAM_BYTES_MIN, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(kvm_open(&kvm, NULL), 0);
        CU_ASSERT_EQUAL(kvm_create(&kvm, &ram, 0, NULL), -ERANGE);
        CU_ASSERT_EQUAL(kvm_create(&kvm, &ram, VCPUS_MAX + 1, NULL), -ERANGE);
        kvm_close(&kvm);
}

static void calls_return_errno(void)
{
        struct kvm kvm;

        CU_ASSERT_EQUAL_FATAL(kvm_open(&kvm, NULL), 0);
        CU_ASSERT_EQUAL(kvm_call(&kvm, -1, KVM_GET_API_VERSION, NULL), -EBADF);
        CU_ASSERT_EQUAL(kvm_call(&kvm, kvm.dev_fd, KVM_GET_API_VERSION, NULL), KVM_API_VERSION);
        kvm_close(&kvm);
}

static const CU_TestInfo cases[] = {
        { "three vCPUs come and go", create_and_close },
        { "the number of vCPUs is checked", vcpu_count_is_checked },
        { "kvm_call returns results and negative errnos", calls_return_errno },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        if (access("/dev/kvm", R_OK | W_OK) < 0) {
                printf("SKIP: /dev/kvm cannot be opened\n");
                return SUITE_SKIP;
        }
        return suite_main("kvm", cases);
}
