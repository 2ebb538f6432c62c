/* SPDX-License-Identifier: Apache-2.0 */
/* every reference of a file is followed and counted */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "qcowstore/audit.h"
#include "qcowstore/l2entry.h"

typedef unsigned long long ull;

/* An L1 table, and where we are in it, for findings. */
struct walk {
        struct audit *a;
        const char *what;               /* "the active layer", ... */
        bool active;
        uint8_t *l1;                    /* as it is stored */
        uint32_t entries;
        uint64_t first_cluster;         /* of the L2 table at hand */
        uint32_t weight;                /* ways to it */
};

static void count(struct audit *a, uint64_t offset, uint64_t bytes, uint32_t weight)
{
        unsigned bits = a->image->hdr.cluster_bits;

        for (uint64_t i = offset >> bits; bytes && i <= (offset + bytes - 1) >> bits; i++) {
                ASSERT(i < a->clusters);        /* the places were checked before */
                a->refs[i] += MIN(weight, UINT32_MAX - a->refs[i]);
        }
}

/* Once, and no tag's HOSTSUMS guards it. */
static void count_file(struct audit *a, uint64_t offset, uint64_t bytes)
{
        unsigned bits = a->image->hdr.cluster_bits;

        count(a, offset, bytes, 1);
        for (uint64_t i = offset >> bits; bytes && i <= (offset + bytes - 1) >> bits; i++)
                audit_mark(a, i, MARK_FILE);
}

/* Refcount i of a block of 2^order bits each. */
static uint64_t refcount_at(const uint8_t *block, uint64_t i, unsigned order)
{
        unsigned width = 1u << order;

        switch (order) {
        case 3: return block[i];
        case 4: return get_be16(block + 2 * i);
        case 5: return get_be32(block + 4 * i);
        case 6: return get_be64(block + 8 * i);
        default: return block[i * width / 8] >> (i * width % 8) & ((1u << width) - 1);
        }
}

static int load_refblock(struct audit *a, uint64_t i, uint64_t offset, uint8_t *block,
                         struct err *e)
{
        const struct qs_image *m = a->image;
        uint64_t n = layout_refblock_entries(m->hdr.cluster_bits, m->hdr.refcount_order);
        struct err why = { 0 };

        if (!IS_ALIGNED(offset, m->cluster_bytes) || offset >= m->bound) {
                audit_find(a, AUDIT_CORRUPTION, "refcount block %llu lies outside the file or "
                           "is not aligned", (ull)i);
                return 0;
        }

        int rc = image_pread(m, block, m->cluster_bytes, offset, "a refcount block", &why);

        if (rc < 0)
                return audit_absorb(a, rc, &why, e);
        count_file(a, offset, m->cluster_bytes);
        for (uint64_t k = 0; k < n; k++) {
                uint64_t refs = refcount_at(block, k, m->hdr.refcount_order);

                if (i * n + k < a->clusters)
                        a->stored[i * n + k] = (uint32_t)MIN(refs, UINT32_MAX);
                else if (refs)
                        audit_find(a, AUDIT_LEAK, "a cluster behind the end of the file has "
                                   "refcount %llu", (ull)refs);
        }
        return 0;
}

static int load_refcounts(struct audit *a, struct err *e)
{
        const struct qs_image *m = a->image;
        uint64_t bytes = (uint64_t)m->hdr.reftable_clusters << m->hdr.cluster_bits;
        AUTO_FREE uint8_t *table = malloc(bytes);
        AUTO_FREE uint8_t *block = malloc(m->cluster_bytes);
        struct err why = { 0 };

        if (!table || !block)
                return err_set(e, ENOMEM, "check '%s'", m->path);

        int rc = image_pread(m, table, bytes, m->hdr.reftable_offset, "the refcount table", &why);

        if (rc < 0)
                return audit_absorb(a, rc, &why, e);
        count_file(a, m->hdr.reftable_offset, bytes);
        for (uint64_t i = 0; rc == 0 && i < bytes / 8; i++) {
                uint64_t offset = get_be64(table + i * 8);

                if (offset)
                        rc = load_refblock(a, i, offset, block, e);
        }
        return rc;
}

/* COPIED promises QEMU that it may overwrite in place; only the active layer's
 * entries are believed. */
