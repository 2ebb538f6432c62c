/* SPDX-License-Identifier: Apache-2.0 */
/* loop.h - the thread of one virtio device: an event loop over its kicks, its own
 * descriptors and what it is told.
 *
 * Made when the driver has set the device up, not before: devices that a guest does not use
 * cost no thread. The descriptors that the device watches belong to the device.
 * Threads: the watches on the loop's thread alone; virtio_loop_ring() from any other.
 */
#ifndef VMM_VIRTIO_LOOP_H
#define VMM_VIRTIO_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

struct starter;
struct virtio_loop;
struct virtio_watch;                    /* one descriptor or one timer */

typedef void virtio_watch_fn(void *ctx);

/* rung(ctx) runs on the thread some time after each virtio_loop_ring(). starter may be NULL. */
int virtio_loop_new(struct starter *starter, const char *thread_name, virtio_watch_fn *rung,
                    void *ctx, struct virtio_loop **ret, struct err *e);
void virtio_loop_ring(struct virtio_loop *l);
/* Ends the thread once its present callback has returned; watches have been freed by
 * their owners (class->stop). */
void virtio_loop_free(struct virtio_loop *l);

/* Level-triggered: fn as long as fd is readable (or writable). Watches begin off. */
int virtio_watch_readable(struct virtio_loop *l, int fd, virtio_watch_fn *fn, void *ctx,
                          struct virtio_watch **ret, struct err *e);
int virtio_watch_writable(struct virtio_loop *l, int fd, virtio_watch_fn *fn, void *ctx,
                          struct virtio_watch **ret, struct err *e);
int virtio_watch_timer(struct virtio_loop *l, virtio_watch_fn *fn, void *ctx,
                       struct virtio_watch **ret, struct err *e);
void virtio_watch_on(struct virtio_watch *w);
void virtio_watch_off(struct virtio_watch *w);
/* once, after that time, unless off before */
void virtio_watch_after(struct virtio_watch *timer, uint64_t ns);
void virtio_watch_free(struct virtio_watch *w);

#endif
