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

/* Where a walk is, for its findings. */
struct walk {
        struct audit *a;
        const char *what;               /* "the active layer", ... */
        bool active;
        uint64_t first_cluster;         /* of the L2 table at hand */
};

static void count(struct audit *a, uint64_t offset, uint64_t bytes, enum audit_role role)
{
        unsigned bits = a->image->hdr.cluster_bits;

        for (uint64_t i = offset >> bits; bytes && i <= (offset + bytes - 1) >> bits; i++) {
                ASSERT(i < a->clusters);        /* the places were checked before */
                if (a->refs[i] < UINT32_MAX)
                        a->refs[i]++;
                a->role[i] = MAX(a->role[i], role);
        }
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
        count(a, offset, m->cluster_bytes, ROLE_GUARDED_ELSEWHERE);
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
        count(a, m->hdr.reftable_offset, bytes, ROLE_GUARDED_ELSEWHERE);
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
        count(a, entry.offset, entry.bytes, ROLE_DATA);
        if (entry.kind != L2_PACKED)
                check_copied(w, entry.offset, entry.copied, "the cluster");
        if (w->active)
                a->used += entry.kind != L2_ZERO;
}

static int walk_l2(const struct walk *w, uint64_t offset, uint8_t *table, struct err *e)
{
        struct audit *a = w->a;
        const struct qs_image *m = a->image;
        struct err why = { 0 };
        int rc = m->hdr.format_version
                 ? image_pread(m, table, m->cluster_bytes, offset, "an L2 table", &why)
                 : image_pread_data(m, table, m->cluster_bytes, offset, &why);

        if (rc < 0)
                return audit_absorb(a, rc, &why, e);
        count(a, offset, m->cluster_bytes, ROLE_TABLE);
        for (uint64_t i = 0; i < 1ull << m->hdr.l2_bits; i++) {
                const uint8_t *p = table + i * (m->hdr.extended_l2 ? 16 : 8);
                uint64_t v = get_be64(p);
                uint64_t bitmap = m->hdr.extended_l2 ? get_be64(p + 8) : 0;

                if (v || bitmap)
                        walk_l2_entry(w, i, v, bitmap);
        }
        return 0;
}

static int walk_l1_entry(struct walk *w, uint64_t i, uint64_t v, uint8_t *table, struct err *e)
{
        struct audit *a = w->a;
        unsigned bits = a->image->hdr.cluster_bits;
        uint64_t offset;
        const char *wrong = l1entry_decode(v, bits, a->image->bound, &offset);

        /* also keeps a file of few bytes from being walked for years */
        if (!wrong && offset && a->seen[offset >> bits]++)
                wrong = "an L2 table is used twice";
        if (wrong) {
                audit_find(a, AUDIT_CORRUPTION, "%s, L1 entry %llu: %s", w->what, (ull)i, wrong);
                return 0;
        }
        if (offset == 0)
                return 0;
        check_copied(w, offset, v & L2ENTRY_COPIED, "the L2 table");
        w->first_cluster = i << a->image->hdr.l2_bits;
        return walk_l2(w, offset, table, e);
}

static int walk_l1(struct walk *w, uint64_t offset, uint32_t entries, struct err *e)
{
        struct audit *a = w->a;
        const struct qs_image *m = a->image;
        AUTO_FREE uint8_t *l1 = malloc(entries * 8ull + 1);
        AUTO_FREE uint8_t *table = malloc(m->cluster_bytes);
        struct err why = { 0 };

        if (!l1 || !table)
                return err_set(e, ENOMEM, "check '%s'", m->path);

        int rc = image_pread(m, l1, entries * 8ull, offset, "an L1 table", &why);

        if (rc < 0)
                return audit_absorb(a, rc, &why, e);
        memset(a->seen, 0, a->clusters);
        count(a, offset, entries * 8ull, w->active ? ROLE_GUARDED_ELSEWHERE : ROLE_TABLE);
        for (uint32_t i = 0; rc == 0 && i < entries; i++) {
                rc = walk_l1_entry(w, i, get_be64(l1 + i * 8ull), table, e);
                if (rc == 0)
                        rc = tally_add(&a->tally, m->cluster_bytes, e);
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
        struct walk active = { a, "the active layer", true, 0 };
        int rc = load_refcounts(a, e);

        count(a, 0, m->cluster_bytes, ROLE_GUARDED_ELSEWHERE);
        count(a, m->hdr.snaptable_offset, m->snaptable_bytes, ROLE_GUARDED_ELSEWHERE);
        if (rc == 0)
                rc = walk_l1(&active, m->hdr.l1_offset, m->hdr.l1_entries, e);
        for (uint32_t i = 0; rc == 0 && i < m->hdr.snapshots; i++) {
                struct walk walk = { a, m->snapshots[i].tag, false, 0 };

                rc = walk_l1(&walk, m->snapshots[i].l1_offset, m->snapshots[i].l1_entries, e);
        }
        if (rc == 0)
                compare_refcounts(a);
        return rc;
}
