/* SPDX-License-Identifier: Apache-2.0 */
/* feed.h - where faults come from: a descriptor to poll, and what to read there.
 *
 *   feed-uffd.c   messages of a userfaultfd
 *
 * INV-READER: one worker reads a feed, always the same.
 * Ownership:  borrows its descriptor and regions; lives in its session.
 */
#ifndef PAGESERVER_FEED_H
#define PAGESERVER_FEED_H

#include <stddef.h>
#include <stdint.h>

#include "pageserver/regions.h"

/* Read at once; more wait for the next round, so that no client keeps a worker
 * from the others. A vCPU has one fault in flight. */
#define FEED_BATCH_MAX 16

struct feed;
struct session;

struct feed_ops {
        /* How many guest-physical addresses were stored, 0 when nothing waits;
         * negative errno: the feed is broken and must not be polled again. */
        int (*read)(struct feed *f, uint64_t gpa[FEED_BATCH_MAX]);
};

extern const struct feed_ops feed_uffd;

struct feed {
        const struct feed_ops *ops;
        int fd;
        const struct regions *regions;
        struct session *session;        /* whose faults these are */
};

#endif
