/* SPDX-License-Identifier: Apache-2.0 */
/* vcpus.h - the threads that run the guest, and how they are paused.
 *
 * Pausing is flag, immediate_exit, signal (kvm_run.immediate_exit in the
 * kernel's Documentation/virt/kvm/api.rst); a thread finishes the exit it holds
 * and enters KVM once more so that pending I/O completes, then parks. A thread
 * that waits for a missing page inside KVM may not come back before the page is
 * served: vcpus_pause() has a deadline and the pause stays requested after it.
 * Threads: all functions from any thread but the vCPUs' own.
 */
#ifndef VMM_VCPUS_H
#define VMM_VCPUS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "vmm/kvm.h"
#include "vmm/platform.h"

struct starter;
struct vcpus;

enum vcpus_end {
        VCPUS_TRIPLE_FAULT,
        VCPUS_INTERNAL_ERROR,           /* KVM_EXIT_INTERNAL_ERROR, FAIL_ENTRY, unknown exits */
};

struct vcpus_ops {
        /* Once, from the vCPU's thread; the guest stands still afterwards. */
        void (*ended)(void *ctx, enum vcpus_end why, const char *text);
        void *ctx;
        struct starter *starter;        /* of their threads; may be NULL */
};

int vcpus_new(struct kvm *kvm, struct platform *platform, const struct vcpus_ops *ops,
              struct vcpus **ret, struct err *e);
/* Starts the threads, parked. */
int vcpus_start(struct vcpus *v, struct err *e);
void vcpus_resume(struct vcpus *v);
/* All parked, or -ETIMEDOUT at the deadline (clock_now_ns) with a sentence that
 * names the vCPUs that wait for memory; the request stands until resume. */
int vcpus_pause(struct vcpus *v, uint64_t deadline_ns, struct err *e);
bool vcpus_paused(struct vcpus *v);
/* All are parked and have been given another state: a guest that had ended can go on. */
void vcpus_revive(struct vcpus *v);
/* Stops and joins; vCPUs that hang in KVM make it return -ETIMEDOUT. */
int vcpus_stop(struct vcpus *v, uint64_t deadline_ns);
void vcpus_free(struct vcpus *v);

/* How often all of them came out of KVM with something to do for us. From any thread. */
uint64_t vcpus_exits(const struct vcpus *v);
/* clock_now_ns() right before vCPU 0 first entered the guest; waits for it when
 * the vCPUs have been resumed, 0 = they have not. */
uint64_t vcpus_first_entry_ns(struct vcpus *v);

#endif
