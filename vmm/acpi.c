/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/acpi.h"

#include <assert.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"
#include "vmm/acpi-pm.h"
#include "vmm/dsdt.h"
#include "vmm/rtc.h"

/* Theory of operation
 *
 * Tables are laid one behind the other: what is pointed to comes first, so
 * every pointer is known when it is written; only the RSDP, which must lie at
 * the start, is filled last. Layouts are packed structs of little-endian bytes
 * (this is x86) and pinned below.
 */

#define PACKED __attribute__((packed))

struct header {
        char signature[4];
        uint32_t length;
        uint8_t revision, checksum;
        char oem_id[6], oem_table_id[8];
        uint32_t oem_revision;
        char creator_id[4];
        uint32_t creator_revision;
} PACKED;

struct rsdp {
        char signature[8];
        uint8_t checksum;
        char oem_id[6];
        uint8_t revision;
        uint32_t rsdt_gpa, length;
        uint64_t xsdt_gpa;
        uint8_t extended_checksum, reserved[3];
} PACKED;

/* generic address structure */
struct gas {
        uint8_t space, width_bits, offset_bits, access;
        uint64_t address;
} PACKED;

struct fadt {
        struct header header;
        uint32_t facs_gpa, dsdt_gpa;
        uint8_t reserved0, profile;
        uint16_t sci_int;
        uint32_t smi_cmd;
        uint8_t acpi_enable, acpi_disable, s4bios_req, pstate_cnt;
        uint32_t pm1a_evt, pm1b_evt, pm1a_cnt, pm1b_cnt, pm2_cnt, pm_tmr, gpe0, gpe1;
        uint8_t pm1_evt_len, pm1_cnt_len, pm2_cnt_len, pm_tmr_len;
        uint8_t gpe0_len, gpe1_len, gpe1_base, cst_cnt;
        uint16_t c2_latency, c3_latency, flush_size, flush_stride;
        uint8_t duty_offset, duty_width, day_alarm, month_alarm, century;
        uint16_t iapc_boot_arch;
        uint8_t reserved1;
        uint32_t flags;
        struct gas reset_reg;
        uint8_t reset_value;
        uint16_t arm_boot_arch;
        uint8_t minor;
        uint64_t x_facs_gpa, x_dsdt_gpa;
        struct gas x_pm1a_evt, x_pm1b_evt, x_pm1a_cnt, x_pm1b_cnt, x_pm2_cnt, x_pm_tmr;
        struct gas x_gpe0, x_gpe1, sleep_control, sleep_status;
        char hypervisor_id[8];
} PACKED;

struct facs {
        char signature[4];
        uint32_t length, hardware_signature, waking_vector, global_lock, flags;
        uint64_t x_waking_vector;
        uint8_t version, reserved[31];
} PACKED;

struct madt {
        struct header header;
        uint32_t lapic_gpa, flags;
} PACKED;

static_assert(sizeof(struct header) == 36, "ACPI 5.2.6");
static_assert(sizeof(struct rsdp) == 36, "ACPI 5.2.5");
static_assert(sizeof(struct facs) == 64, "ACPI 5.2.10");
static_assert(sizeof(struct fadt) == 276, "ACPI 5.2.9");
static_assert(offsetof(struct fadt, pm_tmr) == 76, "ACPI 5.2.9");
static_assert(offsetof(struct fadt, flags) == 112, "ACPI 5.2.9");
static_assert(offsetof(struct fadt, reset_value) == 128, "ACPI 5.2.9");
static_assert(offsetof(struct fadt, x_pm1a_evt) == 148, "ACPI 5.2.9");
static_assert(offsetof(struct fadt, x_pm_tmr) == 208, "ACPI 5.2.9");

#define OEM_ID "SNAPBK"
#define OEM_TABLE_ID "SNAPVM  "
#define CREATOR_ID "SNAP"

#define GAS_IO 1

#define FADT_WBINVD (1u << 0)
#define FADT_PROC_C1 (1u << 2)
#define FADT_NO_SLEEP_BUTTON (1u << 5)
#define FADT_RESET_REG (1u << 10)
#define FADT_NO_C2_C3 0xfff
#define BOOT_ARCH_LEGACY (1u << 0)
#define BOOT_ARCH_NO_VGA (1u << 2)      /* and no 8042 (bit 1): Linux then skips its probe */

