/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-machine.h - a bus without KVM, two devices on it that count what they are asked, and
 * a driver that writes their registers as Linux does.
 *
 * Threads: the driver's functions from one thread for a device.
 */
#ifndef TESTS_UNIT_VIRTIO_MACHINE_H
#define TESTS_UNIT_VIRTIO_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/clock.h"
#include "tests/unit/vqguest.h"
#include "vmm/virtio/bus.h"

#define MACHINE_RAM_BYTES (4u << 20)
#define COUNTER_QUEUE_SIZE 64
#define COUNTER_FEATURE 3
#define PATIENCE_NS (20 * NS_PER_SEC)

/* Answers each request with the number of requests so far. */
struct counter {
        struct virtio_device dev;
        _Atomic uint64_t touched;       /* how often it looked at guest memory */
        _Atomic unsigned starts, stops;
        _Atomic bool drained;
        _Atomic bool touched_while_drained;
        uint64_t n;                     /* its thread's; saved */
        bool fail_start;
};

struct machine {
        struct ram ram;
        struct kvm *kvm;                /* NULL = without */
        struct virtio_bus *bus;
        struct starter *starter;        /* threads are confined as in a VM */
        struct counter *c[2];
        _Atomic unsigned broken;
};

void machine_init(struct machine *m);
/* Another bus over the same RAM; the one before was freed. */
void machine_bus(struct machine *m);
void machine_fini(struct machine *m);

void put(struct machine *m, unsigned slot, uint32_t offset, uint32_t value);
uint32_t get(struct machine *m, unsigned slot, uint32_t offset);
void held(struct machine *m);
/* Up to DRIVER_OK. */
void set_up(struct machine *m, unsigned slot, struct vqguest *g);
/* A request and a kick. */
void ask(struct machine *m, unsigned slot, struct vqguest *g);
/* The next answer; 0 = none came in time. */
uint64_t answer(struct machine *m, unsigned slot, struct vqguest *g);
/* Until a device is broken, or not. */
bool comes_to_break(struct machine *m);

#endif
