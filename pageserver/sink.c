/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/sink.h"

#include "common/check.h"

/* What huge pages of zeros are copied from. Never written; not const, so that it lies in
 * .bss and costs one page. */
static char zeros[PSMSG_PAGE_HUGE] __attribute__((aligned(4096)));

static enum uffd_result zero_huge(const struct sink *s, const struct piece *p)
{
        for (uint64_t at = 0; at < p->bytes; at += s->page_bytes) {
                enum uffd_result r = uffd_copy(s->uffds[p->uffd], p->hva + at, zeros,
                                               s->page_bytes, s->page_bytes);

                if (r != UFFD_DONE && r != UFFD_GONE)
                        return r;
        }
        return UFFD_DONE;
}

enum uffd_result sink_zero(const struct sink *s, uint64_t gpa, uint64_t bytes)
{
        struct piece p;

        ASSERT(s->page_bytes <= sizeof(zeros));
        for (uint64_t at = gpa; regions_piece(s->regions, at, gpa + bytes, &p);
             at = p.gpa + p.bytes) {
                enum uffd_result r = s->page_bytes == PSMSG_PAGE_SMALL ?
                                     uffd_zero(s->uffds[p.uffd], p.hva, p.bytes) :
                                     zero_huge(s, &p);

                if (r != UFFD_DONE && r != UFFD_GONE)
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
