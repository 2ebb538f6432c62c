/* SPDX-License-Identifier: Apache-2.0 */
/* acpi.h - the tables that tell a guest what machine it runs on.
 *
 * Full ACPI (not hardware-reduced): FADT with PM1, PM timer and reset register
 * as acpi-pm.h has them, MADT for the vCPUs, DSDT with the devices (dsdt.c).
 * Pure: bytes out of the arguments.
 */
#ifndef VMM_ACPI_H
#define VMM_ACPI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a machine has besides what all have. */
struct acpi_machine {
        unsigned cpus;                  /* with APIC ids 0.. */
        unsigned virtio_slots;          /* the first ones of virtio/slots.h */
        bool vmgenid;                   /* vmgenid.h */
};

/* What acpi_build() may need; checked by ASSERT */
#define ACPI_AREA_BYTES 0x4000

/* Writes all tables into area[], which the guest sees at area_gpa (64-byte
 * aligned, below 4 GiB). The RSDP is the first. */
void acpi_build(uint8_t area[ACPI_AREA_BYTES], uint64_t area_gpa, const struct acpi_machine *m);

#endif
