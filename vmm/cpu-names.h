/* SPDX-License-Identifier: Apache-2.0 */
/* cpu-names.h - what bits of CPUID and MSRs are called, for sentences and for JSON.
 *
 * The names are those of /proc/cpuinfo where there is one. Pure.
 */
#ifndef VMM_CPU_NAMES_H
#define VMM_CPU_NAMES_H

#include <stdbool.h>
#include <stdint.h>

/* A register of a CPUID leaf, each bit of which says that the CPU has something. */
enum cpu_register { CPU_EAX, CPU_EBX, CPU_ECX, CPU_EDX };

struct cpu_word {
        uint32_t function, index;
        enum cpu_register reg;
        uint32_t ignored;               /* bits that say something else */
        const char *name[32];           /* NULL: not known to us */
};

#define CPU_WORDS 16
/* the first is ECX of leaf 1 */
extern const struct cpu_word cpu_word[CPU_WORDS];

#define CPU_NAME_BYTES 32
/* "avx512f", or "cpuid_7_0_ebx_16" of one that has no name here */
void cpu_bit_name(unsigned word, unsigned bit, char ret[CPU_NAME_BYTES]);
/* "IA32_XFD (amx_tile)"; NULL: not known to us */
const char *cpu_msr_name(uint32_t index);

#endif
