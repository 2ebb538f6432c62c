/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dsdt.h"

#include <stdio.h>

#include "common/check.h"
#include "vmm/acpi-pm.h"
#include "vmm/acpi.h"
#include "vmm/aml.h"
#include "vmm/virtio/slots.h"
#include "vmm/vmgenid.h"

/* Theory of operation
 *
 * Everything lies in \_SB, one node each. A guest hears of a new generation id
 * by Notify() to the device that has it. On a machine that is not
 * hardware-reduced this could come by a GPE; the generic event device (GED)
 * needs no register block of its own, only an interrupt: Linux calls its _EVT
 * with the GSI, and _EVT says who is meant.
 */

#define STA_PRESENT 0xf                 /* present, enabled, shown, working */
#define NOTIFY_CHANGED 0x80

static void put_int(struct aml *a, const char *name, uint32_t v)
{
        aml_name(a, name);
        aml_int(a, v);
}

static void put_string(struct aml *a, const char *name, const char *text)
{
        aml_name(a, name);
        aml_string(a, text);
}

static void put_com1(struct aml *a)
{
        aml_device(a, "COM1");
        aml_name(a, "_HID");
        aml_eisaid(a, "PNP0501");
        put_int(a, "_UID", 0);
        put_int(a, "_STA", STA_PRESENT);
        aml_name(a, "_CRS");
        aml_resources(a);
        aml_res_io(a, 0x3f8, 8);
        aml_res_irq(a, 4);
        aml_end(a);
        aml_end(a);
}

static void put_rtc(struct aml *a)
{
        aml_device(a, "RTC_");
        aml_name(a, "_HID");
        aml_eisaid(a, "PNP0B00");
        aml_name(a, "_CRS");
        aml_resources(a);
        aml_res_io(a, 0x70, 2);
        aml_res_irq(a, 8);
        aml_end(a);
        aml_end(a);
}

/* _CCA: its DMA is coherent */
static void put_virtio(struct aml *a, unsigned slot)
{
        char name[5];

        snprintf(name, sizeof(name), "VM%02u", slot % 100);
        aml_device(a, name);
        put_string(a, "_HID", "LNRO0005");
        put_int(a, "_UID", slot);
        put_int(a, "_CCA", 1);
        put_int(a, "_STA", STA_PRESENT);
        aml_name(a, "_CRS");
        aml_resources(a);
        aml_res_memory(a, (uint32_t)virtio_window_gpa(slot), VIRTIO_WINDOW_BYTES);
        aml_res_gsi(a, virtio_gsi(slot));
        aml_end(a);
        aml_end(a);
}

/* _HID: kernels before 6.10 look at nothing else. _CID: the name in Microsoft's
 * specification. ADDR: low and high half of where the id lies. */
static void put_vmgenid(struct aml *a)
{
        aml_device(a, "VGEN");
        put_string(a, "_HID", "VMGENCTR");
        put_string(a, "_CID", "VM_Gen_Counter");
        put_string(a, "_DDN", "VM_Gen_Counter");
        aml_name(a, "ADDR");
        aml_package(a, 2);
        aml_int(a, VMGENID_GPA);
        aml_int(a, 0);
        aml_end(a);
        aml_end(a);
}

static void put_ged(struct aml *a)
{
        aml_device(a, "GED_");
        put_string(a, "_HID", "ACPI0013");
        put_int(a, "_UID", 0);
        aml_name(a, "_CRS");
        aml_resources(a);
        aml_res_gsi(a, VMGENID_GSI);
        aml_end(a);
        aml_method(a, "_EVT", 1);
        aml_if_arg0(a, VMGENID_GSI);
        aml_notify(a, "_SB_", "VGEN", NOTIFY_CHANGED);
        aml_end(a);
        aml_end(a);
        aml_end(a);
}

/* what to write as SLP_TYP to switch off */
static void put_s5(struct aml *a)
{
        aml_name(a, "_S5_");
        aml_package(a, 4);
        aml_int(a, ACPI_SLP_TYP_S5);
        aml_int(a, ACPI_SLP_TYP_S5);
        aml_int(a, 0);
        aml_int(a, 0);
        aml_end(a);
}

size_t dsdt_put(const struct acpi_machine *m, void *body, size_t room)
{
        struct aml a;

        ASSERT(m->virtio_slots <= VIRTIO_SLOTS_MAX);
        aml_init(&a, body, room);
        aml_scope(&a, "_SB_");
        put_com1(&a);
        put_rtc(&a);
        for (unsigned slot = 0; slot < m->virtio_slots; slot++)
                put_virtio(&a, slot);
        if (m->vmgenid) {
                put_vmgenid(&a);
                put_ged(&a);
        }
        aml_end(&a);
        put_s5(&a);
        ASSERT(a.depth == 0);
        return a.bytes;
}
