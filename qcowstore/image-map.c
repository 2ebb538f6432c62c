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
                struct slot slot = slot_at(m, table, i);
                struct l2entry entry;

                if (!slot.v && !slot.bitmap)    /* of a delta nearly all are nothing */
                        continue;

                const char *wrong = decode(m, slot, &entry);

                /* we write it only to hide a parent's data */
                if (!wrong && entry.kind == L2_ZERO && m->hdr.format_version && !m->parent_name)
                        wrong = "an L2 entry has the ZERO bit";
                if (wrong)
                        return err_msg(e, EBADMSG, "%s", wrong);
        }
        return 0;
}

/* Reads a cluster of a table of entries; the caller frees *ret. */
static int read_table(struct qs_image *m, uint64_t offset, const char *what, uint64_t **ret,
                      struct err *e)
{
        AUTO_FREE uint64_t *table = malloc(m->cluster_bytes);

        if (!table)
                return err_set(e, ENOMEM, "read %s", what);

        int rc = m->hdr.format_version
                 ? image_table_read(m, table, offset, 1, what, e)
                 : image_pread_data(m, table, m->cluster_bytes, offset, e);

        if (rc == 0)
                *ret = ptr_take(&table);
        return rc;
}

/* Several threads may load the same table; the first one to publish wins. */
static uint64_t *publish(uint64_t *_Atomic *slot, uint64_t **table)
{
        uint64_t *present = NULL;

        return atomic_compare_exchange_strong(slot, &present, *table) ? ptr_take(table) : present;
}

static unsigned l1_chunk_bits(const struct qs_image *m)
{
        return m->hdr.cluster_bits - 3;
}

static int load_l1(struct qs_image *m, uint64_t chunk, uint64_t **ret, struct err *e)
{
        AUTO_FREE uint64_t *cluster = NULL;
        uint64_t first = chunk << l1_chunk_bits(m);
        /* behind those used is VM state, or nothing at all */
        uint64_t n = MIN(1ull << l1_chunk_bits(m), m->l1_used - first);
        AUTO_FREE uint64_t *table = malloc(n * sizeof(*table));
        int rc = table ? read_table(m, m->l1_offset + (chunk << m->hdr.cluster_bits),
                                    "the L1 table", &cluster, e)
                       : err_set(e, ENOMEM, "read the L1 table");

        for (uint64_t i = 0; rc == 0 && i < n; i++) {
                const char *wrong = l1entry_decode(be64toh(cluster[i]), m->hdr.cluster_bits,
                                                   m->bound, &table[i]);

                if (wrong)
                        return err_msg(e, EBADMSG, "%s", wrong);
        }
        if (rc < 0)
                return rc;
        *ret = publish(&m->l1[chunk], &table);
        return 0;
}

int image_l1_entry(struct qs_image *m, uint64_t i, uint64_t *ret, struct err *e)
{
        uint64_t chunk = i >> l1_chunk_bits(m);

        *ret = 0;
        if (i >= m->l1_used)
                return 0;

        uint64_t *table = atomic_load_explicit(&m->l1[chunk], memory_order_acquire);
        int rc = table ? 0 : load_l1(m, chunk, &table, e);

        if (rc == 0)
                *ret = table[i & ((1ull << l1_chunk_bits(m)) - 1)];
        return rc;
}

static int load_l2(struct qs_image *m, uint64_t l1, uint64_t offset, uint64_t **ret,
                   struct err *e)
{
        AUTO_FREE uint64_t *table = NULL;
        int rc = read_table(m, offset, "an L2 table", &table, e);

        if (rc == 0)
                rc = validate(m, table, e);
        if (rc == 0)
                *ret = publish(&m->l2[l1], &table);
        return rc;
}

int image_l2_table(struct qs_image *m, uint64_t l1, const uint64_t **ret, uint64_t *ret_offset,
                   struct err *e)
{
        uint64_t *table = NULL;
        int rc = image_l1_entry(m, l1, ret_offset, e);

        ASSERT(!m->hdr.extended_l2);
        if (rc == 0 && *ret_offset) {
                table = atomic_load_explicit(&m->l2[l1], memory_order_acquire);
                if (!table)
                        rc = load_l2(m, l1, *ret_offset, &table, e);
        }
        if (rc == 0)
                *ret = table;
        return rc;
}

/* table_offset: what the L1 entry says, not 0 */
static int l2_slot(struct qs_image *m, uint64_t l1, uint64_t table_offset, uint64_t cluster,
                   struct slot *ret, struct err *e)
{
        uint64_t *table = atomic_load_explicit(&m->l2[l1], memory_order_acquire);

        if (!table) {
                int rc = load_l2(m, l1, table_offset, &table, e);

                if (rc < 0)
                        return rc;
        }
        *ret = slot_at(m, table, cluster & ((1ull << m->hdr.l2_bits) - 1));
        return 0;
}

static uint64_t l1_chunks(const struct qs_image *m)
{
        return DIV_ROUND_UP(m->l1_used, 1ull << l1_chunk_bits(m));
}

int image_map_new(struct qs_image *m, struct err *e)
{
        m->l1 = calloc(l1_chunks(m) + 1, sizeof(*m->l1));
        m->l2 = calloc(m->l1_used + 1, sizeof(*m->l2));
        return m->l1 && m->l2 ? 0 : err_set(e, ENOMEM, "read the L1 table");
}

void image_map_free(struct qs_image *m)
{
        for (uint64_t i = 0; m->l1 && m->l2 && i < m->l1_used; i++) {
                uint64_t chunk = i >> l1_chunk_bits(m);

                /* what no L1 leads to yet was never touched */
                if (!atomic_load_explicit(&m->l1[chunk], memory_order_relaxed))
                        i = ((chunk + 1) << l1_chunk_bits(m)) - 1;
                else
                        free(atomic_load_explicit(&m->l2[i], memory_order_relaxed));
        }
        for (uint64_t i = 0; m->l1 && i < l1_chunks(m); i++)
                free(atomic_load_explicit(&m->l1[i], memory_order_relaxed));
        free(m->l1);
        free(m->l2);
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
        struct slot slot = { 0 };
        struct l2entry entry;

        *x = (struct extent){ .layer = m, .cluster = cluster,
                              .skip = at & (m->cluster_bytes - 1) };

        uint64_t table;
        int rc = image_l1_entry(m, l1, &table, e);

        if (rc == 0 && table == 0)
                return hole(m, at, max, x, e);
        if (rc == 0)
                rc = l2_slot(m, l1, table, cluster, &slot, e);
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
        if (m->legacy && m->hdr.version == 0) {         /* QCOW 1: unknown */
                *ret = (struct extent){ .kind = L2_RAW, .layer = m, .bytes = max, .offset = at };
                return 0;
        }
        for (; m; m = m->parent) {
                ASSERT(!m->found_only);         /* INV-FOUND */
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
