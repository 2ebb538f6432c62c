/* SPDX-License-Identifier: Apache-2.0 */
/* what a pool's file says of itself, as far as it belongs to no tag */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "qcowstore/l2entry.h"
#include "qcowstore/metasum.h"
#include "qcowstore/pool.h"
#include "qcowstore/sum.h"

/* Reads clusters of tables and feeds the sum; the caller frees *ret. */
static int read_clusters(const struct pool *p, uint64_t offset, uint64_t n, const char *what,
                         struct metasum *sum, void **ret, struct err *e)
{
        uint64_t bytes = n << p->latest->hdr.cluster_bits;
        AUTO_FREE void *data = malloc(bytes + 1);

        if (!data)
                return err_set(e, ENOMEM, "read %s", what);

        int rc = image_pread(p->latest, data, bytes, offset, what, e);

        if (rc < 0)
                return rc;
        metasum_add(sum, data, bytes);
        *ret = ptr_take(&data);
        return 0;
}

static bool place_ok(const struct pool *p, uint64_t offset)
{
        return offset && IS_ALIGNED(offset, p->latest->cluster_bytes) && offset < p->latest->bound;
}

static int load_refblock(struct pool *p, uint64_t i, struct metasum *sum, struct err *e)
{
        unsigned bits = p->latest->hdr.cluster_bits;
        uint64_t n = layout_refblock_entries(bits, LAYOUT_REFCOUNT_ORDER);
        AUTO_FREE void *block = NULL;
        int rc = read_clusters(p, p->reftable[i], 1, "a refcount block", sum, &block, e);

        for (uint64_t k = 0; rc == 0 && k < n; k++)
                p->refs[i * n + k] = get_be32((uint8_t *)block + 4 * k);
        return rc;
}

static int load_refcounts(struct pool *p, struct metasum *sum, struct err *e)
{
        const struct imghdr *h = &p->latest->hdr;
        uint64_t n = layout_refblock_entries(h->cluster_bits, LAYOUT_REFCOUNT_ORDER);
        uint64_t max = (uint64_t)h->reftable_clusters << (h->cluster_bits - 3);
        AUTO_FREE void *table = NULL;
        int rc = read_clusters(p, h->reftable_offset, h->reftable_clusters,
                               "the refcount table", sum, &table, e);

        if (rc < 0)
                return rc;
        p->reftable = calloc(max, sizeof(*p->reftable));
        if (!p->reftable)
                return err_set(e, ENOMEM, "read the refcount table");
        while (p->reftable_entries < max && ((uint64_t *)table)[p->reftable_entries]) {
                uint64_t offset = get_be64((uint64_t *)table + p->reftable_entries);

                if (!place_ok(p, offset))
                        return err_msg(e, EBADMSG, "a refcount block lies outside the file");
                p->reftable[p->reftable_entries++] = offset;
        }
        p->refs = calloc(p->reftable_entries + 1, n * sizeof(*p->refs));
        if (!p->refs)
                return err_set(e, ENOMEM, "read the refcounts");
        for (uint64_t i = 0; rc == 0 && i < p->reftable_entries; i++)
                rc = load_refblock(p, i, sum, e);
        if (rc == 0 && p->refs[0] != 1)         /* space_offer() relies on it */
                return err_msg(e, EBADMSG, "the header's cluster is not counted once");
        return rc;
}

static int load_active_l1(struct pool *p, struct metasum *sum, struct err *e)
{
        const struct imghdr *h = &p->latest->hdr;
        AUTO_FREE void *l1 = NULL;
        int rc = read_clusters(p, h->l1_offset, layout_clusters(h->l1_entries * 8ull,
                                                                h->cluster_bits),
                               "the active L1 table", sum, &l1, e);

        if (rc < 0)
                return rc;
        p->active_l1 = ptr_take(&l1);
        for (uint32_t i = 0; i < h->l1_entries; i++)
                p->active_l1[i] = be64toh(p->active_l1[i]);
        p->area_l1 = h->l1_entries - p->latest->disk_l1;
        return 0;
}

