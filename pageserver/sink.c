/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/sink.h"

enum uffd_result sink_zero(const struct sink *s, uint64_t gpa, uint64_t bytes)
{
        struct piece p;

        for (uint64_t at = gpa; regions_piece(s->regions, at, gpa + bytes, &p);
             at = p.gpa + p.bytes) {
                enum uffd_result r = uffd_zero(s->uffds[p.uffd], p.hva, p.bytes, NULL);

                if (r != UFFD_DONE)
                        return r;
        }
        return UFFD_DONE;
}

void sink_wake(const struct sink *s, uint64_t gpa, uint64_t bytes)
{
        struct piece p;

        for (uint64_t at = gpa; regions_piece(s->regions, at, gpa + bytes, &p);
             at = p.gpa + p.bytes)
                uffd_wake(s->uffds[p.uffd], p.hva, p.bytes);
}
