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
        free(p->block_at);
        free(p->l2_at);
        free(p->shared);
        free(p->state_l2_at);
        free(p->hostsums_block_at);
        free(p->hostsums_shared);
}

static int no_memory(struct err *e)
{
        return err_set(e, ENOMEM, "plan the VM state");
}

static const uint64_t *disk_table(const struct qs_writer *w, uint64_t l1)
{
        return atomic_load_explicit(&w->tables[l1], memory_order_relaxed);
}

/* n clusters, referred to `refs` times each; 0 = no memory */
static uint64_t take(struct qs_writer *w, uint64_t n, uint32_t refs)
{
        uint64_t first = space_take(&w->space, n);

        for (uint64_t i = 0; first && i < n; i++)
                w->space.refs[first + i] = refs;
        return first;
}

static int grow_tables(struct plan *p, uint64_t n)
{
        if (n <= p->state_l1)
                return 0;

        uint64_t **more = reallocarray(p->state_tables, n, sizeof(*more));

        if (!more)
                return -ENOMEM;
        p->state_tables = more;
        for (; p->state_l1 < n; p->state_l1++)
                more[p->state_l1] = NULL;
        return 0;
}

/* n clusters of the VM-state area are these host clusters; host 0: only their
 * tables are there from now on */
static int map(struct plan *p, const struct qs_writer *w, uint64_t state, uint64_t host,
               uint64_t n)
{
        uint64_t entries = layout_l2_entries(w->cluster_bits);

        for (uint64_t i = 0; i < n; i++) {
                uint64_t l1 = (state + i) / entries;

                if (grow_tables(p, l1 + 1) < 0)
                        return -ENOMEM;
                if (!p->state_tables[l1])
                        p->state_tables[l1] = calloc(1, w->cluster_bytes);
                if (!p->state_tables[l1])
                        return -ENOMEM;
                if (host)
                        p->state_tables[l1][(state + i) % entries] = (host + i) << w->cluster_bits;
        }
        return 0;
}

static struct section *add_section(struct plan *p, const char *name, uint64_t bytes,
                                   uint32_t flags, const struct qs_writer *w)
{
        struct section *s = &p->toc.section[p->toc.count++];

        strcpy(s->name, name);
        s->offset = p->state << w->cluster_bits;
        s->bytes = bytes;
        s->flags = flags;
        return s;
}

static int place_sections(struct plan *p, struct qs_writer *w)
{
        for (unsigned i = 0; i < w->sections; i++) {
                uint64_t n = layout_clusters(w->section[i].bytes, w->cluster_bits);

                add_section(p, w->section[i].name, w->section[i].bytes, 0, w);
                p->section_at[i] = n ? take(w, n, 1) : 1;
                if (!p->section_at[i] || map(p, w, p->state, p->section_at[i], n) < 0)
                        return -ENOMEM;
                p->state += n;
        }
        return 0;
}

/* Does the base have the same table? Then where it and its sums are. */
static int find_shared(struct plan *p, const struct qs_writer *w, uint64_t i, struct err *e)
{
        struct qs_image *base = w->pool->latest;
        const struct section *sums = sectoc_find(&base->toc, LAYOUT_CHECKSUMS);
        uint64_t first = (sums->offset + sumtree_blocks_at(sums->bytes / 8, w->cluster_bits)) >>
                         w->cluster_bits;
        const uint64_t *table;
        uint64_t offset, block;
        int rc = image_l2_table(base, i, &table, &offset, e);

        if (rc < 0 || offset == 0 || memcmp(table, disk_table(w, i), w->cluster_bytes) != 0)
                return rc;
        rc = image_state_locate(base, first + i, &block, e);
        if (rc == 0) {
                p->shared[i] = 1;
                p->l2_at[i] = offset >> w->cluster_bits;
                p->block_at[i] = block >> w->cluster_bits;
        }
        return rc;
}

static int find_all_shared(struct plan *p, const struct qs_writer *w, struct err *e)
{
        int rc = 0;

        for (uint64_t i = 0; rc == 0 && w->pool && i < w->disk_l1; i++) {
                if (disk_table(w, i))
                        rc = find_shared(p, w, i, e);
        }
        return rc < 0 ? err_in(e, rc, "image '%s'", w->pool->path) : 0;
}