static int load_area_l2(struct pool *p, uint64_t i, struct metasum *sum, struct err *e)
{
        unsigned bits = p->latest->hdr.cluster_bits;
        uint64_t n = layout_l2_entries(bits);
        AUTO_FREE void *table = NULL;
        uint64_t offset;
        const char *wrong = l1entry_decode(p->active_l1[p->latest->disk_l1 + i], bits,
                                           p->latest->bound, &offset);

        if (wrong)
                return err_msg(e, EBADMSG, "%s", wrong);
        if (offset == 0)
                return 0;

        int rc = read_clusters(p, offset, 1, "an L2 table", sum, &table, e);

        for (uint64_t k = 0; rc == 0 && k < n; k++) {
                struct l2entry entry;

                wrong = l2entry_decode(get_be64((uint64_t *)table + k), bits, p->latest->bound,
                                       &entry);
                if (!wrong && entry.kind != L2_NONE && entry.kind != L2_RAW)
                        wrong = "the pool area has other than raw clusters";
                if (wrong)
                        return err_msg(e, EBADMSG, "%s", wrong);
                p->area[i * n + k] = entry.offset >> bits;
        }
        return rc;
}

static int load_area_toc(struct pool *p, struct err *e)
{
        const struct imghdr *h = &p->latest->hdr;
        uint8_t buf[SECTOC_BYTES];

        if (!h->pool_sum)
                return 0;
        if (p->area_clusters == 0 || p->area[0] == 0)
                return err_msg(e, EBADMSG, "the pool area is missing");

        int rc = image_pread(p->latest, buf, sizeof(buf), p->area[0] << h->cluster_bits,
                             "the pool's section table", e);

        if (rc < 0)
                return rc;
        if (sum_bytes(buf, sizeof(buf), h->hash_seed) != h->pool_sum)
                return err_msg(e, EBADMSG, "the pool's section table does not match its checksum");
        return sectoc_parse(buf, h->cluster_bits, p->area_clusters << h->cluster_bits,
                            &p->area_toc, e);
}

static int load_tables(struct pool *p, struct metasum *sum, struct err *e)
{
        int rc = load_refcounts(p, sum, e);

        if (rc == 0)
                rc = load_active_l1(p, sum, e);
        if (rc < 0)
                return rc;
        p->area_clusters = p->area_l1 * layout_l2_entries(p->latest->hdr.cluster_bits);
        p->area = calloc(p->area_clusters + 1, sizeof(*p->area));
        if (!p->area)
                return err_set(e, ENOMEM, "read the pool area");
        for (uint64_t i = 0; rc == 0 && i < p->area_l1; i++)
                rc = load_area_l2(p, i, sum, e);
        if (rc == 0 && metasum_get(sum) != p->latest->hdr.meta_sum)
                return err_msg(e, EBADMSG, "refcounts or active layer do not match their "
                               "checksum, or were changed by another program: 'vmm image "
                               "compact' makes the file whole");
        return rc < 0 ? rc : load_area_toc(p, e);
}

int pool_load(struct pool *p, struct err *e)
{
        struct metasum *sum = metasum_new(p->latest->hdr.hash_seed);
        int rc = sum ? load_tables(p, sum, e) : err_set(e, ENOMEM, "read tables");

        metasum_free(sum);
        return rc;
}

int pool_section(const struct pool *p, const struct section *s, void **ret, struct err *e)
{
        const struct imghdr *h = &p->latest->hdr;
        AUTO_FREE uint8_t *data = malloc(s->bytes + 1);
        uint64_t at = s->offset >> h->cluster_bits;

        if (!data)
                return err_set(e, ENOMEM, "read section '%s'", s->name);
        for (uint64_t done = 0; done < s->bytes; done += p->latest->cluster_bytes, at++) {
                int rc = p->area[at]
                         ? image_pread(p->latest, data + done,
                                       MIN(s->bytes - done, p->latest->cluster_bytes),
                                       p->area[at] << h->cluster_bits, "the pool area", e)
                         : err_msg(e, EBADMSG, "the pool area has a hole");

                if (rc < 0)
                        return rc;
        }
        if (sum_bytes(data, s->bytes, h->hash_seed) != s->sum)
                return err_msg(e, EBADMSG, "section '%s' does not match its checksum", s->name);
        *ret = ptr_take(&data);
        return 0;
}
