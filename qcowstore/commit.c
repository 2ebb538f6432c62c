/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/commit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "qcowstore/emit.h"
#include "qcowstore/l2entry.h"
#include "qcowstore/metasum.h"
#include "qcowstore/sum.h"

/* Where all of it goes. */
struct places {
        uint64_t *area;                 /* host cluster of each of the pool area; 0 = none */
        uint64_t area_clusters;
        uint64_t new_at[QS_SECTIONS_MAX];       /* of each new section */
        struct sectoc toc;
        uint64_t area_l2s;
        uint64_t *l1;                   /* the active layer's, as entries */
        uint64_t l1_entries;
        uint64_t l1_at;
        uint64_t snaptable_at;
        uint8_t *snaptable;
        uint64_t snaptable_bytes;
        uint64_t reftable_at;
        uint64_t reftable_clusters;
        uint64_t *refblocks;            /* host cluster of each */
        uint64_t n_refblocks;
        uint8_t *moved;                 /* it is written anew */
};

static void places_fini(struct places *p)
{
        free(p->area);
        free(p->l1);
        free(p->snaptable);
        free(p->refblocks);
        free(p->moved);
}

/* n clusters that nothing else refers to; 0 = no memory */
static uint64_t take(struct commit *c, uint64_t n)
{
        uint64_t first = space_take(c->space, n);

        for (uint64_t i = 0; first && i < n; i++)
                c->space->refs[first + i] = 1;
        return first;
}

static uint64_t section_clusters(const struct commit *c, const struct area_section *a)
{
        return layout_clusters(a->kept ? a->kept->bytes : a->bytes, c->space->cluster_bits);
}

static void describe_section(const struct commit *c, struct places *p, unsigned i, uint64_t at)
{
        const struct area_section *a = &c->area[i];
        struct section *s = &p->toc.section[p->toc.count++];

        if (a->kept) {
                *s = *a->kept;
        } else {
                memcpy(s->name, a->name, sizeof(s->name));
                s->bytes = a->bytes;
                s->sum = sum_bytes(a->data, a->bytes, c->header.hash_seed);
        }
        s->offset = at << c->space->cluster_bits;
}

/* Clusters from `at` on of the area: kept ones stay where they are. */
static int place_section(struct commit *c, struct places *p, unsigned i, uint64_t at)
{
        const struct area_section *a = &c->area[i];
        uint64_t n = section_clusters(c, a);

        describe_section(c, p, i, at);
        if (!a->kept) {
                p->new_at[i] = n ? take(c, n) : 1;
                for (uint64_t k = 0; k < n; k++)
                        p->area[at + k] = p->new_at[i] + k;
                return p->new_at[i] ? 0 : -ENOMEM;
        }
        for (uint64_t k = 0; k < n; k++) {
                uint64_t host = c->pool->area[(a->kept->offset >> c->space->cluster_bits) + k];

                p->area[at + k] = host;
                c->space->refs[host]++;
        }
        return 0;
}

static int place_area(struct commit *c, struct places *p)
{
        uint64_t at = 1;
        int rc = 0;

        if (c->n_area == 0)
                return 0;
        p->area_clusters = 1;
        for (unsigned i = 0; i < c->n_area; i++)
                p->area_clusters += section_clusters(c, &c->area[i]);
        p->area_l2s = DIV_ROUND_UP(p->area_clusters, layout_l2_entries(c->space->cluster_bits));
        p->area = calloc(p->area_clusters, sizeof(*p->area));
        if (!p->area)
                return -ENOMEM;
        for (unsigned i = 0; rc == 0 && i < c->n_area; i++) {
                rc = place_section(c, p, i, at);
                at += section_clusters(c, &c->area[i]);
        }
        p->area[0] = rc == 0 ? take(c, 1) : 0;
        return p->area[0] ? 0 : -ENOMEM;
}

