/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/sink.h"

static enum uffd_result copy(const struct sink *s, uint64_t gpa, const char *data, size_t bytes)
{
        struct piece p;

        for (uint64_t at = gpa; regions_piece(s->regions, at, gpa + bytes, &p);
             at = p.gpa + p.bytes) {
                enum uffd_result r = uffd_copy(s->uffds[p.uffd], p.hva, data + (p.gpa - gpa),
                                               p.bytes, s->page_bytes);

                if (r != UFFD_DONE && r != UFFD_GONE)
                        return r;
        }
        return UFFD_DONE;
}

static enum uffd_result copy_kept(const struct sink *s, uint64_t gpa, const char *data,
                                  size_t bytes)
{
        uint64_t from, end;

        for (uint64_t at = gpa; removed_next_kept(s->removed, at, gpa + bytes, &from, &end);
             at = end) {
                enum uffd_result r = copy(s, from, data + (from - gpa), end - from);

                if (r != UFFD_DONE)
                        return r;
        }
        return UFFD_DONE;
}

static enum uffd_result install(const struct sink *s, uint64_t gpa, const void *data,
                                size_t bytes)
{
        if (!s->removed)
                return copy(s, gpa, data, bytes);
        removed_lock_shared(s->removed);        /* INV-REMOVED */

        enum uffd_result r = copy_kept(s, gpa, data, bytes);

        removed_unlock_shared(s->removed);
        return r;
}

const struct sink_ops sink_uffd = {
        .name = "copy",
        .install = install,
        .in_client = true,
};
