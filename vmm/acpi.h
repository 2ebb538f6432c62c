/* SPDX-License-Identifier: Apache-2.0 */
/* acpi.h - the tables that tell a guest what machine it runs on.
 *
 * Full ACPI (not hardware-reduced): FADT with PM1, PM timer and reset register
 * as acpi-pm.h has them, MADT for the vCPUs, DSDT with COM1, the clock and
 * \_S5. Pure: bytes out of the arguments.
 */
#ifndef VMM_ACPI_H
#define VMM_ACPI_H

#include <stddef.h>
#include <stdint.h>

/* What acpi_build() may need; checked by ASSERT */
#define ACPI_AREA_BYTES 0x4000

/* Writes all tables for `cpus` vCPUs (APIC ids 0..) into area[], which the guest
 * sees at area_gpa (64-byte aligned, below 4 GiB). The RSDP is the first. */
void acpi_build(uint8_t area[ACPI_AREA_BYTES], uint64_t area_gpa, unsigned cpus);

#endif
