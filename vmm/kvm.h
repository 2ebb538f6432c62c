/* SPDX-License-Identifier: Apache-2.0 */
/* kvm.h - one KVM virtual machine: its descriptors, created in the one right order.
 *
 * Ownership: struct kvm holds all descriptors and kvm_run mappings.
 * Threads:   creation by one thread; afterwards vcpu i's descriptor is used by
 *            vcpu i's thread, by others only while it is parked (vcpus.h).
 * Errors:    the sentence says what is missing and the remedy (no /dev/kvm, no
 *            permission, a capability the kernel lacks).
 */
#ifndef VMM_KVM_H
#define VMM_KVM_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "vmm/ram.h"

#define VCPUS_MAX 8

struct kvm {
        bool opened;                    /* by kvm_open(), even if that failed */
        int dev_fd;                     /* /dev/kvm */
        int vm_fd;
        unsigned cpus;
        int vcpu_fd[VCPUS_MAX];
        struct kvm_run *run[VCPUS_MAX];
        size_t run_bytes;
        size_t xsave_bytes;             /* >= 4096 */
        bool has_tsc_offset;            /* KVM_VCPU_TSC_OFFSET (5.16) */
        bool has_sregs2;
        bool has_tsc_control;           /* scaling */
        uint64_t in_calls_ns;           /* time spent inside KVM's calls so far, by kvm_call */
};

/* ioctl() with EINTR retried and its time added to in_calls_ns; -errno or the
 * result. Not for KVM_RUN. One thread at a time. */
int kvm_call(struct kvm *kvm, int fd, unsigned long request, void *arg);

/* Opens /dev/kvm and checks the API version and the capabilities we cannot do without. */
int kvm_open(struct kvm *kvm, struct err *e);
/* VM, memory slots, TSS and identity addresses, irqchip, PIT (RAM is mapped,
 * PROT_NONE is allowed; one without slots is not known yet), vCPUs in index order. */
int kvm_create(struct kvm *kvm, const struct ram *ram, unsigned cpus, struct err *e);
/* RAM that was not known to kvm_create(). KVM waits then for some milliseconds, which it
 * does not in a VM without interrupt controllers. */
int kvm_add_memory(struct kvm *kvm, const struct ram *ram, struct err *e);
/* RAM has been written behind KVM's back while all vCPUs were parked, page tables of the
 * guest among it: KVM forgets what it made of them. state_reload(), which is to follow, sees
 * to TLBs. After a failure the VM cannot run until it has succeeded. */
int kvm_remap(struct kvm *kvm, const struct ram *ram, struct err *e);
/* Whatever kvm_open() or kvm_create() returned; a zeroed struct is fine. */
void kvm_close(struct kvm *kvm);
/* KVM_IRQ_LINE */
void kvm_irq_line(struct kvm *kvm, unsigned gsi, bool level);

#endif
