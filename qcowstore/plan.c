/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/plan.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "qcowstore/layout.h"
#include "qcowstore/sumtree.h"

void plan_fini(struct plan *p)
{
        for (uint64_t i = 0; i < p->state_l1; i++)
                free(p->state_tables[i]);
        free(p->state_tables);
}

static bool has_table(const struct qs_writer *w, uint64_t l1)
{
        return atomic_load_explicit(&w->tables[l1], memory_order_relaxed) != NULL;
}

static int grow_tables(struct plan *p, uint64_t n, struct err *e)
{
        if (n <= p->state_l1)
                return 0;

        uint64_t **more = reallocarray(p->state_tables, n, sizeof(*more));

        if (!more)
                return err_set(e, ENOMEM, "plan the VM state");
        for (; p->state_l1 < n; p->state_l1++)
                more[p->state_l1] = NULL;
        p->state_tables = more;
        return 0;
}

/* n clusters of the VM-state area are these host clusters */
static int map(struct plan *p, const struct qs_writer *w, uint64_t state, uint64_t host,
               uint64_t n, struct err *e)
{
        uint64_t entries = layout_l2_entries(w->cluster_bits);

        for (uint64_t i = 0; i < n; i++) {
                uint64_t l1 = (state + i) / entries;
                int rc = grow_tables(p, l1 + 1, e);

                if (rc < 0)
                        return rc;
                if (!p->state_tables[l1])
                        p->state_tables[l1] = calloc(1, w->cluster_bytes);
                if (!p->state_tables[l1])
                        return err_set(e, ENOMEM, "plan the VM state");
                p->state_tables[l1][(state + i) % entries] = (host + i) << w->cluster_bits;
        }
        return 0;
}

static struct section *add_section(struct plan *p, const char *name, uint64_t state,
                                   uint64_t bytes, uint32_t flags, const struct qs_writer *w)
{
        struct section *s = &p->toc.section[p->toc.count++];

        strcpy(s->name, name);
        s->offset = state << w->cluster_bits;
        s->bytes = bytes;
        s->flags = flags;
        return s;
}

/* Clusters before the fixed point; *state and *host advance. */
static int plan_sections(struct plan *p, const struct qs_writer *w, uint64_t *state,
                         uint64_t *host, struct err *e)
{
        p->sections = *host;
        for (unsigned i = 0; i < w->sections; i++) {
                const struct section *s = add_section(p, w->section[i].name, *state,
                                                      w->section[i].bytes, 0, w);
                uint64_t n = layout_clusters(s->bytes, w->cluster_bits);
                int rc = map(p, w, *state, *host, n, e);

                if (rc < 0)
                        return rc;
                *state += n;
                *host += n;
        }
        return 0;
}

static int plan_checksums(struct plan *p, const struct qs_writer *w, uint64_t *state,
                          uint64_t *host, struct err *e)
{
        uint64_t sums = layout_clusters(w->options.disk_bytes, w->cluster_bits);
        uint64_t first = sumtree_blocks_at(sums, w->cluster_bits) >> w->cluster_bits;
        int rc = map(p, w, *state, *host, first, e);

        p->checksums = *host;
        add_section(p, LAYOUT_CHECKSUMS, *state, sums * 8, SECTION_TREE, w);
        *host += first;
        for (uint64_t i = 0; rc == 0 && i < w->disk_l1; i++) {
                if (!has_table(w, i))
                        continue;
                rc = map(p, w, *state + first + i, *host, 1, e);
                *host += 1;
                p->disk_tables++;
        }
        *state += sumtree_extent(sums, w->cluster_bits) >> w->cluster_bits;
        p->disk_l2 = *host;
        *host += p->disk_tables;
        return rc;
}

/* L2 tables of the VM-state area when its first n clusters behind `state` are
 * mapped too */
static uint64_t count_tables(const struct plan *p, const struct qs_writer *w, uint64_t state,
                             uint64_t n)
{
        uint64_t entries = layout_l2_entries(w->cluster_bits);
        uint64_t count = 0;

        for (uint64_t i = 0; i < p->state_l1; i++)
                count += p->state_tables[i] != NULL;
        for (uint64_t i = state / entries; i <= (state + n - 1) / entries; i++)
                count += i >= p->state_l1 || !p->state_tables[i];
        return count;
}

/* Places all that depends on the file's size, taken to be `total`; returns the
 * size that this makes. */
static uint64_t place(struct plan *p, const struct qs_writer *w, uint64_t state, uint64_t host,
                      uint64_t total)
{
        unsigned bits = w->cluster_bits;
        uint64_t extent = sumtree_extent(total, bits) >> bits;

        p->refblock_count = DIV_ROUND_UP(
                total, layout_refblock_entries(bits, LAYOUT_REFCOUNT_ORDER));
        p->l1_entries = w->disk_l1 + DIV_ROUND_UP(state + extent, layout_l2_entries(bits));
        p->state_bytes = (state + extent) << bits;
        p->state_l2 = host;
        p->snapshot_l1 = p->state_l2 + count_tables(p, w, state, extent);
        p->active_l1 = p->snapshot_l1 + layout_clusters(p->l1_entries * 8, bits);
        p->reftable = p->active_l1 + layout_clusters(w->disk_l1 * 8, bits);
        p->refblocks = p->reftable + layout_clusters(p->refblock_count * 8, bits);
        p->hostsums = p->refblocks + p->refblock_count;
        p->toc_at = p->hostsums + extent;
        p->snaptable = p->toc_at + 1;
        return p->snaptable + 1;
}

static int check_limits(const struct plan *p, const struct qs_writer *w, struct err *e)
{
        ASSERT(p->l1_entries <= LAYOUT_L1_ENTRIES_MAX);        /* check_options() saw to it */
        if (p->refblock_count * 8 > LAYOUT_REFTABLE_BYTES_MAX)
                return err_msg(e, EFBIG, "the file becomes too large for clusters of %u KiB: "
                               "choose larger ones", 1u << (w->cluster_bits - 10));
        return 0;
}

int plan_init(struct plan *p, const struct qs_writer *w, struct err *e)
{
        uint64_t state = 1;             /* behind the section table */
        uint64_t host = w->used;

        *p = (struct plan){ 0 };

        int rc = map(p, w, 0, 0, 1, e);         /* its table is counted; the place follows */

        if (rc == 0)
                rc = plan_sections(p, w, &state, &host, e);
        if (rc == 0)
                rc = plan_checksums(p, w, &state, &host, e);
        if (rc < 0)
                return rc;

        uint64_t total = host;

        while (p->total != total) {
                p->total = total;
                total = MAX(total, place(p, w, state, host, total));
        }

        struct section *s = add_section(p, LAYOUT_HOSTSUMS, state, total * 8, SECTION_TREE, w);

        rc = map(p, w, 0, p->toc_at, 1, e);
        if (rc == 0)
                rc = map(p, w, state, p->hostsums,
                         sectoc_extent(s, w->cluster_bits) >> w->cluster_bits, e);
        if (rc == 0)
                rc = grow_tables(p, p->l1_entries - w->disk_l1, e);
        return rc < 0 ? rc : check_limits(p, w, e);
}
