/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/ramplan.h"

#include <errno.h>
#include <stdlib.h>

#include "qcowstore/chunk.h"
#include "qcowstore/delta.h"

void ramplan_fini(struct ramplan *p)
{
        free(p->ahead);
        free(p->stretch);
}

int ramplan_check(const struct qs_writer *w, const struct qs_ram_range *r, size_t n,
                  struct err *e)
{
        uint64_t end = 0;

        for (size_t i = 0; i < n; i++) {
                if (!IS_ALIGNED(r[i].gpa | r[i].bytes, LAYOUT_PAGE_BYTES) || r[i].gpa < end ||
                    r[i].gpa > w->options.disk_bytes || r[i].bytes == 0 ||
                    r[i].bytes > w->options.disk_bytes - r[i].gpa)
                        return err_msg(e, EINVAL, "the ranges of guest memory are not sorted, "
                                       "overlap or exceed its size");
                end = r[i].gpa + r[i].bytes;
        }
        return 0;
}

static int begin(struct ramplan *p, const struct qs_writer *w, size_t stretches, struct err *e)
{
        *p = (struct ramplan){ .step = chunk_bytes(w->cluster_bits) };
        p->stretch = calloc(stretches, sizeof(*p->stretch));
        return p->stretch ? 0 : err_set(e, ENOMEM, "plan the order of guest memory");
}

/* A chunk that [from, to) shares with what came before is there already. */
static void add_stretch(struct ramplan *p, uint64_t from, uint64_t to)
{
        uint64_t start = MAX(ALIGN_DOWN(from, p->step), p->done);
        uint64_t end = ALIGN_UP(to, p->step);

        if (start >= end)
                return;
        if (p->n_stretches == 0 || start > p->done)
                p->stretch[p->n_stretches++] = (struct ramplan_stretch){ start, p->chunks };
        p->chunks += (end - start) / p->step;
        p->done = end;
}

/* Where there is no RAM, zeros are read: a parent must not show through. */
static int add_gap(struct ramplan *p, const struct delta *delta, uint64_t from, uint64_t to,
                   struct err *e)
{
        int rc = delta ? delta_find_data(delta, from, to, &from, e) : 0;

        if (rc == 0 && delta && from < to)
                add_stretch(p, from, to);
        return rc;
}

static uint64_t count_pieces(const struct ramplan *p, const struct qs_ram_range *r)
{
        return DIV_ROUND_UP(r->gpa + r->bytes, p->step) - r->gpa / p->step;
}

/* Pieces end where chunks do, so that none crosses an L2 table. */
static int plan_ahead(struct ramplan *p, const struct qs_writer *w, struct err *e)
{
        uint64_t cluster = w->cluster_bytes;
        uint64_t n = 0;

        for (size_t i = 0; i < w->n_first; i++)
                n += count_pieces(p, &w->first[i]);
        p->ahead = calloc(n + 1, sizeof(*p->ahead));
        if (!p->ahead)
                return err_set(e, ENOMEM, "plan the order of guest memory");
        for (size_t i = 0; i < w->n_first; i++) {
                uint64_t end = ALIGN_UP(w->first[i].gpa + w->first[i].bytes, cluster);

                for (uint64_t at = ALIGN_DOWN(w->first[i].gpa, cluster); at < end;) {
                        uint64_t next = MIN(end, ALIGN_DOWN(at, p->step) + p->step);

                        p->ahead[p->n_ahead++] = (struct ram_piece){ at, next - at, true };
                        p->clusters += (next - at) / cluster;
                        at = next;
                }
        }
        ASSERT(p->n_ahead <= n);
        return 0;
}

