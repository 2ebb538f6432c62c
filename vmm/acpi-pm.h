/* SPDX-License-Identifier: Apache-2.0 */
/* acpi-pm.h - the fixed ACPI hardware: PM1 event and control, PM timer, reset register.
 *
 * A state machine without I/O: its owner passes the time, raises the SCI to
 * acpi_pm_sci() after every call and does what acpi_pm_out() returns. ACPI mode
 * is always on (there is no SMI command port).
 * Ownership: plain struct, nothing to free. Threads: the owner's lock.
 */
#ifndef VMM_ACPI_PM_H
#define VMM_ACPI_PM_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

/* I/O ports; acpi.c tells the guest the same */
#define ACPI_PM1_EVENT_PORT 0x600
#define ACPI_PM1_CONTROL_PORT 0x604
#define ACPI_PM_TIMER_PORT 0x608
#define ACPI_PM_LAST_PORT 0x60b
#define ACPI_RESET_PORT 0x614
#define ACPI_RESET_VALUE 1
#define ACPI_SCI_GSI 9
#define ACPI_SLP_TYP_S5 5

#define ACPI_PM_TIMER_HZ 3579545ull

struct acpi_pm {
        uint16_t status, enable, control;
        uint32_t timer_base;            /* 24 bits, at timer_base_ns */
        uint64_t timer_base_ns;
};

enum acpi_pm_request { ACPI_PM_NONE, ACPI_PM_POWER_OFF };

void acpi_pm_init(struct acpi_pm *pm, uint64_t now_ns);
/* offset from ACPI_PM1_EVENT_PORT; bytes: 1, 2 or 4, inside the block */
uint32_t acpi_pm_in(const struct acpi_pm *pm, unsigned offset, unsigned bytes, uint64_t now_ns);
enum acpi_pm_request acpi_pm_out(struct acpi_pm *pm, unsigned offset, unsigned bytes,
                                 uint32_t value);
void acpi_pm_power_button(struct acpi_pm *pm);
bool acpi_pm_sci(const struct acpi_pm *pm);

/* The timer goes on from its saved count: time spent saved does not pass for it. */
struct json_object *acpi_pm_save(const struct acpi_pm *pm, uint64_t now_ns);
int acpi_pm_load(struct acpi_pm *pm, struct json_object *o, uint64_t now_ns, struct err *e);

#endif
