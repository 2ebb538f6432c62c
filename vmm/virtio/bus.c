/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/bus.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/json.h"
#include "vmm/virtio/slot-priv.h"

int virtio_bus_new(struct kvm *kvm, const struct ram *ram, const struct virtio_bus_ops *ops,
                   struct virtio_bus **ret, struct err *e) NO_TSA
{
        struct virtio_bus *bus = calloc(1, sizeof(*bus));

        if (!bus)
                return err_msg(e, ENOMEM, "no memory for the virtio devices");
        bus->kvm = kvm;
        bus->ram = ram;
        if (ops)
                bus->ops = *ops;
        bus->held = true;
        lock_init(&bus->lock);
        cond_init(&bus->changed);
        *ret = bus;
        return 0;
}

int virtio_bus_add(struct virtio_bus *bus, struct virtio_device *dev, struct err *e)
{
        int rc;

        if (bus->nslots == VIRTIO_SLOTS_MAX)
                rc = err_msg(e, ENOSPC, "a VM has at most %d devices: %s is one too many",
                             VIRTIO_SLOTS_MAX, dev->name);
        else
                rc = slot_new(bus, bus->nslots, dev, &bus->slot[bus->nslots], e);
        if (rc < 0)
                dev->class->free(dev);
        else
                bus->nslots++;
        return rc;
}

struct virtio_device *virtio_bus_device(struct virtio_bus *bus, unsigned n)
{
        return n < bus->nslots ? bus->slot[n]->dev : NULL;
}

void virtio_bus_free(struct virtio_bus *bus)
{
        if (!bus)
                return;
        for (unsigned i = 0; i < bus->nslots; i++) {
                struct virtio_device *dev = bus->slot[i]->dev;

                slot_free(bus->slot[i]);
                dev->slot = NULL;
                dev->class->free(dev);
        }
        cond_fini(&bus->changed);
        lock_fini(&bus->lock);
        free(bus);
}

bool virtio_bus_mmio(struct virtio_bus *bus, uint64_t gpa, void *data, unsigned bytes, bool write)
{
        uint64_t offset = gpa - VIRTIO_WINDOW_GPA;
        uint64_t slot = offset / VIRTIO_WINDOW_BYTES;

        if (gpa < VIRTIO_WINDOW_GPA || slot >= bus->nslots)
                return false;
        offset %= VIRTIO_WINDOW_BYTES;
        if (write)
                slot_write(bus->slot[slot], (uint32_t)offset, data, bytes);
        else
                slot_read(bus->slot[slot], (uint32_t)offset, data, bytes);
        return true;
}

/* ---- standing still ---------------------------------------------------------- */

static void set_held(struct virtio_bus *bus, bool held)
{
        lock_acquire(&bus->lock);
        bus->held = held;
        lock_release(&bus->lock);
        /* never waits for a driver: one that resets its device may itself wait for what comes
         * after a release */
        for (unsigned i = 0; i < bus->nslots; i++)
                slot_ring(bus->slot[i]);
}

void virtio_bus_hold(struct virtio_bus *bus)
{
        set_held(bus, true);
}

void virtio_bus_release(struct virtio_bus *bus)
{
        set_held(bus, false);
}

static const struct virtio_slot *running_locked(const struct virtio_bus *bus) REQUIRES(bus->lock)
{
        for (unsigned i = 0; i < bus->nslots; i++) {
                if (bus->slot[i]->running)
                        return bus->slot[i];
        }
        return NULL;
}

static int wait_held_locked(struct virtio_bus *bus, uint64_t deadline_ns, struct err *e)
        REQUIRES(bus->lock)
{
        const struct virtio_slot *s;

        while (bus->held && (s = running_locked(bus))) {
                if (!cond_wait_until(&bus->changed, &bus->lock, deadline_ns))
                        return err_msg(e, ETIMEDOUT, "device %s is waiting for its host side, or "
                                       "for memory, and cannot stand still", s->dev->name);
        }
        return 0;
}

int virtio_bus_wait_held(struct virtio_bus *bus, uint64_t deadline_ns, struct err *e)
{
        lock_acquire(&bus->lock);
        int rc = wait_held_locked(bus, deadline_ns, e);
        lock_release(&bus->lock);
        return rc;
}

/* ---- for people -------------------------------------------------------------- */

/* Without the bus's lock, which comes behind those of devices. */
static void add_counters(const struct virtio_bus *bus, struct json_object *all)
{
        for (unsigned i = 0; i < bus->nslots; i++) {
                struct virtio_device *dev = bus->slot[i]->dev;
                struct json_object *counters;

                if (!dev->class->describe)
                        continue;
                counters = json_object_new_object();
                dev->class->describe(dev, counters);
                json_object_object_add(json_object_array_get_idx(all, i), "counters", counters);
        }
}

struct json_object *virtio_bus_describe(struct virtio_bus *bus)
{
        struct json_object *all = json_object_new_array();

        lock_acquire(&bus->lock);
        for (unsigned i = 0; i < bus->nslots; i++) {
                const struct virtio_slot *s = bus->slot[i];
                struct json_object *o = json_object_new_object();

                json_put_str(o, "name", s->dev->name);
                json_put_str(o, "kind", s->dev->class->kind);
                json_put_bool(o, "in_use", s->live);
                if (s->broken)
                        json_put_str(o, "problem", s->why);
                json_object_array_add(all, o);
        }
        lock_release(&bus->lock);
        add_counters(bus, all);
        return all;
}