static int place_l1(struct commit *c, struct places *p)
{
        unsigned bits = c->space->cluster_bits;

        p->l1_entries = c->disk_l1_entries + p->area_l2s;
        p->l1 = calloc(p->l1_entries, sizeof(*p->l1));
        if (!p->l1)
                return -ENOMEM;
        memcpy(p->l1, c->disk_l1, c->disk_l1_entries * sizeof(*p->l1));
        for (uint64_t i = 0; i < p->area_l2s; i++) {
                uint64_t at = take(c, 1);

                if (at == 0)
                        return -ENOMEM;
                p->l1[c->disk_l1_entries + i] = at << bits | L2ENTRY_COPIED;
        }
        p->l1_at = take(c, layout_clusters(p->l1_entries * 8, bits));
        return p->l1_at ? 0 : -ENOMEM;
}

static int place_snaptable(struct commit *c, struct places *p)
{
        p->snaptable = malloc((size_t)c->n_snapshots * LAYOUT_SNAPSHOT_BYTES_MAX);
        if (!p->snaptable)
                return -ENOMEM;
        for (unsigned i = 0; i < c->n_snapshots; i++)
                p->snaptable_bytes += snaptable_encode(&c->snapshots[i],
                                                       p->snaptable + p->snaptable_bytes);
        p->snaptable_at = take(c, layout_clusters(p->snaptable_bytes, c->space->cluster_bits));
        return p->snaptable_at ? 0 : -ENOMEM;
}

static uint64_t refs_per_block(const struct commit *c)
{
        return layout_refblock_entries(c->space->cluster_bits, LAYOUT_REFCOUNT_ORDER);
}

/* as published; 0 = there is none */
static uint64_t old_refblock(const struct commit *c, uint64_t i)
{
        return c->pool && i < c->pool->reftable_entries
               ? c->pool->reftable[i] >> c->space->cluster_bits : 0;
}

static bool block_changed(const struct commit *c, uint64_t i)
{
        uint64_t n = refs_per_block(c);

        return !old_refblock(c, i) ||
               memcmp(c->space->refs + i * n, c->pool->refs + i * n, n * sizeof(uint32_t)) != 0;
}

static int move_refblock(struct commit *c, struct places *p, uint64_t i)
{
        uint64_t old = old_refblock(c, i);

        if (old)
                c->space->refs[old]--;
        p->refblocks[i] = take(c, 1);
        p->moved[i] = 1;
        return p->refblocks[i] ? 0 : -ENOMEM;
}

static int grow_refblocks(const struct commit *c, struct places *p, uint64_t n)
{
        uint64_t *more = reallocarray(p->refblocks, n, sizeof(*more));

        if (more)
                p->refblocks = more;

        uint8_t *moved = more ? realloc(p->moved, n) : NULL;

        if (!moved)
                return -ENOMEM;
        p->moved = moved;
        for (; p->n_refblocks < n; p->n_refblocks++) {
                more[p->n_refblocks] = old_refblock(c, p->n_refblocks);
                moved[p->n_refblocks] = 0;
        }
        return 0;
}

/* A block that moves changes two counts, perhaps in blocks that had not changed,
 * and may make the file longer: until nothing changes any more. */
static int move_refblocks(struct commit *c, struct places *p)
{
        bool again = true;

        while (again) {
                uint64_t n = MAX(DIV_ROUND_UP(c->space->end, refs_per_block(c)),
                                 c->pool ? c->pool->reftable_entries : 0);
                int rc = grow_refblocks(c, p, n);

                again = false;
                for (uint64_t i = 0; rc == 0 && i < n; i++) {
                        if (p->moved[i] || !block_changed(c, i))
                                continue;
                        rc = move_refblock(c, p, i);
                        again = true;
                }
                if (rc < 0)
                        return rc;
        }
        return 0;
}

/* The table has room for some more blocks than there seem to be, as counting
 * them may make some. */
