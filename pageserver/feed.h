/* SPDX-License-Identifier: Apache-2.0 */
/* feed.h - where faults come from: a descriptor to poll, and what to read there.
 *
 *   feed-uffd.c   messages of a userfaultfd
 *   feed-lease.c  what a client passes on that reads them itself (readers.h)
 *
 * Where we have as many descriptors as workers, each is polled by one of them; one
 * that came alone (a foreign monitor's) is polled by several. Each message goes to
 * one reader.
 * Ownership:  borrows its descriptor, regions and map; lives in its session.
 */
#ifndef PAGESERVER_FEED_H
#define PAGESERVER_FEED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pageserver/regions.h"
#include "pageserver/removed.h"

/* Read at once; more wait for the next round, so that no client keeps a worker
 * from the others. A vCPU has one fault in flight. */
#define FEED_BATCH_MAX REMOVED_SLOT_MESSAGES

struct feed;
struct session;

struct feed_ops {
        /* How many guest-physical addresses of faults were stored; 0 when none wait, or
         * when it has come to its end.
         * What was given back is in the removed map by then. Negative errno: the
         * feed is broken and must not be polled again. */
        int (*read)(struct feed *f, unsigned worker, uint64_t gpa[FEED_BATCH_MAX]);
};

extern const struct feed_ops feed_uffd;
extern const struct feed_ops feed_lease;

struct feed {
        const struct feed_ops *ops;
        int fd;
        const struct regions *regions;
        struct removed *removed;        /* NULL = the client gives nothing back */
        struct session *session;        /* whose faults these are */
        _Atomic bool broken;            /* or at its end; found by any worker: none reads
                                           it any more */
};

#endif
