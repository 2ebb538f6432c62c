/* SPDX-License-Identifier: Apache-2.0 */
/* dsdt.h - the devices of a machine and what the guest does with them, in AML.
 *
 * COM1, clock and \_S5 always; virtio devices and the generation id as the
 * machine has them. Pure.
 */
#ifndef VMM_DSDT_H
#define VMM_DSDT_H

#include <stddef.h>

struct acpi_machine;

/* What lies behind the DSDT's header; returns its size. Too little room: ASSERT. */
size_t dsdt_put(const struct acpi_machine *m, void *body, size_t room);

#endif
