/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/acpi-pm.h"

#include <string.h>

#include "common/bytes.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/json.h"

/* The register block, as offsets from its first port */
enum { STATUS = 0, ENABLE = 2, CONTROL = 4, TIMER = 8, BLOCK_BYTES = 12 };

static_assert(ACPI_PM1_CONTROL_PORT - ACPI_PM1_EVENT_PORT == CONTROL, "as the FADT says");
static_assert(ACPI_PM_TIMER_PORT - ACPI_PM1_EVENT_PORT == TIMER, "as the FADT says");
static_assert(ACPI_PM_LAST_PORT - ACPI_PM1_EVENT_PORT == BLOCK_BYTES - 1, "one block");

#define STATUS_POWER_BUTTON (1u << 8)
#define CONTROL_SCI_EN (1u << 0)
#define CONTROL_SLP_TYP(control) ((control) >> 10 & 7u)
#define CONTROL_SLP_EN (1u << 13)
#define TIMER_MASK 0xffffffu

void acpi_pm_init(struct acpi_pm *pm, uint64_t now_ns)
{
        *pm = (struct acpi_pm){ .timer_base_ns = now_ns };
}

static uint32_t timer(const struct acpi_pm *pm, uint64_t now_ns)
{
        unsigned __int128 passed_ns = now_ns - pm->timer_base_ns;

        return (pm->timer_base + (uint32_t)(passed_ns * ACPI_PM_TIMER_HZ / NS_PER_SEC)) &
               TIMER_MASK;
}

uint32_t acpi_pm_in(const struct acpi_pm *pm, unsigned offset, unsigned bytes, uint64_t now_ns)
{
        uint8_t block[BLOCK_BYTES] = { 0 };
        uint32_t value = 0;

        ASSERT(bytes <= sizeof(value) && offset + bytes <= BLOCK_BYTES);
        put_le16(block + STATUS, pm->status);
        put_le16(block + ENABLE, pm->enable);
        put_le16(block + CONTROL, pm->control | CONTROL_SCI_EN);
        put_le32(block + TIMER, timer(pm, now_ns));
        memcpy(&value, block + offset, bytes);
        return value;
}

static void replace_byte(uint16_t *reg, unsigned byte, uint8_t v)
{
        *reg = (uint16_t)((*reg & ~(0xffu << 8 * byte)) | (unsigned)v << 8 * byte);
}

static enum acpi_pm_request write_control(struct acpi_pm *pm, unsigned byte, uint8_t v)
{
        replace_byte(&pm->control, byte, v);
        if (!(pm->control & CONTROL_SLP_EN))
                return ACPI_PM_NONE;
        pm->control &= (uint16_t)~CONTROL_SLP_EN;       /* write-only */
        return CONTROL_SLP_TYP(pm->control) == ACPI_SLP_TYP_S5 ? ACPI_PM_POWER_OFF : ACPI_PM_NONE;
}

enum acpi_pm_request acpi_pm_out(struct acpi_pm *pm, unsigned offset, unsigned bytes,
                                 uint32_t value)
{
        enum acpi_pm_request request = ACPI_PM_NONE;

        ASSERT(bytes <= sizeof(value) && offset + bytes <= BLOCK_BYTES);
        for (unsigned i = 0; i < bytes; i++) {
                unsigned at = offset + i;
                uint8_t v = (uint8_t)(value >> 8 * i);

                if (at < ENABLE)                /* write 1 to clear */
                        pm->status &= (uint16_t)~((unsigned)v << 8 * (at - STATUS));
                else if (at < CONTROL)
                        replace_byte(&pm->enable, at - ENABLE, v);
                else if (at < CONTROL + 2 && request == ACPI_PM_NONE)
                        request = write_control(pm, at - CONTROL, v);
        }
        return request;
}

void acpi_pm_power_button(struct acpi_pm *pm)
{
        pm->status |= STATUS_POWER_BUTTON;
}

bool acpi_pm_sci(const struct acpi_pm *pm)
{
        return pm->status & pm->enable;
}

/* ---- saved state --------------------------------------------------------- */

#define ACPI_PM_VERSION 1

struct json_object *acpi_pm_save(const struct acpi_pm *pm, uint64_t now_ns)
{
        struct json_object *o = json_object_new_object();

        json_put_u64(o, "version", ACPI_PM_VERSION);
        json_put_u64(o, "status", pm->status);
        json_put_u64(o, "enable", pm->enable);
        json_put_u64(o, "control", pm->control);
        json_put_u64(o, "timer", timer(pm, now_ns));
        return o;
}

int acpi_pm_load(struct acpi_pm *pm, struct json_object *o, uint64_t now_ns, struct err *e)
{
        uint64_t version, status, enable, control, ticks;
        int rc = json_take_u64(o, "version", ACPI_PM_VERSION, &version, e);

        if (rc == 0)
                rc = json_take_u64(o, "status", UINT16_MAX, &status, e);
        if (rc == 0)
                rc = json_take_u64(o, "enable", UINT16_MAX, &enable, e);
        if (rc == 0)
                rc = json_take_u64(o, "control", UINT16_MAX, &control, e);
        if (rc == 0)
                rc = json_take_u64(o, "timer", TIMER_MASK, &ticks, e);
        if (rc < 0)
                return rc;
        *pm = (struct acpi_pm){
                .status = (uint16_t)status,
                .enable = (uint16_t)enable,
                .control = (uint16_t)control,
                .timer_base = (uint32_t)ticks,
                .timer_base_ns = now_ns,
        };
        return 0;
}