static void check_copied(const struct walk *w, uint64_t offset, bool copied, const char *what)
{
        struct audit *a = w->a;
        uint32_t refs = a->stored[offset >> a->image->hdr.cluster_bits];

        if (w->active && copied != (refs == 1))
                audit_find(a, AUDIT_CORRUPTION, "%s of %s at offset %llu has refcount %u but %s "
                           "marked COPIED", what, w->what, (ull)offset, refs,
                           copied ? "is" : "is not");
}

/* Clusters behind the disk's L1 entries are VM state. */
static void entry_wrong(const struct walk *w, uint64_t cluster, const char *wrong)
{
        const struct qs_image *m = w->a->image;
        uint64_t state = m->disk_l1 << m->hdr.l2_bits;

        if (cluster < state)
                audit_find(w->a, AUDIT_CORRUPTION, "%s, guest memory at %#llx: %s", w->what,
                           (ull)cluster << m->hdr.cluster_bits, wrong);
        else
                audit_find(w->a, AUDIT_CORRUPTION, "%s, VM state at %#llx: %s", w->what,
                           (ull)(cluster - state) << m->hdr.cluster_bits, wrong);
}

static void walk_l2_entry(const struct walk *w, uint64_t i, uint64_t v, uint64_t bitmap)
{
        struct audit *a = w->a;
        const struct qs_image *m = a->image;
        struct l2entry entry;
        const char *wrong = m->hdr.extended_l2
                            ? l2entry_decode_extended(v, bitmap, m->hdr.cluster_bits, m->bound,
                                                      &entry)
                            : l2entry_decode(v, m->hdr.cluster_bits, m->bound, &entry);

        if (wrong) {
                entry_wrong(w, w->first_cluster + i, wrong);
                return;
        }
        if (entry.offset == 0)
                return;
        count(a, entry.offset, entry.bytes, w->weight);
        if (entry.kind != L2_PACKED)
                check_copied(w, entry.offset, entry.copied, "the cluster");
        if (w->active)
                a->used += entry.kind != L2_ZERO;
}

static int walk_l2(const struct walk *w, uint64_t offset, uint8_t *table, struct err *e)
{
        const struct qs_image *m = w->a->image;
        struct err why = { 0 };
        int rc = m->hdr.format_version
                 ? image_pread(m, table, m->cluster_bytes, offset, "an L2 table", &why)
                 : image_pread_data(m, table, m->cluster_bytes, offset, &why);

        if (rc < 0)
                return audit_absorb(w->a, rc, &why, e);
        for (uint64_t i = 0; i < 1ull << m->hdr.l2_bits; i++) {
                const uint8_t *p = table + i * (m->hdr.extended_l2 ? 16 : 8);
                uint64_t v = get_be64(p);
                uint64_t bitmap = m->hdr.extended_l2 ? get_be64(p + 8) : 0;

                if (v || bitmap)
                        walk_l2_entry(w, i, v, bitmap);
        }
        return 0;
}

/* Where entry i leads to; 0 = nowhere, or nowhere in the file. */
static uint64_t l2_offset(const struct walk *w, uint64_t i, const char **ret_wrong)
{
        uint64_t offset = 0;

        *ret_wrong = l1entry_decode(get_be64(w->l1 + i * 8), w->a->image->hdr.cluster_bits,
                                    w->a->image->bound, &offset);
        return *ret_wrong ? 0 : offset;
}

static void count_l1_entry(const struct walk *w, uint64_t i)
{
        struct audit *a = w->a;
        unsigned bits = a->image->hdr.cluster_bits;
        const char *wrong;
        uint64_t offset = l2_offset(w, i, &wrong);

        /* also keeps a file of few bytes from being walked for years */
        if (offset && audit_mark(a, offset >> bits, MARK_L2_HERE) & MARK_L2_HERE)
                wrong = "an L2 table is used twice";
        if (wrong)
                audit_find(a, AUDIT_CORRUPTION, "%s, L1 entry %llu: %s", w->what, (ull)i, wrong);
        if (wrong || offset == 0)
                return;
        check_copied(w, offset, get_be64(w->l1 + i * 8) & L2ENTRY_COPIED, "the L2 table");
        count(a, offset, a->image->cluster_bytes, 1);
        a->ways[offset >> bits]++;
}

