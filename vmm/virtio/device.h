/* SPDX-License-Identifier: Apache-2.0 */
/* device.h - what a kind of virtio device is to the transport, and the transport to it.
 *
 * A device is made by its own constructor (blk_new(), net_new(), ...), which fills in a
 * struct virtio_device at the head of its own struct and hands it to virtio_bus_add().
 *
 * Life, as the class's functions see it, all on the device's own thread (loop.h) unless
 * marked otherwise:
 *
 *   start   the driver said DRIVER_OK, or a saved device that had it is going to run:
 *           queues are attached. Watch your descriptors (dev->loop).
 *   kick    queue q may have requests. Also called for every ready queue right after start
 *           and after resume: kicks are not state.
 *   drain   soon to stand still: finish or un-take every request, start no other, touch no
 *           guest memory and raise no interrupt after it returns, until resume.
 *   resume  go on after drain.
 *   stop    the driver reset the device, or the VM ends: drained before; forget all requests.
 *
 *   drained, [capture], resume, drained, [load], resume ... ; never kick between drain and
 *   resume.
 *
 * capture, apply and features are called while the device stands still or has not started.
 * Saved states are untrusted: decode checks, apply cannot fail but for means of the host.
 */
#ifndef VMM_VIRTIO_DEVICE_H
#define VMM_VIRTIO_DEVICE_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/lock.h"
#include "vmm/virtio/queue.h"

#define VIRTIO_QUEUES_MAX 4
#define VIRTIO_CONFIG_BYTES_MAX 256
/* of a class's own plain state */
#define VIRTIO_STATE_BYTES_MAX 4096

struct starter;
struct virtio_device;
struct virtio_loop;
struct virtio_slot;

struct virtio_class {
        const char *kind;               /* "blk": the name in saved states and messages */
        uint16_t id;                    /* virtio 1.2, 5 */
        unsigned nqueues;
        uint16_t queue_size;            /* largest, a power of two up to VQ_SIZE_MAX */
        uint64_t features;              /* what the class can; the bus adds VERSION_1, EVENT_IDX,
                                           INDIRECT_DESC */

        int (*start)(struct virtio_device *dev, struct err *e);
        void (*kick)(struct virtio_device *dev, unsigned queue);
        void (*drain)(struct virtio_device *dev);
        void (*resume)(struct virtio_device *dev);
        void (*stop)(struct virtio_device *dev);

        /* From a vCPU's thread, with the device's lock: the guest wrote dev->config at
         * [offset, offset+bytes); NULL = nothing of it is writable. Must not block. */
        void (*config_written)(struct virtio_device *dev, unsigned offset, unsigned bytes);

        /* Saved state of the class beyond transport and queues; state_bytes 0 = none.
         * state: state_bytes of plain data. capture allocates nothing and takes no time. */
        size_t state_bytes;
        void (*capture)(struct virtio_device *dev, void *state);
        int (*encode)(const void *state, struct json_object *into, struct err *e);
        int (*decode)(struct json_object *from, void *ret_state, struct err *e);
        int (*apply)(struct virtio_device *dev, const void *state, struct err *e);

        /* What a feature of the class's is to people, for a host that lacks it: "the guest uses
         * ..."; NULL = not known. May be NULL. */
        const char *(*feature_name)(unsigned bit);

        /* What it has done, as numbers into o: for `vmm info`. From any thread at any time;
         * waits for nothing that the guest or its host side could hold up. May be NULL. */
        void (*describe)(struct virtio_device *dev, struct json_object *o);

        /* the thread is gone */
        void (*free)(struct virtio_device *dev);
};

struct virtio_device {
        /* set by the constructor, constant after virtio_bus_add() */
        const struct virtio_class *class;
        char name[32];                  /* "disk0", for people and for saved states */
        uint64_t host_features;         /* what of class->features this one offers */
        unsigned config_bytes;

        /* set by the bus */
        struct virtio_slot *slot;
        struct virtio_loop *loop;       /* from start on */
        const struct ram *ram;
        struct starter *starter;        /* of threads beside the loop's */
        uint64_t features;              /* negotiated; constant between start and stop */
        struct virtqueue queue[VIRTIO_QUEUES_MAX];      /* the device thread's, between start and
                                                           stop but not while drained */
        struct lock lock;               /* made by the constructor, ended by class->free */
        uint8_t config[VIRTIO_CONFIG_BYTES_MAX] GUARDED_BY(lock);
};

static inline bool virtio_has(const struct virtio_device *dev, unsigned feature_bit)
{
        return dev->features >> feature_bit & 1;
}

/* For the device, from any thread while it is not drained. */
/* If the guest wants one: an interrupt for what was pushed to queue. */
void virtio_signal(struct virtio_device *dev, unsigned queue);
/* The ring or a request broke the rules: the driver is asked to reset the device, why is
 * logged once and shown by `vmm info`. Nothing of it is served until then. */
void virtio_device_broken(struct virtio_device *dev, const struct err *why);
/* The device's configuration changes: writes bytes at offset, new generation, interrupt.
 * Also while drained or not started (no interrupt then; raised at resume). */
void virtio_config_set(struct virtio_device *dev, unsigned offset, const void *data,
                       unsigned bytes);

#endif
