/* SPDX-License-Identifier: Apache-2.0 */
/* vqguest.h - the driver's side of a virtqueue, for tests of what is on the other side.
 *
 * A struct vqguest is plain: with a copy of RAM and of the queue's struct vq_state, a copy of it
 * is a saved guest. What a driver does wrong is an ASSERT; tests that want a malformed ring
 * write to g->ring themselves.
 * Threads: one at a time; the device's side may run in another meanwhile.
 */
#ifndef TESTS_UNIT_VQGUEST_H
#define TESTS_UNIT_VQGUEST_H

#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/ram.h"
#include "vmm/virtio/queue.h"

struct vqguest_buf {
        uint64_t gpa;
        uint32_t bytes;
        bool device_writes;
};

struct vqguest {
        const struct ram *ram;
        struct vring ring;
        bool event_idx;
        uint16_t avail_idx;             /* what was made available, as the ring has it */
        uint16_t kicked_idx;            /* where it was when vqguest_wants_kick() was asked last */
        uint16_t used_idx;              /* what of the used ring was seen */
        uint16_t nfree;
        uint16_t free[VQ_SIZE_MAX];     /* descriptors, a stack */
        uint16_t ndescs[VQ_SIZE_MAX];   /* of the request with this head; 0 = none */
};

/* Small RAM, out of the heap: [0, bytes) and as much from 4 GiB on. bytes: whole pages. */
void vqguest_ram_init(struct ram *ram, uint64_t bytes);
void vqguest_ram_fini(struct ram *ram);

/* What a ring of that size takes from ring_gpa on. */
uint64_t vqguest_ring_bytes(uint16_t size);
/* A ring at ring_gpa, 16 bytes aligned; q is attached on return. Indirect descriptors were
 * negotiated, event indices were not. */
void vqguest_init(struct vqguest *g, const struct ram *ram, uint64_t ring_gpa, uint16_t size,
                  struct virtqueue *q);
/* The same with event indices. */
void vqguest_init_event_idx(struct vqguest *g, const struct ram *ram, uint64_t ring_gpa,
                            uint16_t size, struct virtqueue *q);

/* Makes a request available and returns its head; there must be room for it. */
uint16_t vqguest_add(struct vqguest *g, const struct vqguest_buf *bufs, unsigned n);
/* The same by an indirect table, which is written to table_gpa. */
uint16_t vqguest_add_indirect(struct vqguest *g, const struct vqguest_buf *bufs, unsigned n,
                              uint64_t table_gpa);
/* Whether the device asked for a kick for what was added since the last call. */
bool vqguest_wants_kick(struct vqguest *g);

/* The next used entry, if any; its descriptors are free again. */
bool vqguest_used(struct vqguest *g, uint16_t *ret_head, uint32_t *ret_written);
void vqguest_interrupts_off(struct vqguest *g);
/* true: entries came meanwhile, look again. */
bool vqguest_interrupts_on(struct vqguest *g);

#endif
