/* SPDX-License-Identifier: Apache-2.0 */
/* cpu-compat.h - the CPU that a saved guest was shown, beside the one that this host would
 * show a guest that boots here.
 *
 * What a guest was shown stays so for its life: KVM takes the saved table on most hosts, and
 * a program that uses what the CPU lacks dies in the guest. So differences are told, by name.
 * They are no reason to refuse: paravirtual KVM offers less than its guests can use, and then
 * all goes well. What KVM refuses is refused, and the sentence has the names too.
 *
 * Threads: plain values; cpu_model_here() as kvm_call().
 */
#ifndef VMM_CPU_COMPAT_H
#define VMM_CPU_COMPAT_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "vmm/cpu-names.h"
#include "vmm/kvm.h"

struct cpu_model {
        char vendor[13];                /* "" = leaf 0 is missing */
        uint32_t word[CPU_WORDS];       /* features as in cpu_word[] */
        uint32_t xsave_bytes;           /* of all components; 0 = unknown */
        uint32_t tsc_khz;               /* 0 = unknown */
};

/* Of one vCPU's table, which is untrusted. */
void cpu_model_read(const struct kvm_cpuid_entry2 *leaves, unsigned n, uint32_t tsc_khz,
                    struct cpu_model *ret);
/* listed: KVM's table, own: what the CPU says. Adds the one to the other where KVM lists less
 * than its guests have. */
void cpu_model_believe(struct cpu_model *listed, const struct cpu_model *own);
/* What a guest with as many vCPUs is shown here (cpuid.h); asks KVM for its table. */
int cpu_model_here(struct kvm *kvm, struct cpu_model *ret, struct err *e);

/* Where the host falls short, as JSON the caller puts: "missing" (names), and where they
 * differ "vendor", "xsave_bytes", "tsc_khz", each with "saved" and "here". NULL = nowhere. */
struct json_object *cpu_compat_describe(const struct cpu_model *guest,
                                        const struct cpu_model *here);
/* KVM refused the guest's state: adds to e what of its CPU is missing here and the remedy,
 * if there is such. Returns rc. */
int cpu_compat_explain(struct kvm *kvm, const struct cpu_model *guest, int rc, struct err *e);

#endif