static int place_refcounts(struct commit *c, struct places *p, struct err *e)
{
        unsigned bits = c->space->cluster_bits;
        uint64_t blocks = DIV_ROUND_UP(c->space->end, refs_per_block(c)) + 4;

        if (c->pool)
                blocks = MAX(blocks, c->pool->reftable_entries + 4);
        /* all blocks may move to the end of the file, and those that count them */
        blocks += 2 * blocks / refs_per_block(c);
        p->reftable_clusters = layout_clusters(blocks * 8, bits);
        p->reftable_at = take(c, p->reftable_clusters);

        int rc = p->reftable_at ? move_refblocks(c, p) : -ENOMEM;

        if (rc < 0)
                return err_set(e, -rc, "place refcounts");
        ASSERT(p->n_refblocks * 8 <= p->reftable_clusters << bits);
        if (p->n_refblocks * 8 > LAYOUT_REFTABLE_BYTES_MAX)
                return err_msg(e, EFBIG, "the file becomes too large for clusters of %u KiB: "
                               "choose larger ones", 1u << (bits - 10));
        return 0;
}

static int place_all(struct commit *c, struct places *p, struct err *e)
{
        int rc = place_area(c, p);

        if (rc == 0)
                rc = place_l1(c, p);
        if (rc == 0)
                rc = place_snaptable(c, p);
        if (rc < 0)
                return err_set(e, -rc, "place tables");
        if (p->l1_entries > LAYOUT_L1_ENTRIES_MAX)
                return err_msg(e, EFBIG, "the index of the pool is too large");
        return place_refcounts(c, p, e);
}

/* Table i of the pool area, as entries. */
static void make_area_l2(const struct commit *c, const struct places *p, uint64_t i,
                         uint64_t *table)
{
        uint64_t n = layout_l2_entries(c->space->cluster_bits);

        for (uint64_t k = 0; k < n; k++) {
                uint64_t host = i * n + k < p->area_clusters ? p->area[i * n + k] : 0;

                table[k] = host ? host << c->space->cluster_bits | L2ENTRY_COPIED : 0;
        }
}

static void emit_area(const struct commit *c, const struct places *p, struct emit *s,
                      uint64_t *table)
{
        uint8_t toc[SECTOC_BYTES];
        unsigned bits = c->space->cluster_bits;

        for (unsigned i = 0; i < c->n_area; i++) {
                if (!c->area[i].kept)
                        emit_bytes(s, p->new_at[i], c->area[i].data, c->area[i].bytes, UNGUARDED);
        }
        if (p->area_clusters) {
                sectoc_encode(&p->toc, toc);
                emit_bytes(s, p->area[0], toc, sizeof(toc), UNGUARDED);
        }
        for (uint64_t i = 0; i < p->area_l2s; i++) {
                make_area_l2(c, p, i, table);
                emit_words(s, (p->l1[c->disk_l1_entries + i] & ~L2ENTRY_COPIED) >> bits, table,
                           layout_l2_entries(bits), BIG_ENDIAN_WORDS, UNGUARDED);
        }
}

static int emit_all(const struct commit *c, const struct places *p, struct emit *s)
{
        unsigned bits = c->space->cluster_bits;
        AUTO_FREE uint64_t *reftable = calloc(p->n_refblocks, sizeof(*reftable));
        AUTO_FREE uint64_t *table = malloc(layout_cluster_bytes(bits));

        if (!reftable || !table)
                return -ENOMEM;
        emit_area(c, p, s, table);
        emit_words(s, p->l1_at, p->l1, p->l1_entries, BIG_ENDIAN_WORDS, UNGUARDED);
        emit_bytes(s, p->snaptable_at, p->snaptable, p->snaptable_bytes, UNGUARDED);
        for (uint64_t i = 0; i < p->n_refblocks; i++)
                reftable[i] = p->refblocks[i] << bits;
        emit_words(s, p->reftable_at, reftable, p->n_refblocks, BIG_ENDIAN_WORDS, UNGUARDED);
        for (uint64_t i = 1; i < p->reftable_clusters; i++) {
                if (i << (bits - 3) >= p->n_refblocks)
                        emit_bytes(s, p->reftable_at + i, "", 1, UNGUARDED);
        }
        for (uint64_t i = 0; i < p->n_refblocks; i++) {
                if (p->moved[i])
                        emit_refs(s, p->refblocks[i], c->space->refs + i * refs_per_block(c));
        }
        return emit_end(s);
}

