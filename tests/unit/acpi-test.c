/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a walker that knows nothing of acpi.c finds every table from the RSDP,
 *   sums right and with what the machine has; AML is formed by the letter.
 * Method: parse the bytes by the offsets of the ACPI specification; compare AML
 *   with bytes written by hand. With `--dsdt FILE` the fullest DSDT is written
 *   for tests/flow/dsdt.sh. */
#include "vmm/acpi.h"

#include <stdio.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"
#include "tests/unit/suite.h"
#include "vmm/acpi-pm.h"
#include "vmm/aml.h"
#include "vmm/kvm.h"
#include "vmm/virtio/slots.h"

#define AREA_GPA 0xe0000u

static uint8_t area[ACPI_AREA_BYTES];

static void build(unsigned cpus, unsigned virtio_slots, bool vmgenid)
{
        const struct acpi_machine m = { cpus, virtio_slots, vmgenid };

        acpi_build(area, AREA_GPA, &m);
}

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
        build(2, 0, false);
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
        build(1, 0, false);

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
                build(cpus, 0, false);

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

static const uint8_t *dsdt(uint32_t *ret_bytes)
{
        const uint8_t *table = at(get_le64(find("FACP") + 140));

        *ret_bytes = get_le32(table + 4);
        return table;
}

static bool dsdt_has(const void *bytes, size_t n)
{
        uint32_t all;
        const uint8_t *table = dsdt(&all);

        return memmem(table, all, bytes, n);
}

static void dsdt_has_serial_clock_and_s5(void)
{
        /* PNP0501 and PNP0B00 as EISA ids, port ranges, SLP_TYP 5 */
        static const uint8_t com1[] = { 0x0c, 0x41, 0xd0, 0x05, 0x01 };
        static const uint8_t rtc[] = { 0x0c, 0x41, 0xd0, 0x0b, 0x00 };
        static const uint8_t com1_io[] = { 0x47, 1, 0xf8, 3, 0xf8, 3, 1, 8, 0x22, 0x10, 0 };
        static const uint8_t s5[] = { 8, '_', 'S', '5', '_', 0x12, 0x49, 0, 4, 10, 5, 10, 5, 0, 0 };

        build(1, 0, false);
        CU_ASSERT(dsdt_has(com1, sizeof(com1)));
        CU_ASSERT(dsdt_has(com1_io, sizeof(com1_io)));
        CU_ASSERT(dsdt_has(rtc, sizeof(rtc)));
        CU_ASSERT(dsdt_has(s5, sizeof(s5)));
}

/* FNV-1a */
static uint32_t hash(const uint8_t *p, size_t bytes)
{
        uint32_t h = 2166136261u;

        while (bytes--)
                h = (h ^ *p++) * 16777619;
        return h;
}

/* The hash is that of 0.1.0, which knew no such devices: a machine without them
 * is the same one in every version. */
static void bare_tables_never_change(void)
{
        build(2, 0, false);
        CU_ASSERT_EQUAL(hash(area, sizeof(area)), 0x2b851c2au);
}

/* As iasl takes it apart, byte for byte (ACPI 6.4, 20.2 and 6.4.3) */
static void dsdt_has_virtio_devices(void)
{
        static const uint8_t first[] = {
                0x5b, 0x82, 0x4a, 0x04, 'V', 'M', '0', '0',
                8, '_', 'H', 'I', 'D', 0x0d, 'L', 'N', 'R', 'O', '0', '0', '0', '5', 0,
                8, '_', 'U', 'I', 'D', 0, 8, '_', 'C', 'C', 'A', 1,
                8, '_', 'S', 'T', 'A', 0x0a, 0x0f,
                8, '_', 'C', 'R', 'S', 0x11, 0x4c, 0x01, 0x0b, 0x17, 0,
                0x86, 9, 0, 1, 0, 0, 0, 0xd0, 0, 0x10, 0, 0,
                0x89, 6, 0, 3, 1, 16, 0, 0, 0, 0x79, 0,
        };
        uint32_t bare_bytes, bytes;

        build(1, 0, false);
        dsdt(&bare_bytes);
        build(1, 1, false);
        dsdt(&bytes);
        CU_ASSERT_EQUAL(bytes, bare_bytes + sizeof(first));
        CU_ASSERT(dsdt_has(first, sizeof(first)));

        build(1, VIRTIO_SLOTS_MAX, false);
        for (unsigned i = 0; i < VIRTIO_SLOTS_MAX; i++) {
                char name[5];
                uint8_t crs[] = {
                        0x86, 9, 0, 1, 0, (uint8_t)(i << 4), 0, 0xd0, 0, 0x10, 0, 0,
                        0x89, 6, 0, 3, 1, (uint8_t)virtio_gsi(i), 0, 0, 0,
                };

                snprintf(name, sizeof(name), "VM%02u", i);
                CU_ASSERT(dsdt_has(name, 4));
                CU_ASSERT(dsdt_has(crs, sizeof(crs)));
        }
        CU_ASSERT_FALSE(dsdt_has("ACPI0013", 8));
}

static void dsdt_has_generation_id(void)
{
        static const uint8_t vgen[] = {
                0x5b, 0x82, 0x4e, 0x04, 'V', 'G', 'E', 'N',
                8, '_', 'H', 'I', 'D', 0x0d, 'V', 'M', 'G', 'E', 'N', 'C', 'T', 'R', 0,
                8, '_', 'C', 'I', 'D',
                0x0d, 'V', 'M', '_', 'G', 'e', 'n', '_', 'C', 'o', 'u', 'n', 't', 'e', 'r', 0,
                8, '_', 'D', 'D', 'N',
                0x0d, 'V', 'M', '_', 'G', 'e', 'n', '_', 'C', 'o', 'u', 'n', 't', 'e', 'r', 0,
                8, 'A', 'D', 'D', 'R', 0x12, 0x49, 0, 2, 0x0c, 0, 0xf0, 9, 0, 0,
        };
        static const uint8_t interrupt[] = { 0x89, 6, 0, 3, 1, 23, 0, 0, 0, 0x79, 0 };
        static const uint8_t event[] = {
                0x14, 0x4b, 0x01, '_', 'E', 'V', 'T', 9,
                0xa0, 0x43, 0x01, 0x93, 0x68, 0x0a, 23,
                0x86, '\\', 0x2e, '_', 'S', 'B', '_', 'V', 'G', 'E', 'N', 0x0a, 0x80,
        };

        build(1, 2, true);
        CU_ASSERT(dsdt_has(vgen, sizeof(vgen)));
        CU_ASSERT(dsdt_has("ACPI0013", 8));
        CU_ASSERT(dsdt_has(interrupt, sizeof(interrupt)));
        CU_ASSERT(dsdt_has(event, sizeof(event)));
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
        { "tables of a bare machine never change", bare_tables_never_change },
        { "the DSDT has every virtio device", dsdt_has_virtio_devices },
        { "the DSDT has the generation id and its event", dsdt_has_generation_id },
        { "AML as by hand", aml_by_hand },
        CU_TEST_INFO_NULL,
};

static int write_dsdt(const char *path)
{
        uint32_t bytes;
        FILE *f = fopen(path, "w");

        build(VCPUS_MAX, VIRTIO_SLOTS_MAX, true);

        const uint8_t *table = dsdt(&bytes);
        bool well = f && fwrite(table, 1, bytes, f) == bytes;

        return (f && fclose(f) != 0) || !well;
}

int main(int argc, char **argv)
{
        if (argc == 3 && strcmp(argv[1], "--dsdt") == 0)
                return write_dsdt(argv[2]);
        return suite_main("acpi", cases);
}
