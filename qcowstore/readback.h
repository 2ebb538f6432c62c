/* SPDX-License-Identifier: Apache-2.0 */
/* readback.h - guest RAM as a writer has stored it so far.
 *
 * Reading takes buffers, which lie on the writer's shelf between two calls: there
 * are as many as threads ever read at once.
 *
 * Threads: any, but for init and fini. What a cluster is must not change meanwhile:
 *          whoever takes it again reads it before it is placed.
 * Errors:  sentences that name the address and the file; -EBADMSG: what is stored
 *          does not match its sum.
 */
#ifndef QCOWSTORE_READBACK_H
#define QCOWSTORE_READBACK_H

#include <stdint.h>

#include "common/err.h"
#include "common/lock.h"

struct qs_writer;
struct readback;

struct readback_shelf {
        struct lock lock;
        struct readback *unused GUARDED_BY(lock);
};

void readback_shelf_init(struct readback_shelf *s);
void readback_shelf_fini(struct readback_shelf *s);

/* one whole cluster, checked against its sum; its parent's content where it has none */
int readback_cluster(struct qs_writer *w, uint64_t cluster, void *to, struct err *e);

#endif