static void count_l1(const struct walk *w)
{
        struct audit *a = w->a;
        unsigned bits = a->image->hdr.cluster_bits;
        const char *wrong;

        for (uint32_t i = 0; i < w->entries; i++)
                count_l1_entry(w, i);
        for (uint32_t i = 0; i < w->entries; i++)
                a->marks[l2_offset(w, i, &wrong) >> bits] &= (uint8_t)~MARK_L2_HERE;
}

/* The tables that were not walked as another L1 table's. */
static int walk_l2s(struct walk *w, struct err *e)
{
        struct audit *a = w->a;
        unsigned bits = a->image->hdr.cluster_bits;
        AUTO_FREE uint8_t *table = malloc(a->image->cluster_bytes);
        int rc = table ? 0 : err_set(e, ENOMEM, "check '%s'", a->image->path);

        for (uint32_t i = 0; rc == 0 && i < w->entries; i++) {
                const char *wrong;
                uint64_t offset = l2_offset(w, i, &wrong);

                if (offset && !(audit_mark(a, offset >> bits, MARK_WALKED) & MARK_WALKED)) {
                        w->first_cluster = (uint64_t)i << a->image->hdr.l2_bits;
                        w->weight = a->ways[offset >> bits];
                        rc = walk_l2(w, offset, table, e);
                }
                if (rc == 0)
                        rc = tally_add(&a->tally, a->image->cluster_bytes, e);
        }
        return rc;
}

/* The active layer's L1 table, or that of snapshot i. What cannot be read is a
 * finding, the first time, and has no entries. */
static int read_l1(struct audit *a, const struct snapshot *s, bool first, struct walk *ret,
                   struct err *e)
{
        const struct qs_image *m = a->image;
        uint64_t offset = s ? s->l1_offset : m->hdr.l1_offset;
        uint64_t bytes = (s ? s->l1_entries : m->hdr.l1_entries) * 8ull;
        struct err why = { 0 };

        *ret = (struct walk){ .a = a, .what = s ? s->tag : "the active layer", .active = !s };
        ret->l1 = malloc(bytes + 1);
        if (!ret->l1)
                return err_set(e, ENOMEM, "check '%s'", m->path);

        int rc = image_pread(m, ret->l1, bytes, offset, "an L1 table", &why);

        if (rc == 0) {
                ret->entries = (uint32_t)(bytes / 8);
                if (first && s)
                        count(a, offset, bytes, 1);
                else if (first)
                        count_file(a, offset, bytes);
                return 0;
        }
        return rc == -EBADMSG && !first ? 0 : audit_absorb(a, rc, &why, e);
}

/* First all ways to L2 tables are counted, then the tables walked; the active
 * layer before all others, because of COPIED. */
static int walk_l1s(struct audit *a, bool first, struct err *e)
{
        const struct qs_image *m = a->image;
        int rc = 0;

        for (uint32_t i = 0; rc == 0 && i <= m->hdr.snapshots; i++) {
                struct walk w;

                rc = read_l1(a, i ? &m->snapshots[i - 1] : NULL, first, &w, e);
                if (rc == 0 && first)
                        count_l1(&w);
                else if (rc == 0)
                        rc = walk_l2s(&w, e);
                free(w.l1);
        }
        return rc;
}

static void compare_refcounts(struct audit *a)
{
        for (uint64_t i = 0; i < a->clusters; i++) {
                if (a->stored[i] < a->refs[i])
                        audit_find(a, AUDIT_CORRUPTION, "host cluster %llu has refcount %u but is "
                                   "used %u times", (ull)i, a->stored[i], a->refs[i]);
                else if (a->stored[i] > a->refs[i])
                        audit_find(a, AUDIT_LEAK, "host cluster %llu has refcount %u but is used "
                                   "%u times", (ull)i, a->stored[i], a->refs[i]);
        }
}

int audit_structure(struct audit *a, struct err *e)
{
        const struct qs_image *m = a->image;
        int rc = load_refcounts(a, e);

        count_file(a, 0, m->cluster_bytes);
        count_file(a, m->hdr.snaptable_offset, m->snaptable_bytes);
        if (rc == 0)
                rc = walk_l1s(a, true, e);
        if (rc == 0)
                rc = walk_l1s(a, false, e);
        if (rc == 0)
                compare_refcounts(a);
        return rc;
}
