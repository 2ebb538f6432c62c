/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/workingset.h"

#include <errno.h>
#include <stdlib.h>

#include "common/auto.h"

struct list {
        struct prefetch_span *span;
        size_t n;
        size_t room;
};

/* What goes on where the last one ended, or repeats it, becomes one with it: regions are
 * cut into stripes, and units may be larger than the extents. */
static bool joined(struct list *l, uint64_t first, uint64_t end)
{
        struct prefetch_span *last = l->n > 0 ? &l->span[l->n - 1] : NULL;

        if (!last || first < last->first || first > last->end)
                return false;
        if (end > last->end)
                last->end = end;
        return true;
}

static int add(struct list *l, uint64_t first, uint64_t end)
{
        if (joined(l, first, end))
                return 0;
        if (l->n == l->room) {
                size_t room = l->room ? 2 * l->room : 64;
                struct prefetch_span *more = reallocarray(l->span, room, sizeof(*more));

                if (!more)
                        return -ENOMEM;
                l->span = more;
                l->room = room;
        }
        l->span[l->n++] = (struct prefetch_span){ first, end };
        return 0;
}

static int add_extent(struct list *l, const struct qs_ram_range *x, const struct regions *r,
                      unsigned unit_bits)
{
        uint64_t end = x->gpa + x->bytes;
        struct piece p;
        int rc = 0;

        for (uint64_t at = x->gpa; rc == 0 && regions_piece(r, at, end, &p);
             at = p.gpa + p.bytes)
                rc = add(l, p.gpa >> unit_bits, ((p.gpa + p.bytes - 1) >> unit_bits) + 1);
        return rc;
}

int workingset_spans(const struct qs_ram_range *set, size_t n, const struct regions *r,
                     unsigned unit_bits, struct prefetch_span **ret, size_t *ret_n)
{
        struct list l = { 0 };
        int rc = 0;

        for (size_t i = 0; rc == 0 && i < n; i++)
                rc = add_extent(&l, &set[i], r, unit_bits);
        if (rc < 0) {
                free(l.span);
                return rc;
        }
        *ret = l.span;
        *ret_n = l.n;
        return 0;
}
