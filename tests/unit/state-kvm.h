/* SPDX-License-Identifier: Apache-2.0 */
/* state-kvm.h - VMs of this host's KVM whose state moves from one to another.
 *
 * What fails prints why. For a test's main thread.
 */
#ifndef TESTS_UNIT_STATE_KVM_H
#define TESTS_UNIT_STATE_KVM_H

#include "vmm/state-priv.h"

struct vm {
        struct kvm kvm;
        struct ram ram;
};

struct vm_saved {
        struct json_object *json;
        struct state_blob blob;
};

/* SUITE_SKIP, with the reason printed, where there is no KVM; else 0 */
int vm_skip(void);
bool vm_new(struct vm *vm, unsigned cpus);
void vm_fini(struct vm *vm);
/* KVM's result or -errno */
int vm_vcpu_call(struct vm *vm, unsigned cpu, unsigned long request, void *arg);
void vm_set_msr(struct vm *vm, unsigned cpu, uint32_t index, uint64_t value);
void lapic_set(struct kvm_lapic_state *l, unsigned reg, uint32_t v);

bool vm_save(struct vm *vm, struct vm_saved *s);
void vm_saved_fini(struct vm_saved *s);
/* The number of unexpected ones. */
unsigned vm_differences(const struct vm_saved *a, const struct vm_saved *b);
/* Saves a, loads b with a copy of its first MiB, saves b; the number of
 * unexpected differences. */
unsigned vm_move(struct vm *a, struct vm *b);

#endif
