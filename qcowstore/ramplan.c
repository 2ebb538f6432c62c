/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/ramplan.h"

#include <errno.h>
#include <stdlib.h>

#include "qcowstore/chunk.h"
#include "qcowstore/delta.h"

void ramplan_fini(struct ramplan *p)
{
        free(p->ahead);
}

/* A chunk that [from, to) shares with what came before is there already; *done
 * is where that ends. */
static void add_stretch(struct ramplan *p, uint64_t from, uint64_t to, uint64_t *done)
{
        uint64_t start = MAX(ALIGN_DOWN(from, p->step), *done);
        uint64_t end = ALIGN_UP(to, p->step);

        if (start >= end)
                return;
        ASSERT(p->n_stretches < RAMPLAN_STRETCHES_MAX);
        p->stretch[p->n_stretches++] =
                (struct ramplan_stretch){ start, (end - start) / p->step };
        p->chunks += (end - start) / p->step;
        *done = end;
}

/* Where there is no RAM, zeros are read: a parent must not show through. */
static int add_gap(struct ramplan *p, const struct delta *delta, uint64_t from, uint64_t to,
                   uint64_t *done, struct err *e)
{
        int rc = delta ? delta_find_data(delta, from, to, &from, e) : 0;

        if (rc == 0 && delta && from < to)
                add_stretch(p, from, to, done);
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
        uint64_t done = 0;
        uint64_t end = 0;

        *p = (struct ramplan){ .step = chunk_bytes(w->cluster_bits) };

        int rc = plan_ahead(p, w, e);

        for (size_t i = 0; rc == 0 && i < n; i++) {
                rc = add_gap(p, w->delta, end, ranges[i].gpa, &done, e);
                end = ranges[i].gpa + ranges[i].bytes;
                p->ram_bytes += ranges[i].bytes;
                add_stretch(p, ranges[i].gpa, end, &done);
        }
        if (rc == 0)
                rc = add_gap(p, w->delta, end, w->options.disk_bytes, &done, e);
        p->clusters += p->chunks * (p->step >> w->cluster_bits);
        p->chunks += p->n_ahead;
        return rc;
}

struct ram_piece ramplan_at(const struct ramplan *p, uint64_t i)
{
        if (i < p->n_ahead)
                return p->ahead[i];
        i -= p->n_ahead;
        for (size_t s = 0; s < p->n_stretches; s++) {
                if (i < p->stretch[s].chunks)
                        return (struct ram_piece){ p->stretch[s].gpa + i * p->step, p->step,
                                                   false };
                i -= p->stretch[s].chunks;
        }
        ASSERT(!"chunk index in range");
        return (struct ram_piece){ 0 };
}