#define LAPIC_GPA 0xfee00000u
#define IOAPIC_GPA 0xfec00000u
#define MADT_PCAT_COMPAT 1              /* there are 8259s */
#define MADT_CPU_BYTES 8

/* ---- laying out ---------------------------------------------------------- */

struct area {
        uint8_t *data;
        uint64_t gpa;
        size_t used;
};

/* Where the next table starts */
static uint8_t *next(struct area *a, size_t align)
{
        a->used = ALIGN_UP(a->used, align);
        ASSERT(a->used < ACPI_AREA_BYTES);
        return a->data + a->used;
}

static uint64_t gpa_of(const struct area *a, const void *p)
{
        return a->gpa + (uint64_t)((const uint8_t *)p - a->data);
}

static uint8_t checksum(const void *table, size_t bytes)
{
        const uint8_t *p = table;
        uint8_t sum = 0;

        for (size_t i = 0; i < bytes; i++)
                sum = (uint8_t)(sum + p[i]);
        return (uint8_t)-sum;
}

/* The table's body is in place behind its header. Returns its address. */
static uint64_t finish(struct area *a, uint8_t *table, const char *signature, uint8_t revision,
                       size_t bytes)
{
        struct header h = { .length = (uint32_t)bytes, .revision = revision, .oem_revision = 1,
                            .creator_revision = 1 };

        ASSERT(bytes <= ACPI_AREA_BYTES - a->used);
        memcpy(h.signature, signature, sizeof(h.signature));
        memcpy(h.oem_id, OEM_ID, sizeof(h.oem_id));
        memcpy(h.oem_table_id, OEM_TABLE_ID, sizeof(h.oem_table_id));
        memcpy(h.creator_id, CREATOR_ID, sizeof(h.creator_id));
        memcpy(table, &h, sizeof(h));
        table[offsetof(struct header, checksum)] = checksum(table, bytes);
        a->used += bytes;
        return gpa_of(a, table);
}

static uint64_t put_dsdt(struct area *a, const struct acpi_machine *m)
{
        uint8_t *table = next(a, 16);
        size_t room = ACPI_AREA_BYTES - a->used - sizeof(struct header);
        size_t bytes = dsdt_put(m, table + sizeof(struct header), room);

        return finish(a, table, "DSDT", 2, sizeof(struct header) + bytes);
}

/* ---- the fixed tables ---------------------------------------------------- */

static uint64_t put_facs(struct area *a)
{
        uint8_t *table = next(a, 64);
        struct facs facs = { .length = sizeof(facs), .version = 2 };

        memcpy(facs.signature, "FACS", sizeof(facs.signature));
        memcpy(table, &facs, sizeof(facs));
        a->used += sizeof(facs);
        return gpa_of(a, table);
}

static struct gas io_register(uint16_t port, uint8_t bytes)
{
        /* access: 1 byte, 2 word, 3 dword */
        return (struct gas){ .space = GAS_IO, .width_bits = (uint8_t)(bytes * 8),
                             .access = bytes == 4 ? 3 : bytes, .address = port };
}

static uint64_t put_fadt(struct area *a, uint64_t facs_gpa, uint64_t dsdt_gpa)
{
        uint8_t *table = next(a, 16);
        struct fadt f = {
                /* Linux lists the FACS twice if x_facs_gpa is set too */
                .facs_gpa = (uint32_t)facs_gpa,
                .dsdt_gpa = (uint32_t)dsdt_gpa,
                .x_dsdt_gpa = dsdt_gpa,
                .sci_int = ACPI_SCI_GSI,
                .pm1a_evt = ACPI_PM1_EVENT_PORT,
                .pm1_evt_len = 4,
                .pm1a_cnt = ACPI_PM1_CONTROL_PORT,
                .pm1_cnt_len = 2,
                .pm_tmr = ACPI_PM_TIMER_PORT,
                .pm_tmr_len = 4,
                .c2_latency = FADT_NO_C2_C3,
                .c3_latency = FADT_NO_C2_C3,
                .century = RTC_CENTURY,
                .iapc_boot_arch = BOOT_ARCH_LEGACY | BOOT_ARCH_NO_VGA,
                .flags = FADT_WBINVD | FADT_PROC_C1 | FADT_NO_SLEEP_BUTTON | FADT_RESET_REG,
                .reset_reg = io_register(ACPI_RESET_PORT, 1),
                .reset_value = ACPI_RESET_VALUE,
                .minor = 5,
                .x_pm1a_evt = io_register(ACPI_PM1_EVENT_PORT, 4),
                .x_pm1a_cnt = io_register(ACPI_PM1_CONTROL_PORT, 2),
                .x_pm_tmr = io_register(ACPI_PM_TIMER_PORT, 4),
        };

        memcpy(f.hypervisor_id, OEM_TABLE_ID, sizeof(f.hypervisor_id));
        memcpy(table, &f, sizeof(f));
        return finish(a, table, "FACP", 6, sizeof(f));
}

