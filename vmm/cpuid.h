/* SPDX-License-Identifier: Apache-2.0 */
/* cpuid.h - the CPU model of a freshly booted guest.
 *
 * Reverted guests get the saved table instead (state.h).
 */
#ifndef VMM_CPUID_H
#define VMM_CPUID_H

#include <stdbool.h>

#include "common/err.h"
#include "vmm/kvm.h"

/* Leaves that cpuid_for_vcpu() may add */
#define CPUID_LEAVES_ADDED 3

/* What one vCPU of `cpus` shows, made of KVM's supported table in place; the
 * table has room for CPUID_LEAVES_ADDED more. */
void cpuid_for_vcpu(struct kvm_cpuid2 *table, unsigned cpu, unsigned cpus, bool tsc_deadline);

/* KVM_SET_CPUID2 on every vCPU, from what the host supports: topology filled
 * in, async page faults, PMU and nested virtualisation masked. */
int cpuid_set_all(struct kvm *kvm, struct err *e);

/* What vCPU 0 of a new guest would be shown; the caller frees it. */
int cpuid_of_new(struct kvm *kvm, struct kvm_cpuid2 **ret, struct err *e);

#endif
