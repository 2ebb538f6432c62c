/* SPDX-License-Identifier: Apache-2.0 */
/* outflow.h - the way to QEMU: whole writes that end when QEMU goes.
 *
 * INV-END: a write waits for QEMU to read, for its going away, or for outflow_stop(),
 *          whatever comes first; never longer.
 *
 * Ownership: the descriptor is the caller's; while the outflow is there it does not block.
 * Threads:   one writer; outflow_stop() any.
 * Errors:    -EPIPE: QEMU is gone; -ECANCELED: stopped. SIGPIPE must be ignored.
 */
#ifndef PAGESERVER_ADAPTERS_QEMU_OUTFLOW_H
#define PAGESERVER_ADAPTERS_QEMU_OUTFLOW_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "common/err.h"

struct outflow {
        int fd;
        int flags;                      /* as they were */
        unsigned long queue_ioctl;      /* asks what was not read yet; 0 = cannot be asked */
        int stop_fd;                    /* an eventfd */
        uint64_t written_bytes;
};

int outflow_init(struct outflow *o, int fd, struct err *e);
void outflow_fini(struct outflow *o);

/* all of it; the entries of iov are used up */
int outflow_writev(struct outflow *o, struct iovec *iov, size_t n, struct err *e);
int outflow_write(struct outflow *o, const void *data, size_t bytes, struct err *e);
/* What was written and not read yet; 0 where it cannot be known. */
uint64_t outflow_queued(const struct outflow *o);
/* The write that waits ends, and all later ones. */
void outflow_stop(struct outflow *o);

#endif