static size_t append(uint8_t *table, size_t at, const void *entry, size_t bytes)
{
        memcpy(table + at, entry, bytes);
        return at + bytes;
}

static uint64_t put_madt(struct area *a, unsigned cpus)
{
        static const uint8_t ioapic[] = {
                1, 12, 0, 0,
                IOAPIC_GPA & 0xff, IOAPIC_GPA >> 8 & 0xff,
                IOAPIC_GPA >> 16 & 0xff, IOAPIC_GPA >> 24,
                0, 0, 0, 0,
        };
        /* the SCI: level, active high */
        static const uint8_t sci[] = { 2, 10, 0, ACPI_SCI_GSI, ACPI_SCI_GSI, 0, 0, 0, 0x0d, 0 };
        /* NMI at LINT1 of all */
        static const uint8_t nmi[] = { 4, 6, 0xff, 0, 0, 1 };
        uint8_t *table = next(a, 16);
        struct madt madt = { .lapic_gpa = LAPIC_GPA, .flags = MADT_PCAT_COMPAT };
        size_t bytes = sizeof(madt);

        memcpy(table, &madt, sizeof(madt));
        for (unsigned i = 0; i < cpus; i++) {
                uint8_t id = (uint8_t)i;
                const uint8_t cpu[MADT_CPU_BYTES] = { 0, MADT_CPU_BYTES, id, id, 1 };

                bytes = append(table, bytes, cpu, sizeof(cpu));
        }
        bytes = append(table, bytes, ioapic, sizeof(ioapic));
        bytes = append(table, bytes, sci, sizeof(sci));
        bytes = append(table, bytes, nmi, sizeof(nmi));
        return finish(a, table, "APIC", 5, bytes);
}

static uint64_t put_xsdt(struct area *a, const uint64_t *tables, size_t ntables)
{
        uint8_t *table = next(a, 16);

        for (size_t i = 0; i < ntables; i++)
                put_le64(table + sizeof(struct header) + i * 8, tables[i]);
        return finish(a, table, "XSDT", 1, sizeof(struct header) + ntables * 8);
}

static void put_rsdp(struct area *a, uint64_t xsdt_gpa)
{
        struct rsdp r = { .revision = 2, .length = sizeof(r), .xsdt_gpa = xsdt_gpa };

        memcpy(r.signature, "RSD PTR ", sizeof(r.signature));
        memcpy(r.oem_id, OEM_ID, sizeof(r.oem_id));
        r.checksum = checksum(&r, offsetof(struct rsdp, length));
        r.extended_checksum = checksum(&r, sizeof(r));
        memcpy(a->data, &r, sizeof(r));
}

void acpi_build(uint8_t area[ACPI_AREA_BYTES], uint64_t area_gpa, const struct acpi_machine *m)
{
        struct area a = { .data = area, .gpa = area_gpa, .used = sizeof(struct rsdp) };

        ASSERT(IS_ALIGNED(area_gpa, 64) && area_gpa + ACPI_AREA_BYTES <= UINT32_MAX);
        ASSERT(m->cpus >= 1 && m->cpus < 255);
        memset(area, 0, ACPI_AREA_BYTES);

        uint64_t dsdt_gpa = put_dsdt(&a, m);
        uint64_t facs_gpa = put_facs(&a);
        uint64_t fadt_gpa = put_fadt(&a, facs_gpa, dsdt_gpa);
        const uint64_t tables[] = { fadt_gpa, put_madt(&a, m->cpus) };

        put_rsdp(&a, put_xsdt(&a, tables, ARRAY_SIZE(tables)));
}
