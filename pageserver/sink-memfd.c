/* SPDX-License-Identifier: Apache-2.0 */
/* A unit that was written before (by a server that died before it could say
 * so) is rewritten in place with the same bytes: nobody sees a difference. */
#include <errno.h>

#include "common/io.h"
#include "pageserver/sink.h"

static enum uffd_result install(const struct sink *s, uint64_t gpa, const void *data,
                                size_t bytes)
{
        if (s->alias && alias_fill(s->alias, gpa, data, bytes))
                return UFFD_DONE;

        /* INV-WHOLE: atomic per page for faults */
        int rc = io_pwrite_full(s->cache_fd, data, bytes, gpa);

        if (rc == 0)
                return UFFD_DONE;
        errno = -rc;
        return UFFD_FAILED;
}

const struct sink_ops sink_memfd = {
        .name = "shared",
        .install = install,
        .in_client = false,
};
