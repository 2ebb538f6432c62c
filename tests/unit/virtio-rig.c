/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/virtio-rig.h"

#include <string.h>

#include "common/check.h"

#define RING_BYTES 0x10000ull

static struct virtio_rig *the_rig;

static struct virtio_rig *rig_of(const struct virtio_device *dev)
{
        ASSERT(the_rig && the_rig->dev == dev);
        return the_rig;
}

void virtio_signal(struct virtio_device *dev, unsigned queue)
{
        rig_of(dev)->signals[queue]++;
}

void virtio_device_broken(struct virtio_device *dev, const struct err *why)
{
        strcpy(rig_of(dev)->broken, why->text);
}

void virtio_config_set(struct virtio_device *dev, unsigned offset, const void *data,
                       unsigned bytes)
{
        lock_acquire(&dev->lock);
        memcpy(dev->config + offset, data, bytes);
        lock_release(&dev->lock);
}

void virtio_rig_renew(struct virtio_rig *rig)
{
        struct virtio_device *dev = rig->dev;

        for (unsigned i = 0; i < dev->class->nqueues; i++)
                vqguest_init(&rig->guest[i], &rig->ram, (i + 1) * RING_BYTES,
                             dev->class->queue_size, &dev->queue[i]);
        rig->broken[0] = '\0';
}

void virtio_rig_start(struct virtio_rig *rig, struct virtio_device *dev)
{
        struct err e;

        if (!rig->ram.bytes) {
                ASSERT(ram_init(&rig->ram, RAM_BYTES_MIN, &e) == 0);
                ASSERT(ram_map_anonymous(&rig->ram, false, RAM_SMALL, &e) == 0);
        }
        the_rig = rig;
        rig->dev = dev;
        dev->ram = &rig->ram;
        dev->features = dev->host_features;
        virtio_rig_renew(rig);
        ASSERT(dev->class->start(dev, &e) == 0);
}

void virtio_rig_end(struct virtio_rig *rig)
{
        struct virtio_device *dev = rig->dev;

        dev->class->drain(dev);
        dev->class->stop(dev);
        dev->class->free(dev);
        ram_unmap(&rig->ram);
        the_rig = NULL;
}

int64_t virtio_rig_ask(struct virtio_rig *rig, unsigned queue, const struct vqguest_buf *bufs,
                       unsigned n)
{
        struct virtio_device *dev = rig->dev;
        uint16_t asked = vqguest_add(&rig->guest[queue], bufs, n);
        uint16_t head;
        uint32_t written;

        dev->class->kick(dev, queue);
        if (!vqguest_used(&rig->guest[queue], &head, &written))
                return -1;
        ASSERT(head == asked);
        return written;
}

void virtio_rig_put(struct virtio_rig *rig, uint64_t gpa, const void *data, size_t bytes)
{
        memcpy(ram_at(&rig->ram, gpa, bytes), data, bytes);
}
