/* SPDX-License-Identifier: Apache-2.0 */
/* vsock-loop.h - vmm/virtio/loop.h without a thread, and the transport's part for one device:
 * a test says when something happens. */
#ifndef TESTS_UNIT_VSOCK_LOOP_H
#define TESTS_UNIT_VSOCK_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/virtio/device.h"
#include "vmm/virtio/loop.h"

struct vsock_guest;

struct virtio_loop *vsock_loop_new(struct vsock_guest *guest);
void vsock_loop_free(struct virtio_loop *l);
/* One poll; false: nothing was due. */
bool vsock_loop_turn(struct virtio_loop *l, int timeout_ms);
/* The clock (common/clock.h) goes on by that. */
void vsock_loop_skip(uint64_t ns);

/* What the bus does with a class, and the kicks after it. */
void vsock_loop_start(struct virtio_loop *l, struct virtio_device *dev);
void vsock_loop_drain(struct virtio_loop *l, struct virtio_device *dev);
void vsock_loop_resume(struct virtio_loop *l, struct virtio_device *dev);
/* drains first */
void vsock_loop_stop(struct virtio_loop *l, struct virtio_device *dev);
/* started and not drained: kicks arrive */
bool vsock_loop_started(const struct virtio_loop *l);

#endif
