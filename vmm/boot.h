/* SPDX-License-Identifier: Apache-2.0 */
/* boot.h - a kernel image into guest RAM, and vCPU 0 to its first instruction.
 *
 * Kernel images and initrds are untrusted input: every field is checked
 * against the file's size and guest RAM in one place (bzimage.c, pvh.c).
 */
#ifndef VMM_BOOT_H
#define VMM_BOOT_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "vmm/acpi.h"
#include "vmm/kvm.h"
#include "vmm/ram.h"

struct boot_source {
        const void *kernel;             /* whole file in memory */
        size_t kernel_bytes;
        const char *kernel_name;        /* for messages */
        const void *initrd;             /* NULL = none */
        size_t initrd_bytes;
        const char *cmdline;
};

enum boot_protocol { BOOT_LINUX64, BOOT_PVH };

struct boot_entry {
        enum boot_protocol protocol;
        uint64_t rip_gpa;
        uint64_t info_gpa;              /* boot_params or hvm_start_info */
};

/* Recognises bzImage (64-bit protocol) or PVH ELF, places kernel, initrd,
 * command line, memory map, boot page tables, ACPI tables for the machine and
 * the reset stub in RAM. The error says when RAM is too small and how much
 * is needed. */
int boot_load(struct ram *ram, const struct acpi_machine *machine,
              const struct boot_source *source, struct boot_entry *ret, struct err *e);
/* Registers and boot-time MSRs of all vCPUs; after cpuid_set_all(). */
int boot_set_vcpus(struct kvm *kvm, const struct boot_entry *entry, struct err *e);

#endif
