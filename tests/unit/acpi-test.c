/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a walker that knows nothing of acpi.c finds every table from the RSDP,
 *   sums right and with what the machine has; AML is formed by the letter.
 * Method: parse the bytes by the offsets of the ACPI specification; compare AML
 *   with bytes written by hand. */
#include "vmm/acpi.h"

#include <string.h>

#include "common/bytes.h"
#include "common/check.h"
#include "tests/unit/suite.h"
#include "vmm/acpi-pm.h"
#include "vmm/aml.h"
#include "vmm/kvm.h"

#define AREA_GPA 0xe0000u

static uint8_t area[ACPI_AREA_BYTES];

static const uint8_t *at(uint64_t gpa)
{
        ASSERT(gpa >= AREA_GPA && gpa < AREA_GPA + ACPI_AREA_BYTES);
        return area + (gpa - AREA_GPA);
}

static unsigned sum(const uint8_t *p, size_t bytes)
{
        unsigned s = 0;

        while (bytes--)
                s += *p++;
        return s & 0xff;
}

static void check_table(const uint8_t *t, const char *signature)
{
        CU_ASSERT_EQUAL(memcmp(t, signature, 4), 0);
        CU_ASSERT_EQUAL(sum(t, get_le32(t + 4)), 0);
        CU_ASSERT_EQUAL(memcmp(t + 10, "SNAPBK", 6), 0);
}

/* NULL when there is none */
static const uint8_t *find(const char *signature)
{
        const uint8_t *rsdp = area, *xsdt = at(get_le64(rsdp + 24));

        for (uint32_t i = 36; i < get_le32(xsdt + 4); i += 8) {
                const uint8_t *t = at(get_le64(xsdt + i));

                if (memcmp(t, signature, 4) == 0)
                        return t;
        }
        return NULL;
}

static void rsdp_leads_to_all(void)
{
        memset(area, 0xee, sizeof(area));
        acpi_build(area, AREA_GPA, 2);
        CU_ASSERT_EQUAL(memcmp(area, "RSD PTR ", 8), 0);
        CU_ASSERT_EQUAL(sum(area, 20), 0);
        CU_ASSERT_EQUAL(sum(area, 36), 0);
        CU_ASSERT_EQUAL(area[15], 2);
        CU_ASSERT_EQUAL(get_le32(area + 20), 36);
        check_table(at(get_le64(area + 24)), "XSDT");
        CU_ASSERT_PTR_NOT_NULL_FATAL(find("FACP"));
        CU_ASSERT_PTR_NOT_NULL_FATAL(find("APIC"));
        check_table(find("FACP"), "FACP");
        check_table(find("APIC"), "APIC");
        check_table(at(get_le64(find("FACP") + 140)), "DSDT");
}

static void fadt_names_the_hardware(void)
{
        acpi_build(area, AREA_GPA, 1);

        const uint8_t *f = find("FACP"), *facs = at(get_le32(f + 36));

        CU_ASSERT_EQUAL(get_le32(f + 4), 276);
        CU_ASSERT_EQUAL(f[8], 6);
        CU_ASSERT_EQUAL((facs - area) % 64, 0);
        CU_ASSERT_EQUAL(memcmp(facs, "FACS", 4), 0);
        CU_ASSERT_EQUAL(get_le32(facs + 4), 64);
        CU_ASSERT_EQUAL(get_le32(f + 40), get_le64(f + 140));
        CU_ASSERT_EQUAL(get_le16(f + 46), ACPI_SCI_GSI);
        CU_ASSERT_EQUAL(get_le32(f + 48), 0);                   /* ACPI is always on */
        CU_ASSERT_EQUAL(get_le32(f + 56), ACPI_PM1_EVENT_PORT);
        CU_ASSERT_EQUAL(get_le32(f + 64), ACPI_PM1_CONTROL_PORT);
        CU_ASSERT_EQUAL(get_le32(f + 76), ACPI_PM_TIMER_PORT);
        CU_ASSERT_EQUAL(get_le64(f + 120), ACPI_RESET_PORT);
        CU_ASSERT_EQUAL(f[128], ACPI_RESET_VALUE);
        CU_ASSERT_EQUAL(get_le32(f + 112), 1u | 1u << 2 | 1u << 5 | 1u << 10);
        CU_ASSERT_EQUAL(get_le16(f + 109), 1u | 1u << 2);
        CU_ASSERT_EQUAL(get_le64(f + 148 + 4), ACPI_PM1_EVENT_PORT);
        CU_ASSERT_EQUAL(get_le64(f + 172 + 4), ACPI_PM1_CONTROL_PORT);
        CU_ASSERT_EQUAL(get_le64(f + 208 + 4), ACPI_PM_TIMER_PORT);
}

