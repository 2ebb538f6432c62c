/* SPDX-License-Identifier: Apache-2.0 */
/* from guest addresses to places in files */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "qcowstore/image-priv.h"

/* An L2 entry: its words, host-endian; bitmap only when extended. */
struct slot {
        uint64_t v;
        uint64_t bitmap;
};

static unsigned words_per_slot(const struct qs_image *m)
{
        return m->hdr.extended_l2 ? 2 : 1;
}

static struct slot slot_at(const struct qs_image *m, const uint64_t *table, uint64_t i)
{
        if (m->hdr.extended_l2)
                return (struct slot){ table[2 * i], table[2 * i + 1] };
        return (struct slot){ table[i], 0 };
}

static const char *decode(const struct qs_image *m, struct slot s, struct l2entry *ret)
{
        if (m->hdr.extended_l2)
                return l2entry_decode_extended(s.v, s.bitmap, m->hdr.cluster_bits, m->bound, ret);
        return l2entry_decode(s.v, m->hdr.cluster_bits, m->bound, ret);
}

static int validate(const struct qs_image *m, uint64_t *table, struct err *e)
{
        for (uint64_t i = 0; i < words_per_slot(m) << m->hdr.l2_bits; i++)
                table[i] = be64toh(table[i]);
        for (uint64_t i = 0; i < 1ull << m->hdr.l2_bits; i++) {
                struct l2entry entry;
                const char *wrong = decode(m, slot_at(m, table, i), &entry);

                /* we write it only to hide a parent's data */
                if (!wrong && entry.kind == L2_ZERO && m->hdr.format_version && !m->parent_name)
                        wrong = "an L2 entry has the ZERO bit";
                if (wrong)
                        return err_msg(e, EBADMSG, "%s", wrong);
        }
        return 0;
}

/* Several threads may load the same table; the first one to publish wins. */
static int load_l2(struct qs_image *m, uint64_t l1, uint64_t **ret, struct err *e)
{
        AUTO_FREE uint64_t *table = malloc(m->cluster_bytes);
        uint64_t *present = NULL;

        if (!table)
                return err_set(e, ENOMEM, "read an L2 table");

        int rc = m->hdr.format_version
                 ? image_pread_verified(m, table, m->l1[l1], 1, "an L2 table", e)
                 : image_pread_data(m, table, m->cluster_bytes, m->l1[l1], e);

        if (rc == 0)
                rc = validate(m, table, e);
        if (rc < 0)
                return rc;
        if (atomic_compare_exchange_strong(&m->l2[l1], &present, table))
                *ret = ptr_take(&table);
        else
                *ret = present;
        return 0;
}

/* m->l1[l1] leads to a table */
static int l2_slot(struct qs_image *m, uint64_t l1, uint64_t cluster, struct slot *ret,
                   struct err *e)
{
        uint64_t *table = atomic_load_explicit(&m->l2[l1], memory_order_acquire);

        if (!table) {
                int rc = load_l2(m, l1, &table, e);

                if (rc < 0)
                        return rc;
        }
        *ret = slot_at(m, table, cluster & ((1ull << m->hdr.l2_bits) - 1));
        return 0;
}

/* No L2 table: all that it would cover is unallocated. L2 table n and block n
 * of CHECKSUMS speak of the same clusters. */
static int hole(struct qs_image *m, uint64_t at, uint64_t max, struct extent *x, struct err *e)
{
        unsigned bits = m->hdr.cluster_bits + m->hdr.l2_bits;

        if (m->checksums && !sumtree_block_empty(m->checksums, x->cluster))
                return err_msg(e, EBADMSG, "L1 table and CHECKSUMS disagree");
        x->kind = L2_NONE;
        x->bytes = MIN(max, (((at >> bits) + 1) << bits) - at);
        return 0;
}

/* The run of subclusters of one kind that the stretch starts in. */
static void narrow_to_subclusters(const struct qs_image *m, const struct l2entry *entry,
                                  uint64_t bitmap, struct extent *x)
{
        unsigned bits = m->hdr.cluster_bits - 5;
        unsigned i = (unsigned)(x->skip >> bits);
        unsigned end = i + 1;

        x->kind = l2entry_sub_kind(entry, bitmap, i);
        while (end < L2SUB_COUNT && l2entry_sub_kind(entry, bitmap, end) == x->kind)
                end++;
        x->bytes = MIN(x->bytes, ((uint64_t)end << bits) - x->skip);
}

/* INV-VERIFIED needs both guardians: one is zero when and only when the other
 * has no data. */
static int check_sum_agrees(struct qs_image *m, const struct extent *x, struct err *e)
{
        uint64_t sum;
        int rc = sumtree_get(m->checksums, x->cluster, &sum, e);

        if (rc == 0 && (x->kind == L2_RAW || x->kind == L2_PACKED) != (sum != 0))
                return err_msg(e, EBADMSG, "L2 table and CHECKSUMS disagree");
        return rc;
}

/* at + max lies within the layer's disk */
static int layer_extent(struct qs_image *m, uint64_t at, uint64_t max, struct extent *x,
                        struct err *e)
{
        uint64_t cluster = at >> m->hdr.cluster_bits;
        uint64_t l1 = cluster >> m->hdr.l2_bits;
        struct slot slot;
        struct l2entry entry;

        *x = (struct extent){ .layer = m, .cluster = cluster,
                              .skip = at & (m->cluster_bytes - 1) };
        if (l1 >= m->l1_used || m->l1[l1] == 0)
                return hole(m, at, max, x, e);

        int rc = l2_slot(m, l1, cluster, &slot, e);

        if (rc < 0)
                return rc;

        const char *wrong = decode(m, slot, &entry);

        ASSERT(!wrong);
        ASSERT(entry.bytes <= 2 * m->cluster_bytes);
        x->kind = entry.kind;
        x->bytes = MIN(max, m->cluster_bytes - x->skip);
        x->offset = entry.kind == L2_RAW ? entry.offset + x->skip : entry.offset;
        x->stream_bytes = entry.bytes;
        if (m->hdr.extended_l2)
                narrow_to_subclusters(m, &entry, slot.bitmap, x);
        return m->checksums ? check_sum_agrees(m, x, e) : 0;
}

int image_extent(struct qs_image *m, uint64_t at, uint64_t max, struct extent *ret,
                 struct err *e)
{
        const struct qs_image *top = m;

        ASSERT(max > 0);
        if (m->legacy) {                /* unknown, and read another way */
                *ret = (struct extent){ .kind = L2_RAW, .layer = m, .bytes = max, .offset = at };
                return 0;
        }
        for (; m; m = m->parent) {
                if (at >= m->disk_bytes)        /* shorter than its child */
                        break;

                int rc = layer_extent(m, at, MIN(max, m->disk_bytes - at), ret, e);

                if (rc < 0)
                        return m == top ? rc : err_in(e, rc, "parent '%s'", m->path);
                if (ret->kind != L2_NONE)
                        return 0;
                max = ret->bytes;
        }
        *ret = (struct extent){ .kind = L2_ZERO, .bytes = max };
        return 0;
}
