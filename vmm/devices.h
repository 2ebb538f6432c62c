/* SPDX-License-Identifier: Apache-2.0 */
/* devices.h - all devices of a machine as one: those of the platform, and those on the
 * virtio bus, which are made here from the machine's configuration.
 *
 * Section DEVICES: the platform's object (platform.h) with an array "virtio" (bus.h), which
 * is left out when there are none.
 * Threads: as bus.h; the vCPUs are parked and the bus is held during capture and apply.
 */
#ifndef VMM_DEVICES_H
#define VMM_DEVICES_H

#include <json-c/json.h>

#include "common/err.h"
#include "vmm/disk-files.h"
#include "vmm/giveback.h"
#include "vmm/machine-config.h"
#include "vmm/platform.h"
#include "vmm/virtio/bus.h"

struct devices {
        struct platform *platform;
        struct virtio_bus *bus;         /* NULL = none */
};

/* What they are made for; all of it outlives the bus. */
struct devices_host {
        struct kvm *kvm;
        const struct ram *ram;
        struct giveback *giveback;      /* of a balloon; else NULL */
        const struct disk_files *disk_files;    /* only while the bus is made; NULL = none */
};

/* The virtio devices of c, in its order, on a new bus. NULL when c has none. */
int devices_make_bus(const struct machine_config *c, const struct devices_host *host,
                     const struct virtio_bus_ops *ops, struct virtio_bus **ret, struct err *e);
/* The first of that kind (virtio_class); NULL = there is none. */
struct virtio_device *devices_find(struct virtio_bus *bus, const char *kind);

/* Made before, so that capture allocates nothing and touches nothing for the first time. */
struct devices_state;
int devices_state_new(const struct devices *d, struct devices_state **ret, struct err *e);
void devices_capture(const struct devices *d, struct devices_state *state);
int devices_encode(const struct devices_state *state, struct json_object **ret, struct err *e);
/* Untrusted: all of it is checked here. Keeps a reference to doc. */
int devices_decode(const struct devices *d, struct json_object *doc, struct devices_state **ret,
                   struct err *e);
/* A state that was decoded. RAM and the irqchips are in place. */
int devices_apply(const struct devices *d, const struct devices_state *state, struct err *e);
void devices_state_free(struct devices_state *state);

#endif