int ramplan_init(struct ramplan *p, const struct qs_writer *w, const struct qs_ram_range *ranges,
                 size_t n, struct err *e)
{
        uint64_t end = 0;
        /* each range, and each gap before and behind one */
        int rc = begin(p, w, 2 * n + 1, e);

        if (rc == 0)
                rc = plan_ahead(p, w, e);
        for (size_t i = 0; rc == 0 && i < n; i++) {
                rc = add_gap(p, w->delta, end, ranges[i].gpa, e);
                end = ranges[i].gpa + ranges[i].bytes;
                p->ram_bytes += ranges[i].bytes;
                add_stretch(p, ranges[i].gpa, end);
        }
        if (rc == 0)
                rc = add_gap(p, w->delta, end, w->options.disk_bytes, e);
        p->clusters += p->chunks * (p->step >> w->cluster_bits);
        p->chunks += p->n_ahead;
        return rc;
}

int ramplan_again(struct ramplan *p, const struct qs_writer *w, const struct qs_ram_range *ranges,
                  size_t n, struct err *e)
{
        int rc = begin(p, w, n + 1, e);

        for (size_t i = 0; rc == 0 && i < n; i++) {
                uint64_t end = ranges[i].gpa + ranges[i].bytes;

                add_stretch(p, ranges[i].gpa, end);
                p->ram_bytes += ranges[i].bytes;
                p->clusters += (ALIGN_UP(end, w->cluster_bytes) -
                                ALIGN_DOWN(ranges[i].gpa, w->cluster_bytes)) >> w->cluster_bits;
        }
        /* several ranges may be of one cluster */
        p->clusters = MIN(p->clusters, p->chunks * (p->step >> w->cluster_bits));
        return rc;
}

/* The last stretch that has not more than i chunks before it. */
static const struct ramplan_stretch *stretch_of(const struct ramplan *p, uint64_t i)
{
        size_t lo = 0;
        size_t hi = p->n_stretches;

        while (hi - lo > 1) {
                size_t mid = lo + (hi - lo) / 2;

                if (p->stretch[mid].before <= i)
                        lo = mid;
                else
                        hi = mid;
        }
        return &p->stretch[lo];
}

struct ram_piece ramplan_at(const struct ramplan *p, uint64_t i)
{
        ASSERT(i < p->chunks);
        if (i < p->n_ahead)
                return p->ahead[i];
        i -= p->n_ahead;

        const struct ramplan_stretch *s = stretch_of(p, i);

        return (struct ram_piece){ s->gpa + (i - s->before) * p->step, p->step, false };
}

bool ramplan_find(const struct ramplan *p, uint64_t gpa, uint64_t *ret)
{
        size_t lo = 0;
        size_t hi = p->n_stretches;

        while (hi - lo > 1) {
                size_t mid = lo + (hi - lo) / 2;

                if (p->stretch[mid].gpa <= gpa)
                        lo = mid;
                else
                        hi = mid;
        }
        if (p->n_stretches == 0 || gpa < p->stretch[lo].gpa)
                return false;

        uint64_t end = lo + 1 < p->n_stretches ? p->stretch[lo + 1].before
                                               : p->chunks - p->n_ahead;
        uint64_t i = p->stretch[lo].before + (gpa - p->stretch[lo].gpa) / p->step;

        if (i >= end)
                return false;
        *ret = p->n_ahead + i;
        return true;
}

int ramorder_init(struct ramorder *o, const struct ramplan *p, struct err *e)
{
        *o = (struct ramorder){ .plan = p };
        atomic_init(&o->cursor, p->n_ahead);
        o->taken = calloc(p->chunks / 64 + 1, sizeof(*o->taken));
        return o->taken ? 0 : err_set(e, ENOMEM, "plan the order of guest memory");
}

void ramorder_fini(struct ramorder *o)
{
        free((void *)o->taken);
}

static bool take(struct ramorder *o, uint64_t i)
{
        uint64_t bit = 1ull << i % 64;

        return !(atomic_fetch_or(&o->taken[i / 64], bit) & bit);
}

uint64_t ramorder_take(struct ramorder *o, const uint64_t *want_gpa)
{
        uint64_t i;

        if (want_gpa && ramplan_find(o->plan, *want_gpa, &i) && take(o, i))
                return i;
        do {
                i = atomic_fetch_add(&o->cursor, 1);
                ASSERT(i < o->plan->chunks);            /* INV-EACH */
        } while (!take(o, i));
        return i;
}
