/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cpu-names.h"

#include <stddef.h>
#include <stdio.h>

#include "common/check.h"

/* Left out of `ignored` is what KVM or we set as the guest and the number of its CPUs
 * have it: OSXSAVE, OSPKE, APIC, MWAIT, and what is missing where the bit is set. */
#define BIT(n) (1u << (n))

const struct cpu_word cpu_word[CPU_WORDS] = {
        { 0x1, 0, CPU_ECX, BIT(3) | BIT(27) | BIT(31), {
                "sse3", "pclmulqdq", "dtes64", "monitor", "ds_cpl", "vmx", "smx", "est",
                "tm2", "ssse3", "cid", "sdbg", "fma", "cx16", "xtpr", "pdcm",
                NULL, "pcid", "dca", "sse4_1", "sse4_2", "x2apic", "movbe", "popcnt",
                "tsc_deadline_timer", "aes", "xsave", "osxsave", "avx", "f16c", "rdrand",
                "hypervisor" } },
        { 0x1, 0, CPU_EDX, BIT(9) | BIT(28), {
                "fpu", "vme", "de", "pse", "tsc", "msr", "pae", "mce",
                "cx8", "apic", NULL, "sep", "mtrr", "pge", "mca", "cmov",
                "pat", "pse36", "pn", "clflush", NULL, "dts", "acpi", "mmx",
                "fxsr", "sse", "sse2", "ss", "ht", "tm", "ia64", "pbe" } },
        { 0x6, 0, CPU_EAX, ~BIT(2), { [2] = "arat" } },
        { 0x7, 0, CPU_EBX, BIT(6) | BIT(13), {
                "fsgsbase", "tsc_adjust", "sgx", "bmi1", "hle", "avx2", NULL, "smep",
                "bmi2", "erms", "invpcid", "rtm", "cqm", NULL, "mpx", "rdt_a",
                "avx512f", "avx512dq", "rdseed", "adx", "smap", "avx512ifma", "pcommit",
                "clflushopt", "clwb", "intel_pt", "avx512pf", "avx512er", "avx512cd", "sha_ni",
                "avx512bw", "avx512vl" } },
        { 0x7, 0, CPU_ECX, BIT(4) | 0x1fu << 17, {
                "prefetchwt1", "avx512vbmi", "umip", "pku", "ospke", "waitpkg", "avx512_vbmi2",
                "shstk", "gfni", "vaes", "vpclmulqdq", "avx512_vnni", "avx512_bitalg", "tme",
                "avx512_vpopcntdq", NULL, "la57", [22] = "rdpid", "key_locker",
                "bus_lock_detect", "cldemote", NULL, "movdiri", "movdir64b", "enqcmd",
                "sgx_lc", "pks" } },
        { 0x7, 0, CPU_EDX, 0, {
                [2] = "avx512_4vnniw", "avx512_4fmaps", "fsrm", "uintr",
                [8] = "avx512_vp2intersect", "srbds_ctrl", "md_clear", "rtm_always_abort",
                [13] = "tsx_force_abort", "serialize", "hybrid_cpu", "tsxldtrk",
                [18] = "pconfig", "arch_lbr", "ibt",
                [22] = "amx_bf16", "avx512_fp16", "amx_tile", "amx_int8", "spec_ctrl",
                "intel_stibp", "flush_l1d", "arch_capabilities", "core_capabilities", "ssbd" } },
        { 0x7, 1, CPU_EAX, 0, {
                "sha512", "sm3", "sm4", "rao_int", "avx_vnni", "avx512_bf16", "lass",
                "cmpccxadd", "arch_perfmon_ext", [10] = "fzrm", "fsrs", "fsrc",
                [17] = "fred", "lkgs", "wrmsrns", "nmi_src", "amx_fp16", "hreset", "avx_ifma",
                [26] = "lam", "msrlist" } },
        { 0x7, 1, CPU_EDX, 0, {
                [4] = "avx_vnni_int8", "avx_ne_convert", [8] = "amx_complex",
                [10] = "avx_vnni_int16", [14] = "prefetchiti", [19] = "avx10", [21] = "apx" } },
        { 0xd, 0, CPU_EAX, 0, {
                "xstate_x87", "xstate_sse", "xstate_avx", "xstate_bndregs", "xstate_bndcsr",
                "xstate_opmask", "xstate_zmm_hi256", "xstate_hi16_zmm", [9] = "xstate_pkru",
                [17] = "xstate_tilecfg", "xstate_tiledata", "xstate_apx" } },
        { 0xd, 1, CPU_EAX, 0, { "xsaveopt", "xsavec", "xgetbv1", "xsaves", "xfd" } },
        { 0x80000001, 0, CPU_ECX, 0, {
                "lahf_lm", "cmp_legacy", "svm", "extapic", "cr8_legacy", "abm", "sse4a",
                "misalignsse", "3dnowprefetch", "osvw", "ibs", "xop", "skinit", "wdt", NULL,
                "lwp", "fma4", "tce", NULL, "nodeid_msr", NULL, "tbm", "topoext",
                "perfctr_core", "perfctr_nb", NULL, "bpext", "ptsc", "perfctr_llc", "mwaitx" } },
        /* the other bits are those of leaf 1, or nothing */
        { 0x80000001, 0, CPU_EDX, 0x11aff7ffu, {
                [11] = "syscall", [20] = "nx", [22] = "mmxext", [25] = "fxsr_opt", "pdpe1gb",
                "rdtscp", [29] = "lm", "3dnowext", "3dnow" } },
        { 0x80000007, 0, CPU_EDX, ~BIT(8), { [8] = "nonstop_tsc" } },
        { 0x80000008, 0, CPU_EBX, 0, {
                "clzero", "irperf", "xsaveerptr", [4] = "rdpru", [9] = "wbnoinvd",
                [12] = "ibpb", [14] = "ibrs", "stibp", [17] = "stibp_always_on",
                [24] = "amd_ssbd", "virt_ssbd", "amd_ssb_no", [28] = "amd_psfd", "btc_no",
                "ibpb_ret" } },
        { 0x80000021, 0, CPU_EAX, 0, {
                "no_nested_data_bp", [2] = "lfence_rdtsc", [6] = "null_sel_clr_base",
                [8] = "autoibrs", "no_smm_ctl_msr", [27] = "sbpb", "ibpb_brtype", "srso_no" } },
        { 0x40000001, 0, CPU_EAX, BIT(7), {
                "kvmclock", "kvm_nop_io_delay", NULL, "kvmclock2", "kvm_async_pf",
                "kvm_steal_time", "kvm_pv_eoi", "kvm_pv_unhalt", NULL, "kvm_pv_tlb_flush",
                "kvm_async_pf_vmexit", "kvm_pv_send_ipi", "kvm_poll_control",
                "kvm_pv_sched_yield", "kvm_async_pf_int", "kvm_msi_ext_dest_id",
                [24] = "kvmclock_stable" } },
};

