/* SPDX-License-Identifier: Apache-2.0 */
/* memmap.h - what lies where in a booted guest's physical memory, and the map
 * of it that the guest is given (e820 or PVH).
 *
 * Device windows and KVM's own pages lie in the hole between RAM_LOW_END_GPA
 * and 4 GiB and are in no map.
 */
#ifndef VMM_MEMMAP_H
#define VMM_MEMMAP_H

#include <stdint.h>

#include "vmm/ram.h"

#define BOOT_GDT_GPA 0x500
#define BOOT_PVH_INFO_GPA 0x6000        /* one page: start_info, module, map */
#define BOOT_PARAMS_GPA 0x7000          /* one page */
#define BOOT_STACK_TOP_GPA 0x8ff0
#define BOOT_PML4_GPA 0x9000            /* PDPT and 4 page directories behind */
#define BOOT_CMDLINE_GPA 0x20000
#define BOOT_CMDLINE_BYTES_MAX 0x10000  /* with its NUL */
#define BOOT_EBDA_GPA 0x9f000           /* a reserved page: VMGenID's place */
#define BOOT_EBDA_END_GPA 0xa0000
#define BOOT_BIOS_GPA 0xe0000           /* reserved: ACPI tables, reset stub */
#define BOOT_BIOS_END_GPA 0x100000
#define BOOT_RESET_STUB_GPA 0xffff0
#define BOOT_KERNEL_MIN_GPA 0x100000    /* kernels and initrds lie above */

/* as in e820 and PVH */
enum memmap_type { MEMMAP_RAM = 1, MEMMAP_RESERVED = 2 };

struct memmap_range {
        uint64_t gpa;
        uint64_t bytes;
        enum memmap_type type;
};

#define MEMMAP_RANGES_MAX 5

struct memmap {
        unsigned nranges;
        struct memmap_range ranges[MEMMAP_RANGES_MAX];
};

/* ascending, without overlap */
void memmap_build(const struct ram *ram, struct memmap *ret);

#endif