/* n words, as they are stored, and zeros up to a number of clusters */
static void sum_words(struct metasum *m, const uint64_t *words, uint64_t n, uint64_t clusters,
                      unsigned bits)
{
        for (uint64_t i = 0; i < clusters << (bits - 3); i++) {
                uint64_t v = i < n ? htobe64(words[i]) : 0;

                metasum_add(m, &v, sizeof(v));
        }
}

static int sum_tables(const struct commit *c, const struct places *p, uint64_t *ret)
{
        unsigned bits = c->space->cluster_bits;
        struct metasum *m = metasum_new(c->header.hash_seed);
        AUTO_FREE uint64_t *words = malloc(MAX(layout_cluster_bytes(bits), p->n_refblocks * 8));

        if (!m || !words) {
                metasum_free(m);
                return -ENOMEM;
        }
        for (uint64_t i = 0; i < p->n_refblocks; i++)
                words[i] = p->refblocks[i] << bits;
        sum_words(m, words, p->n_refblocks, p->reftable_clusters, bits);
        for (uint64_t i = 0; i < p->n_refblocks * refs_per_block(c); i++) {
                uint32_t v = htobe32(c->space->refs[i]);

                metasum_add(m, &v, sizeof(v));
        }
        sum_words(m, p->l1, p->l1_entries, layout_clusters(p->l1_entries * 8, bits), bits);
        for (uint64_t i = 0; i < p->area_l2s; i++) {
                make_area_l2(c, p, i, words);
                sum_words(m, words, layout_l2_entries(bits), 1, bits);
        }
        *ret = metasum_get(m);
        metasum_free(m);
        return 0;
}

static void fill_header(struct commit *c, const struct places *p)
{
        struct imghdr *h = &c->header;
        unsigned bits = c->space->cluster_bits;
        uint8_t toc[SECTOC_BYTES];

        sectoc_encode(&p->toc, toc);
        h->version = 3;
        h->format_version = LAYOUT_FORMAT_VERSION;
        h->refcount_order = LAYOUT_REFCOUNT_ORDER;
        h->l1_offset = p->l1_at << bits;
        h->l1_entries = (uint32_t)p->l1_entries;
        h->reftable_offset = p->reftable_at << bits;
        h->reftable_clusters = (uint32_t)p->reftable_clusters;
        h->snaptable_offset = p->snaptable_at << bits;
        h->snapshots = c->n_snapshots;
        h->default_snapshot = c->n_snapshots - 1;               /* INV-LATEST */
        h->snaptable_sum = sum_bytes(p->snaptable, p->snaptable_bytes, h->hash_seed);
        h->pool_sum = c->n_area ? sum_bytes(toc, sizeof(toc), h->hash_seed) : 0;
        h->file_bytes = c->space->end << bits;
}

int commit_write(struct commit *c, struct err *e)
{
        struct places p = { 0 };
        struct emit s = { 0 };
        int rc = place_all(c, &p, e);

        if (rc == 0) {
                rc = emit_init(&s, c->fd, c->space, c->header.hash_seed);
                if (rc == 0)
                        rc = emit_all(c, &p, &s);
                if (rc == 0)
                        rc = sum_tables(c, &p, &c->header.meta_sum);
                if (rc == 0)
                        fill_header(c, &p);
                else
                        rc = c->write_error(c->ctx, rc, e);
                emit_fini(&s);
        }
        places_fini(&p);
        return rc;
}
