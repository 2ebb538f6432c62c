/* SPDX-License-Identifier: Apache-2.0 */
/* bus.h - the virtio devices of one VM: their windows in guest-physical memory, their
 * interrupts, their threads; how they stand still and how their state travels.
 *
 * virtio-mmio, version 2 (virtio 1.2, 4.2), found by guests through ACPI. Device n has the
 * window VIRTIO_WINDOW_GPA + n * VIRTIO_WINDOW_BYTES and GSI virtio_gsi(n), edge-triggered:
 * an irqfd for interrupts, an ioeventfd for each queue's kicks, made when the driver sets the
 * device up.
 *
 * Threads: virtio_bus_mmio() from any vCPU's thread, the others from whoever changes the VM,
 *          one at a time; the vCPUs are parked or have not started where that is said.
 */
#ifndef VMM_VIRTIO_BUS_H
#define VMM_VIRTIO_BUS_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "vmm/kvm.h"
#include "vmm/ram.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/slots.h"

struct starter;
struct virtio_bus;

struct virtio_bus_ops {
        /* From a device's or vCPU's thread: device `name` is broken until its driver resets
         * it. May be NULL. Must not block. */
        void (*broken)(void *ctx, const char *name, const char *why);
        void *ctx;
        struct starter *starter;        /* of the devices' threads; may be NULL */
};

/* ram is mapped when the first device starts, not before. */
int virtio_bus_new(struct kvm *kvm, const struct ram *ram, const struct virtio_bus_ops *ops,
                   struct virtio_bus **ret, struct err *e);
/* dev is the bus's from here on, also on failure. Before the guest runs. */
int virtio_bus_add(struct virtio_bus *bus, struct virtio_device *dev, struct err *e);
/* The device at slot n; NULL = no such. */
struct virtio_device *virtio_bus_device(struct virtio_bus *bus, unsigned n);
/* vCPUs are stopped. */
void virtio_bus_free(struct virtio_bus *bus);

/* KVM_EXIT_MMIO at gpa; false: no device's window. */
bool virtio_bus_mmio(struct virtio_bus *bus, uint64_t gpa, void *data, unsigned bytes,
                     bool write);

/* Devices begin held: they run from the first virtio_bus_release() on.
 * Standing still: no request in flight, guest memory untouched, no interrupt raised.
 * Callers park the vCPUs first or at the same time. */
void virtio_bus_hold(struct virtio_bus *bus);
/* Held, or -ETIMEDOUT at the deadline (clock_now_ns) with a sentence that names the devices
 * that wait; the request stands until release. */
int virtio_bus_wait_held(struct virtio_bus *bus, uint64_t deadline_ns, struct err *e);
void virtio_bus_release(struct virtio_bus *bus);

/* All devices at one moment, while held (or as a first touch of the memory). Allocated
 * before, so that capture allocates nothing. */
struct virtio_bus_state;
int virtio_bus_state_new(const struct virtio_bus *bus, struct virtio_bus_state **ret,
                         struct err *e);
void virtio_bus_capture(struct virtio_bus *bus, struct virtio_bus_state *state);
int virtio_bus_encode(const struct virtio_bus_state *state, struct json_object **ret,
                      struct err *e);
/* Checks all of it, against what devices this bus has; NULL document = none were saved. */
int virtio_bus_decode(const struct virtio_bus *bus, struct json_object *devices,
                      struct virtio_bus_state **ret, struct err *e);
/* Held, vCPUs parked, RAM is what belongs to the state. Devices that ran before (rollback)
 * or not (revert) go on from there at release: every ready queue is kicked and every
 * device interrupts once, because neither kicks nor interrupts are state. */
int virtio_bus_apply(struct virtio_bus *bus, const struct virtio_bus_state *state,
                     struct err *e);
void virtio_bus_state_free(struct virtio_bus_state *state);

/* What `vmm info` shows: an array, an object a device. */
struct json_object *virtio_bus_describe(struct virtio_bus *bus);

#endif
