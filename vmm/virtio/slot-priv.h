/* SPDX-License-Identifier: Apache-2.0 */
/* slot-priv.h - one virtio-mmio device as the bus has it: registers, thread, state.
 *
 * Theory of operation
 *
 * The driver's accesses run on vCPU threads, one at a time for a device (`access`), and change
 * registers (`regs`, under the device's own lock). What the device does runs on its loop's
 * thread. The two meet in slot_sync(), on the loop's thread: it compares what is wanted (the
 * driver's DRIVER_OK, the bus being held) with what is (live, running) and calls the class
 * until both are the same. Whoever changes what is wanted rings and may wait for it.
 *
 *   live     class->start was called, class->stop not yet; queues are attached
 *   running  live and not drained
 *
 *   - - -------start-------> live running ----drain----> live - ----resume----> live running
 *      <----stop (drained)--                 <- reset: drain first -
 *
 * INV-STILL: when virtio_bus_wait_held() says so no device is running: none touches guest
 *            memory or raises an interrupt until virtio_bus_release(). A device that its driver
 *            sets up meanwhile starts at release.
 * INV-KICK:  kicks are not state. After each start and resume every ready queue is kicked, so
 *            one that came while nobody listened is not lost; ioeventfds appear when the
 *            device starts, and a notify that exits to us before is the same kick.
 */
#ifndef VMM_VIRTIO_SLOT_PRIV_H
#define VMM_VIRTIO_SLOT_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include "common/lock.h"
#include "vmm/virtio/bus.h"
#include "vmm/virtio/loop.h"

#define SLOT_WHY_MAX 256

/* Plain, as saved. */
struct virtio_regs {
        uint32_t status;
        uint32_t device_features_sel, driver_features_sel, queue_sel;
        uint64_t driver_features;
        uint32_t interrupt_status;
        uint32_t config_generation;
        struct vq_state queue[VIRTIO_QUEUES_MAX];       /* as the driver set it up */
};

struct virtio_slot {
        /* constant */
        struct virtio_bus *bus;
        struct virtio_device *dev;
        unsigned index;
        int irq_fd;
        int kick_fd[VIRTIO_QUEUES_MAX];

        struct lock access;             /* one access of the driver's at a time; a reset
                                           waits with it */
        struct lock making;             /* of the thread; nobody waits with it */
        struct virtio_regs regs         GUARDED_BY(dev->lock);

        /* bus->lock */
        bool wanted;                    /* DRIVER_OK */
        bool live, running;             /* written by the loop's thread alone */
        bool broken;
        bool announce;                  /* at the next start: interrupt whatever the queues say */
        char why[SLOT_WHY_MAX];         /* it is broken */

        /* the loop's thread */
        struct virtio_watch *kick[VIRTIO_QUEUES_MAX];
        struct slot_kick {
                struct virtio_slot *slot;
                unsigned queue;
        } kick_ctx[VIRTIO_QUEUES_MAX];
        bool bound;                     /* ioeventfds are with KVM */
};

struct virtio_bus {
        /* constant after the last virtio_bus_add() */
        struct kvm *kvm;
        const struct ram *ram;
        struct virtio_bus_ops ops;
        unsigned nslots;
        struct virtio_slot *slot[VIRTIO_SLOTS_MAX];

        struct lock lock;
        struct cond changed;            /* any slot's live or running */
        bool held                       GUARDED_BY(lock);
};

int slot_new(struct virtio_bus *bus, unsigned index, struct virtio_device *dev,
             struct virtio_slot **ret, struct err *e);
/* Ends its thread. */
void slot_free(struct virtio_slot *s);

/* An access of the driver's inside the window. vCPU threads. */
void slot_read(struct virtio_slot *s, uint32_t offset, void *data, unsigned bytes);
void slot_write(struct virtio_slot *s, uint32_t offset, const void *data, unsigned bytes);

/* slot-run.c */
/* wanted := on; waits until it is off where that is what is asked. vCPU threads. */
void slot_want(struct virtio_slot *s, bool on);
/* Something that slot_sync() looks at has changed. A thread is made if it has to start. */
void slot_ring(struct virtio_slot *s);
void slot_interrupt(struct virtio_slot *s, uint32_t why);
void slot_set_broken(struct virtio_slot *s, const char *why);

#endif