/* Each table that is there: a new cluster, or one more reference to the base's. */
static int place_tables(struct plan *p, struct qs_writer *w, uint64_t *at, uint32_t refs)
{
        for (uint64_t i = 0; i < w->disk_l1; i++) {
                if (!disk_table(w, i))
                        continue;
                if (p->shared[i])
                        w->space.refs[at[i]] += refs;
                else
                        at[i] = take(w, 1, refs);
                if (!at[i])
                        return -ENOMEM;
        }
        return 0;
}

static int place_disk(struct plan *p, struct qs_writer *w)
{
        uint64_t sums = layout_clusters(w->options.disk_bytes, w->cluster_bits);
        uint64_t first = sumtree_blocks_at(sums, w->cluster_bits) >> w->cluster_bits;

        add_section(p, LAYOUT_CHECKSUMS, sums * 8, SECTION_TREE, w);
        p->checksums_at = take(w, first, 1);
        if (!p->checksums_at || map(p, w, p->state, p->checksums_at, first) < 0 ||
            place_tables(p, w, p->block_at, 1) < 0)
                return -ENOMEM;
        for (uint64_t i = 0; i < w->disk_l1; i++) {
                if (p->block_at[i] && map(p, w, p->state + first + i, p->block_at[i], 1) < 0)
                        return -ENOMEM;
        }
        p->state += sumtree_extent(sums, w->cluster_bits) >> w->cluster_bits;
        return place_tables(p, w, p->l2_at, 2);         /* active layer and snapshot */
}

/* How long HOSTSUMS is depends on where L1 and L2 tables of the VM state are, and
 * how many these are on how long it is. */
static int size_hostsums(struct plan *p, struct qs_writer *w)
{
        unsigned bits = w->cluster_bits;
        uint64_t covered = w->space.end;

        for (;;) {
                uint64_t extent = sumtree_extent(covered, bits) >> bits;
                uint64_t tables = 0;

                if (map(p, w, p->state, 0, extent) < 0)
                        return -ENOMEM;
                for (uint64_t i = 0; i < p->state_l1; i++)
                        tables += p->state_tables[i] != NULL;
                p->l1_entries = w->disk_l1 + DIV_ROUND_UP(p->state + extent,
                                                          layout_l2_entries(bits));
                p->hostsums = covered;
                covered = w->space.end + tables + layout_clusters(p->l1_entries * 8, bits);
                if (covered <= p->hostsums)
                        return grow_tables(p, p->l1_entries - w->disk_l1);
                covered = MAX(covered, p->hostsums);
        }
}

static int place_state_tables(struct plan *p, struct qs_writer *w)
{
        p->state_l2_at = calloc(p->state_l1, sizeof(*p->state_l2_at));
        for (uint64_t i = 0; p->state_l2_at && i < p->state_l1; i++) {
                if (p->state_tables[i] && !(p->state_l2_at[i] = take(w, 1, 1)))
                        return -ENOMEM;
        }
        p->l1_at = take(w, layout_clusters(p->l1_entries * 8, w->cluster_bits), 1);
        ASSERT(!p->l1_at || w->space.end <= p->hostsums);
        return p->state_l2_at && p->l1_at ? 0 : -ENOMEM;
}

static int place_guarded(struct plan *p, struct qs_writer *w)
{
        int rc = map(p, w, 0, 0, 1);            /* the section table's, placed later */

        if (rc == 0)
                rc = place_sections(p, w);
        if (rc == 0)
                rc = place_disk(p, w);
        if (rc == 0)
                rc = size_hostsums(p, w);
        return rc < 0 ? rc : place_state_tables(p, w);
}

int plan_init(struct plan *p, struct qs_writer *w, struct err *e)
{
        *p = (struct plan){ .state = 1 };
        p->block_at = calloc(w->disk_l1, sizeof(*p->block_at));
        p->l2_at = calloc(w->disk_l1, sizeof(*p->l2_at));
        p->shared = calloc(w->disk_l1, sizeof(*p->shared));
        if (!p->block_at || !p->l2_at || !p->shared)
                return no_memory(e);

        int rc = find_all_shared(p, w, e);

        if (rc < 0)
                return rc;
        return place_guarded(p, w) < 0 ? no_memory(e) : 0;
}

