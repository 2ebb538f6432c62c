/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/sink.h"

static enum uffd_result install(const struct sink *s, uint64_t gpa, const void *data,
                                size_t bytes)
{
        struct piece p;

        for (uint64_t at = gpa; regions_piece(s->regions, at, gpa + bytes, &p);
             at = p.gpa + p.bytes) {
                const char *from = (const char *)data + (p.gpa - gpa);
                enum uffd_result r = uffd_copy(s->uffds[p.uffd], p.hva, from, p.bytes, NULL);

                if (r != UFFD_DONE)
                        return r;
        }
        return UFFD_DONE;
}

const struct sink_ops sink_uffd = {
        .name = "copy",
        .install = install,
        .in_client = true,
};
