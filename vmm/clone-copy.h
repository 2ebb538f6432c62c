/* SPDX-License-Identifier: Apache-2.0 */
/* clone-copy.h - guest RAM into a memfd, by all CPUs: offset = guest-physical address, pages
 * of zeros stay holes.
 */
#ifndef VMM_CLONE_COPY_H
#define VMM_CLONE_COPY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "qcowstore/store.h"
#include "vmm/ram.h"

struct starter;

/* Asked before each MiB, from any thread; true ends the copy with -ECANCELED. */
typedef bool clone_stop_fn(void *ctx);

struct clone_copy_options {
        const struct ram *ram;          /* what of the address space is RAM */
        struct qs_ram_source source;    /* one that leaves nothing to a parent */
        int fd;                         /* as large as the address space, and empty */
        struct starter *starter;        /* of the threads beside the caller's; may be NULL */
        clone_stop_fn *stop;
        void *stop_ctx;
};

/* Asks the source once for each byte. -ENOMEM: this host or its control group would run out
 * of memory; whatever the reason, the memfd holds a part then. */
int clone_copy(const struct clone_copy_options *o, struct err *e);

#endif