void cpu_bit_name(unsigned word, unsigned bit, char ret[CPU_NAME_BYTES])
{
        static const char *const reg[] = { "eax", "ebx", "ecx", "edx" };

        ASSERT(word < CPU_WORDS && bit < 32);

        const struct cpu_word *w = &cpu_word[word];

        if (w->name[bit])
                snprintf(ret, CPU_NAME_BYTES, "%s", w->name[bit]);
        else
                snprintf(ret, CPU_NAME_BYTES, "cpuid_%x_%x_%s_%u", w->function, w->index,
                         reg[w->reg], bit);
}

/* Those that a CPU of another model may lack or hold to other values. */
static const struct {
        uint32_t first, last;
        const char *name;
} msrs[] = {
        { 0x3b, 0x3b, "IA32_TSC_ADJUST (tsc_adjust)" },
        { 0x48, 0x48, "IA32_SPEC_CTRL (spec_ctrl)" },
        { 0xe1, 0xe1, "IA32_UMWAIT_CONTROL (waitpkg)" },
        { 0x10a, 0x10a, "IA32_ARCH_CAPABILITIES (arch_capabilities)" },
        { 0x122, 0x122, "IA32_TSX_CTRL (rtm)" },
        { 0x179, 0x179, "IA32_MCG_CAP (mca)" },
        { 0x1c4, 0x1c4, "IA32_XFD (amx_tile)" },
        { 0x1c5, 0x1c5, "IA32_XFD_ERR (amx_tile)" },
        { 0x345, 0x345, "IA32_PERF_CAPABILITIES (pdcm)" },
        { 0x400, 0x47f, "of machine check (mca)" },
        { 0x480, 0x491, "IA32_VMX_* (vmx)" },
        { 0x570, 0x58f, "IA32_RTIT_* (intel_pt)" },
        { 0x6a0, 0x6a8, "IA32_*_CET, _SSP (shstk, ibt)" },
        { 0xd90, 0xd90, "IA32_BNDCFGS (mpx)" },
        { 0xda0, 0xda0, "IA32_XSS (xsaves)" },
        { 0x4b564d00, 0x4b564dff, "of KVM's own" },
        { 0xc0000103, 0xc0000103, "TSC_AUX (rdtscp, rdpid)" },
        { 0xc001011f, 0xc001011f, "VIRT_SPEC_CTRL (virt_ssbd)" },
};

const char *cpu_msr_name(uint32_t index)
{
        for (size_t i = 0; i < ARRAY_SIZE(msrs); i++) {
                if (index >= msrs[i].first && index <= msrs[i].last)
                        return msrs[i].name;
        }
        return NULL;
}
