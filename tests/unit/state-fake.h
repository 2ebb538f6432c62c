/* SPDX-License-Identifier: Apache-2.0 */
/* state-fake.h - a KVM of memory: kvm_call() that keeps what is set.
 *
 * A program that links state-fake.c has this kvm_call() instead of kvm.c's.
 * It logs the order of calls, refuses what it is told to refuse and stops at
 * refused MSRs with a short count as KVM does. Not for threads.
 */
#ifndef TESTS_UNIT_STATE_FAKE_H
#define TESTS_UNIT_STATE_FAKE_H

#include "vmm/state-priv.h"

#define FAKE_CALLS_MAX 1024
#define FAKE_VM (-1)

struct fake_call {
        int cpu;                        /* FAKE_VM for the VM or the device */
        unsigned long request;
        uint32_t msr;                   /* GET and SET_MSRS: the first index */
        uint32_t nmsrs;
};

struct fake {
        struct kvm kvm;                 /* first: kvm_call() finds the rest by it */
        struct machine_state *m;        /* owned */

        /* how this KVM is */
        int adjust_clock;               /* KVM_CAP_ADJUST_CLOCK */
        uint32_t clock_flags;           /* of KVM_GET_CLOCK */
        uint64_t host_tsc;
        uint64_t host_tsc_step;         /* per KVM_GET_CLOCK */
        uint64_t clock_passed_ns;       /* added by KVM_SET_CLOCK with REALTIME */
        int host_khz;
        uint64_t xfeatures;             /* 0: all */
        uint32_t nested_bytes;          /* 0: no nested state */
        struct kvm_nested_state nested;
        uint32_t refused_msr;           /* never set */
        unsigned long refused_request;  /* -EINVAL */
        const struct kvm_cpuid_entry2 *offered; /* KVM_GET_SUPPORTED_CPUID; NULL: fails */
        unsigned noffered;

        uint64_t tsc_written[VCPUS_MAX];
        struct fake_call calls[FAKE_CALLS_MAX];
        unsigned ncalls;
};

/* m is the machine's state from now on */
void fake_init(struct fake *f, struct machine_state *m);
void fake_fini(struct fake *f);
/* Position of the first or last such call, -1 when there is none. */
int fake_first(const struct fake *f, int cpu, unsigned long request);
int fake_last(const struct fake *f, int cpu, unsigned long request);

#endif
