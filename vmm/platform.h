/* SPDX-License-Identifier: Apache-2.0 */
/* platform.h - the emulated devices of one guest behind its port and memory bus.
 *
 * 16550 serial (COM1), ACPI power management (PM1, PM timer, reset register),
 * i8042 reset, RTC/CMOS; everything else reads all ones. And the generation id,
 * which is behind no bus.
 * Threads: platform_io/platform_mmio from any vCPU thread, platform_input and
 *          the others from the event loop; one lock inside (machine->lock of
 *          lock.h). The callbacks of platform_ops come from vCPU threads without
 *          that lock and must not block.
 */
#ifndef VMM_PLATFORM_H
#define VMM_PLATFORM_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "vmm/acpi-pm.h"
#include "vmm/kvm.h"
#include "vmm/rtc.h"
#include "vmm/uart.h"
#include "vmm/vmgenid.h"

enum platform_request {
        PLATFORM_POWER_OFF,             /* ACPI S5 */
        PLATFORM_RESET,                 /* reset register or i8042 */
};

struct platform_ops {
        /* bytes the guest wrote to COM1 */
        void (*console_out)(void *ctx, const uint8_t *data, size_t bytes);
        void (*request)(void *ctx, enum platform_request what);
        /* platform_input() took less than it was given, and there is room now; may be NULL */
        void (*input_room)(void *ctx);
        void *ctx;
};

struct platform;
struct virtio_bus;

int platform_new(struct kvm *kvm, const struct platform_ops *ops, struct platform **ret,
                 struct err *e);
void platform_free(struct platform *p);
/* Memory-mapped devices, before the vCPUs run; bus outlives them. Without: none. */
void platform_set_bus(struct platform *p, struct virtio_bus *bus);

/* KVM_EXIT_IO and KVM_EXIT_MMIO, whole (count and size as in kvm_run). */
void platform_io(struct platform *p, struct kvm_run *run);
void platform_mmio(struct platform *p, struct kvm_run *run);

/* Console input for the guest; returns how many bytes were taken (its buffer
 * is bounded); the rest is offered again after input_room is called back. */
size_t platform_input(struct platform *p, const uint8_t *data, size_t bytes);
/* The ACPI power button. */
void platform_power_button(struct platform *p);

/* All devices at one moment. Plain: the caller's, nothing to free. */
struct platform_state {
        struct uart com1;
        struct acpi_pm pm;
        struct rtc rtc;
        bool has_vmgenid;
        struct vmgenid vmgenid;
        uint64_t taken_ns;              /* clock_now_ns() */
};
/* The moment is that of a pause when the vCPUs are parked; allocates nothing. */
void platform_capture(struct platform *p, struct platform_state *ret);
/* One JSON object with a versioned object per device. */
int platform_encode(const struct platform_state *s, struct json_object **ret, struct err *e);
/* Both in one. vCPUs are parked. */
int platform_save(struct platform *p, struct json_object **ret, struct err *e);
int platform_load(struct platform *p, struct json_object *devices, struct err *e);
/* 0 when platform_load() would succeed. */
int platform_check(struct json_object *devices, struct err *e);
/* After load and after the irqchips are set: interrupt lines follow the devices' state. */
void platform_replay_lines(struct platform *p);

/* Gives the guest its first generation id. */
int platform_add_vmgenid(struct platform *p, const struct ram *ram, struct err *e);
/* A guest that has one gets another and is told by interrupt: its state is loaded, the
 * irqchips included, and no vCPU runs before. May wait for a page of its memory. */
int platform_renew_vmgenid(struct platform *p, const struct ram *ram, struct err *e);
/* false: the guest has none. */
bool platform_vmgenid(struct platform *p, struct vmgenid *ret);

#endif
