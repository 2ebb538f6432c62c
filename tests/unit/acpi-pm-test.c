/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: fixed ACPI hardware by the letter of ACPI 4.8, for any access width.
 * Method: the accesses of ACPICA; a clock that the test turns. */
#include "vmm/acpi-pm.h"

#include <errno.h>
#include <string.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/json.h"
#include "tests/unit/suite.h"

enum { STATUS = 0, ENABLE = 2, CONTROL = 4, TIMER = 8 };

static void power_button_raises_sci_until_cleared(void)
{
        struct acpi_pm pm;

        acpi_pm_init(&pm, 0);
        acpi_pm_power_button(&pm);
        CU_ASSERT_FALSE(acpi_pm_sci(&pm));              /* not enabled */
        CU_ASSERT_EQUAL(acpi_pm_in(&pm, STATUS, 2, 0), 0x100);
        acpi_pm_out(&pm, ENABLE, 2, 0x100);
        CU_ASSERT_EQUAL(acpi_pm_in(&pm, ENABLE, 2, 0), 0x100);
        CU_ASSERT(acpi_pm_sci(&pm));
        acpi_pm_out(&pm, STATUS, 2, 0xfeff);            /* clears others only */
        CU_ASSERT(acpi_pm_sci(&pm));
        acpi_pm_out(&pm, STATUS, 2, 0x100);
        CU_ASSERT_FALSE(acpi_pm_sci(&pm));
}

static void any_width_works(void)
{
        struct acpi_pm pm;

        acpi_pm_init(&pm, 0);
        acpi_pm_power_button(&pm);
        acpi_pm_out(&pm, ENABLE + 1, 1, 0x01);
        CU_ASSERT_EQUAL(acpi_pm_in(&pm, STATUS, 4, 0), 0x01000100);
        acpi_pm_out(&pm, STATUS, 4, 0x00200100);
        CU_ASSERT_EQUAL(acpi_pm_in(&pm, STATUS, 4, 0), 0x00200000);
        CU_ASSERT_EQUAL(acpi_pm_in(&pm, ENABLE, 1, 0), 0x20);
}

static void control_says_acpi_is_on_and_powers_off(void)
{
        static const struct {
                unsigned offset, bytes;
                uint32_t value;
                enum acpi_pm_request want;
        } t[] = {
                { CONTROL, 2, 0x1400, ACPI_PM_NONE },           /* type 5 alone, as ACPICA first */
                { CONTROL, 2, 0x3400, ACPI_PM_POWER_OFF },
                { CONTROL, 2, 0x2000, ACPI_PM_NONE },           /* type 0 */
                { CONTROL + 1, 1, 0x34, ACPI_PM_POWER_OFF },
                { CONTROL, 1, 0x34, ACPI_PM_NONE },
                { CONTROL, 4, 0x3400, ACPI_PM_POWER_OFF },
                { ENABLE, 4, 0x34000000, ACPI_PM_POWER_OFF },
                { TIMER, 4, 0x34343434, ACPI_PM_NONE },
        };

        for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
                struct acpi_pm pm;

                acpi_pm_init(&pm, 0);
                CU_ASSERT_EQUAL(acpi_pm_in(&pm, CONTROL, 2, 0), 1);
                CU_ASSERT_EQUAL(acpi_pm_out(&pm, t[i].offset, t[i].bytes, t[i].value), t[i].want);
                /* SCI_EN always reads set, SLP_EN never */
                CU_ASSERT_EQUAL(acpi_pm_in(&pm, CONTROL, 2, 0) & 0x2001, 1);
        }
}

static void timer_runs_at_its_rate(void)
{
        struct acpi_pm pm;
        uint64_t start_ns = 123456789;

        acpi_pm_init(&pm, start_ns);
        CU_ASSERT_EQUAL(acpi_pm_in(&pm, TIMER, 4, start_ns), 0);
        CU_ASSERT_EQUAL(acpi_pm_in(&pm, TIMER, 4, start_ns + NS_PER_SEC), 3579545);
        CU_ASSERT_EQUAL(acpi_pm_in(&pm, TIMER, 4, start_ns + 10 * NS_PER_SEC),
                        35795450 & 0xffffff);
        /* centuries later it still counts right */
        uint64_t far_s = 500ull * 365 * 86400;

        CU_ASSERT_EQUAL(acpi_pm_in(&pm, TIMER, 4, start_ns + far_s * NS_PER_SEC),
                        (far_s * 3579545) & 0xffffff);
}

static void timer_goes_on_after_load(void)
{
        struct acpi_pm pm, back;

        acpi_pm_init(&pm, 0);
        acpi_pm_out(&pm, ENABLE, 2, 0x120);
        acpi_pm_out(&pm, CONTROL, 2, 0x1400);
        acpi_pm_power_button(&pm);

        struct json_object *o = acpi_pm_save(&pm, 2 * NS_PER_SEC);

        CU_ASSERT_EQUAL_FATAL(acpi_pm_load(&back, o, 777 * NS_PER_SEC, NULL), 0);
        json_object_put(o);
        CU_ASSERT(acpi_pm_sci(&back));
        CU_ASSERT_EQUAL(acpi_pm_in(&back, STATUS, 4, 0), 0x01200100);
        CU_ASSERT_EQUAL(acpi_pm_in(&back, CONTROL, 2, 0), 0x1401);
        CU_ASSERT_EQUAL(acpi_pm_in(&back, TIMER, 4, 777 * NS_PER_SEC), 2 * 3579545);
        CU_ASSERT_EQUAL(acpi_pm_in(&back, TIMER, 4, 778 * NS_PER_SEC), 3 * 3579545);
}

static void bad_state_is_refused(void)
{
        static const struct {
                const char *key;
                uint64_t value;
        } t[] = {
                { "version", 2 }, { "status", 0x10000 }, { "enable", 0x10000 },
                { "control", 0x10000 }, { "timer", 0x1000000 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
                struct acpi_pm pm;
                struct err e = { 0 };

                acpi_pm_init(&pm, 0);

                struct json_object *o = acpi_pm_save(&pm, 0);

                json_put_u64(o, t[i].key, t[i].value);
                CU_ASSERT_EQUAL(acpi_pm_load(&pm, o, 0, &e), -EBADMSG);
                json_object_object_del(o, t[i].key);
                CU_ASSERT_EQUAL(acpi_pm_load(&pm, o, 0, &e), -EBADMSG);
                CU_ASSERT_PTR_NOT_NULL(strstr(e.text, t[i].key));
                json_object_put(o);
        }
}

static const CU_TestInfo cases[] = {
        { "the power button raises the SCI until cleared", power_button_raises_sci_until_cleared },
        { "any access width works", any_width_works },
        { "control: ACPI is on, S5 powers off", control_says_acpi_is_on_and_powers_off },
        { "the timer runs at 3.579545 MHz", timer_runs_at_its_rate },
        { "state survives, the timer goes on from its count", timer_goes_on_after_load },
        { "bad saved state is refused", bad_state_is_refused },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("acpi-pm", cases);
}
