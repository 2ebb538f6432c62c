/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-rig.h - one virtio device without a bus: RAM, a ring per queue, and what the device
 * tells its transport, for tests of device classes.
 *
 * Threads: one.
 */
#ifndef TESTS_UNIT_VIRTIO_RIG_H
#define TESTS_UNIT_VIRTIO_RIG_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/unit/vqguest.h"
#include "vmm/virtio/device.h"

/* The rings lie at the start of RAM, from here on it is the test's. */
#define RIG_FREE_GPA 0x200000ull

struct virtio_rig {
        struct ram ram;
        struct virtio_device *dev;
        struct vqguest guest[VIRTIO_QUEUES_MAX];
        unsigned signals[VIRTIO_QUEUES_MAX];
        char broken[ERR_TEXT_MAX];      /* "" = it is not */
};

/* RAM is mapped already or, where rig->ram.bytes is 0, made here. Starts dev, whose features
 * are those that it offers. One rig at a time: device.h knows no context. */
void virtio_rig_start(struct virtio_rig *rig, struct virtio_device *dev);
/* Stops and frees dev; RAM too. */
void virtio_rig_end(struct virtio_rig *rig);
/* Empty rings, whatever became of them. */
void virtio_rig_renew(struct virtio_rig *rig);
/* A request of n pieces and a kick; how many bytes the device wrote, or -1: no answer. */
int64_t virtio_rig_ask(struct virtio_rig *rig, unsigned queue, const struct vqguest_buf *bufs,
                       unsigned n);
void virtio_rig_put(struct virtio_rig *rig, uint64_t gpa, const void *data, size_t bytes);

#endif
