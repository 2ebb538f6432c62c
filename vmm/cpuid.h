/* SPDX-License-Identifier: Apache-2.0 */
/* cpuid.h - the CPU model of a freshly booted guest (x86-machine.md 3).
 *
 * Reverted guests get the saved table instead (state.h).
 */
#ifndef VMM_CPUID_H
#define VMM_CPUID_H

#include "common/err.h"
#include "vmm/kvm.h"

/* KVM_SET_CPUID2 on every vCPU, from what the host supports: topology filled
 * in, async page faults, PMU and nested virtualisation masked. */
int cpuid_set_all(struct kvm *kvm, struct err *e);

#endif