/* Where the base's block is; 0 = it has none, or clusters of it were given out. */
static int base_block(const struct qs_writer *w, uint64_t i, uint64_t *ret, struct err *e)
{
        *ret = 0;
        if (!w->pool || w->space.touched[i])
                return 0;

        struct qs_image *base = w->pool->latest;
        const struct section *s = sectoc_find(&base->toc, LAYOUT_HOSTSUMS);
        uint64_t first = (s->offset + sumtree_blocks_at(s->bytes / 8, w->cluster_bits)) >>
                         w->cluster_bits;
        uint64_t offset = 0;

        if (i >= sumtree_blocks(s->bytes / 8, w->cluster_bits))
                return 0;

        int rc = image_state_locate(base, first + i, &offset, e);

        *ret = offset >> w->cluster_bits;
        return rc;
}

/* Taking a cluster for one block may touch another one. */
static int place_blocks(struct plan *p, struct qs_writer *w, uint64_t blocks)
{
        bool again = true;

        while (again) {
                again = false;
                for (uint64_t i = 0; i < blocks; i++) {
                        if (p->hostsums_block_at[i] &&
                            !(p->hostsums_shared[i] && w->space.touched[i]))
                                continue;
                        p->hostsums_shared[i] = 0;
                        p->hostsums_block_at[i] = take(w, 1, 1);
                        if (!p->hostsums_block_at[i])
                                return -ENOMEM;
                        w->space.sums[p->hostsums_block_at[i]] = 0;
                        again = true;
                }
        }
        return 0;
}

static int map_sums(struct plan *p, struct qs_writer *w, uint64_t first, uint64_t blocks)
{
        if (map(p, w, 0, p->toc_at, 1) < 0 || map(p, w, p->state, p->hostsums_at, first) < 0)
                return -ENOMEM;
        for (uint64_t i = 0; i < blocks; i++) {
                if (p->hostsums_shared[i])
                        w->space.refs[p->hostsums_block_at[i]]++;
                if (map(p, w, p->state + first + i, p->hostsums_block_at[i], 1) < 0)
                        return -ENOMEM;
        }
        p->state += first + blocks;
        p->state_bytes = p->state << w->cluster_bits;
        return 0;
}

static int place_sums(struct plan *p, struct qs_writer *w, uint64_t blocks)
{
        uint64_t first = sumtree_blocks_at(p->hostsums, w->cluster_bits) >> w->cluster_bits;

        p->hostsums_at = take(w, first, 1);
        if (!p->hostsums_at || place_blocks(p, w, blocks) < 0)
                return -ENOMEM;
        p->toc_at = take(w, 1, 1);
        if (!p->toc_at || place_blocks(p, w, blocks) < 0)
                return -ENOMEM;
        for (uint64_t i = 0; i < first; i++)
                w->space.sums[p->hostsums_at + i] = 0;
        w->space.sums[p->toc_at] = 0;
        return map_sums(p, w, first, blocks);
}

int plan_sums(struct plan *p, struct qs_writer *w, struct err *e)
{
        uint64_t blocks = sumtree_blocks(p->hostsums, w->cluster_bits);
        int rc = space_reserve(&w->space, blocks << (w->cluster_bits - 3), e);

        if (rc < 0)
                return rc;
        add_section(p, LAYOUT_HOSTSUMS, p->hostsums * 8, SECTION_TREE, w);
        p->hostsums_block_at = calloc(blocks, sizeof(*p->hostsums_block_at));
        p->hostsums_shared = calloc(blocks, sizeof(*p->hostsums_shared));
        if (!p->hostsums_block_at || !p->hostsums_shared)
                return no_memory(e);
        for (uint64_t i = 0; rc == 0 && i < blocks; i++) {
                rc = base_block(w, i, &p->hostsums_block_at[i], e);
                p->hostsums_shared[i] = p->hostsums_block_at[i] != 0;
        }
        if (rc < 0)
                return err_in(e, rc, "image '%s'", w->pool->path);
        return place_sums(p, w, blocks) < 0 ? no_memory(e) : 0;
}
