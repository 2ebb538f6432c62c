/* SPDX-License-Identifier: Apache-2.0 */
/* vcpu-exit.h - why a vCPU left KVM_RUN: its devices' affair, or the end of the guest.
 *
 * Threads: the vCPU's own.
 */
#ifndef VMM_VCPU_EXIT_H
#define VMM_VCPU_EXIT_H

#include <stdbool.h>

#include "vmm/kvm.h"
#include "vmm/platform.h"
#include "vmm/vcpus.h"

#define VCPU_END_TEXT_MAX 400

struct vcpu_end {
        enum vcpus_end why;
        char text[VCPU_END_TEXT_MAX];   /* a sentence that names the vCPU */
};

/* KVM_RUN has returned 0. False: the guest has ended, *ret says how. */
bool vcpu_exit(struct kvm *kvm, struct platform *platform, unsigned cpu, struct vcpu_end *ret);
/* KVM_RUN has failed. */
void vcpu_exit_failed(struct kvm *kvm, unsigned cpu, int errnum, struct vcpu_end *ret);

#endif
