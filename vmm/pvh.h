/* SPDX-License-Identifier: Apache-2.0 */
/* pvh.h - ELF64 kernels with a PVH entry (Xen's x86/HVM direct boot ABI).
 *
 * Pure functions over bytes; the file is untrusted. What pvh_parse() returned
 * points into the file and needs no more checks but against RAM.
 */
#ifndef VMM_PVH_H
#define VMM_PVH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "vmm/memmap.h"

/* Linux has 4 or 5 */
#define PVH_SEGMENTS_MAX 16
#define PVH_INFO_BYTES 4096

struct pvh_segment {
        uint64_t gpa;
        const uint8_t *data;
        uint64_t data_bytes;
        uint64_t memory_bytes;          /* >= data_bytes; the rest is zero */
};

struct pvh {
        uint32_t entry_gpa;             /* inside a segment */
        unsigned nsegments;
        /* all between BOOT_KERNEL_MIN_GPA and RAM_LOW_END_GPA */
        struct pvh_segment segments[PVH_SEGMENTS_MAX];
        uint64_t end_gpa;               /* of the highest segment */
};

/* What the guest is told. */
struct pvh_setup {
        uint64_t cmdline_gpa;
        uint64_t initrd_gpa, initrd_bytes;      /* 0 bytes: none */
        uint64_t rsdp_gpa;
        const struct memmap *memmap;
};

bool pvh_is_elf(const void *file, size_t bytes);
/* The sentences do not name the file. */
int pvh_parse(const void *file, size_t bytes, struct pvh *ret, struct err *e);
/* The page that begins with hvm_start_info and holds all it points to but the
 * command line; info_gpa is where the guest sees it. */
void pvh_info(const struct pvh_setup *setup, uint64_t info_gpa,
              uint8_t ret_info[PVH_INFO_BYTES]);

#endif