static void madt_lists_every_cpu(void)
{
        for (unsigned cpus = 1; cpus <= VCPUS_MAX; cpus++) {
                acpi_build(area, AREA_GPA, cpus);

                const uint8_t *m = find("APIC");
                unsigned count[16] = { 0 };

                CU_ASSERT_EQUAL(get_le32(m + 36), 0xfee00000);
                CU_ASSERT_EQUAL(get_le32(m + 40), 1);
                for (uint32_t i = 44; i < get_le32(m + 4); i += m[i + 1]) {
                        CU_ASSERT_FATAL(m[i] < 16 && m[i + 1] >= 2);
                        if (m[i] == 0) {
                                CU_ASSERT_EQUAL(m[i + 2], count[0]);    /* uid */
                                CU_ASSERT_EQUAL(m[i + 3], count[0]);    /* APIC id */
                                CU_ASSERT_EQUAL(get_le32(m + i + 4), 1);
                        } else if (m[i] == 1) {
                                CU_ASSERT_EQUAL(get_le32(m + i + 4), 0xfec00000);
                        } else if (m[i] == 2) {
                                CU_ASSERT_EQUAL(m[i + 3], ACPI_SCI_GSI);
                                CU_ASSERT_EQUAL(get_le32(m + i + 4), ACPI_SCI_GSI);
                                CU_ASSERT_EQUAL(get_le16(m + i + 8), 0x0d);
                        }
                        count[m[i]]++;
                }
                CU_ASSERT_EQUAL(count[0], cpus);
                CU_ASSERT_EQUAL(count[1], 1);
                CU_ASSERT_EQUAL(count[2], 1);
                CU_ASSERT_EQUAL(count[4], 1);
        }
}

static bool dsdt_has(const void *bytes, size_t n)
{
        const uint8_t *dsdt = at(get_le64(find("FACP") + 140));

        return memmem(dsdt, get_le32(dsdt + 4), bytes, n);
}

static void dsdt_has_serial_clock_and_s5(void)
{
        /* PNP0501 and PNP0B00 as EISA ids, port ranges, SLP_TYP 5 */
        static const uint8_t com1[] = { 0x0c, 0x41, 0xd0, 0x05, 0x01 };
        static const uint8_t rtc[] = { 0x0c, 0x41, 0xd0, 0x0b, 0x00 };
        static const uint8_t com1_io[] = { 0x47, 1, 0xf8, 3, 0xf8, 3, 1, 8, 0x22, 0x10, 0 };
        static const uint8_t s5[] = { 8, '_', 'S', '5', '_', 0x12, 0x49, 0, 4, 10, 5, 10, 5, 0, 0 };

        acpi_build(area, AREA_GPA, 1);
        CU_ASSERT(dsdt_has(com1, sizeof(com1)));
        CU_ASSERT(dsdt_has(com1_io, sizeof(com1_io)));
        CU_ASSERT(dsdt_has(rtc, sizeof(rtc)));
        CU_ASSERT(dsdt_has(s5, sizeof(s5)));
}

static void aml_by_hand(void)
{
        static const uint8_t want[] = {
                0x10, 0x41, 0x03, '\\', '_', 'S', 'B', '_',
                0x5b, 0x82, 0x48, 0x02, 'D', 'E', 'V', '0',
                0x08, '_', 'U', 'I', 'D', 0x0c, 0x78, 0x56, 0x34, 0x12,
                0x08, '_', 'C', 'R', 'S',
                0x11, 0x42, 0x01, 0x0b, 0x0d, 0x00,
                0x47, 0x01, 0x70, 0x00, 0x70, 0x00, 0x01, 0x02, 0x22, 0x00, 0x01, 0x79, 0x00,
                0x0b, 0x34, 0x12, 0x0a, 0xff, 0x01,
        };
        uint8_t buf[sizeof(want)];
        struct aml a;

        aml_init(&a, buf, sizeof(buf));
        aml_scope(&a, "_SB_");
        aml_device(&a, "DEV0");
        aml_name(&a, "_UID");
        aml_int(&a, 0x12345678);
        aml_name(&a, "_CRS");
        aml_resources(&a);
        aml_res_io(&a, 0x70, 2);
        aml_res_irq(&a, 8);
        aml_end(&a);
        aml_end(&a);
        aml_end(&a);
        aml_int(&a, 0x1234);
        aml_int(&a, 0xff);
        aml_int(&a, 1);
        CU_ASSERT_EQUAL(a.bytes, sizeof(want));
        CU_ASSERT_EQUAL(memcmp(buf, want, sizeof(want)), 0);
}

static const CU_TestInfo cases[] = {
        { "the RSDP leads to all tables, sums are right", rsdp_leads_to_all },
        { "the FADT names the hardware", fadt_names_the_hardware },
        { "the MADT lists every vCPU", madt_lists_every_cpu },
        { "the DSDT has serial port, clock and _S5", dsdt_has_serial_clock_and_s5 },
        { "AML as by hand", aml_by_hand },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("acpi", cases);
}
