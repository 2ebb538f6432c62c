/* SPDX-License-Identifier: Apache-2.0 */
/* sink.h - how bytes get into a client's memory.
 *
 *   sink-memfd.c   shared lane: into the image cache that the client has mapped
 *   sink-uffd.c    copy lane: through the client's userfaultfd
 *
 * Ownership: borrows everything; lives in its session.
 * Threads:   any number at a time.
 * Errors:    enum uffd_result but for GONE: what is not mapped any more is passed over;
 *            UFFD_FAILED leaves errno.
 */
#ifndef PAGESERVER_SINK_H
#define PAGESERVER_SINK_H

#include <stddef.h>
#include <stdint.h>

#include "pageserver/alias.h"
#include "pageserver/regions.h"
#include "pageserver/removed.h"
#include "pageserver/uffd.h"

struct sink;

struct sink_ops {
        const char *name;
        /* Whole units. Readers see each page whole or not at all. It may be there
         * already, wholly or partly; a page that was given back is left alone. */
        enum uffd_result (*install)(const struct sink *s, uint64_t gpa, const void *data,
                                    size_t bytes);
        /* install() puts pages into the client itself. It wakes waiters then, and
         * a FILLED unit may have been thrown away since (MADV_DONTNEED): a
         * fault on it is answered by installing it anew. If false, waiters are
         * the caller's to wake, and FILLED stays there for whoever looks again. */
        bool in_client;
};

extern const struct sink_ops sink_memfd;
extern const struct sink_ops sink_uffd;

struct sink {
        const struct sink_ops *ops;
        const struct regions *regions;
        const int *uffds;
        uint32_t page_bytes;            /* of the client's memory */
        struct removed *removed;        /* NULL = nothing is given back */
        /* sink_memfd */
        int cache_fd;
        const struct alias *alias;      /* NULL = none */
};

/* The same in both lanes: the client's own zero pages. In the shared lane the
 * cache keeps its hole and no memory is used; huge pages are filled with zeros. */
enum uffd_result sink_zero(const struct sink *s, uint64_t gpa, uint64_t bytes);
/* Lets every thread that waits within the range look again. */
void sink_wake(const struct sink *s, uint64_t gpa, uint64_t bytes);

#endif
