/* SPDX-License-Identifier: Apache-2.0 */
/* what belongs to a file of ours and not to one of its tags */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "qcowstore/audit.h"
#include "qcowstore/l2entry.h"
#include "qcowstore/metasum.h"
#include "qcowstore/sum.h"

/* The active layer's L1 table: the disk, then the pool area. */
struct active {
        struct audit *a;
        uint8_t *l1;                    /* whole clusters, as they are stored */
        uint64_t area_l1;               /* entries behind the disk's */
        uint8_t *buf;                   /* a cluster */
        struct metasum *sum;
};

static uint64_t l1_clusters(const struct imghdr *h)
{
        return layout_clusters(h->l1_entries * 8ull, h->cluster_bits);
}

static int add_clusters(struct active *x, uint64_t offset, uint64_t n, struct err *e)
{
        const struct qs_image *m = x->a->image;
        int rc = 0;

        for (uint64_t i = 0; rc == 0 && i < n; i++) {
                rc = image_pread(m, x->buf, m->cluster_bytes, offset + i * m->cluster_bytes,
                                 "a table", e);
                if (rc == 0)
                        metasum_add(x->sum, x->buf, m->cluster_bytes);
        }
        return rc;
}

static int add_refcounts(struct active *x, struct err *e)
{
        const struct qs_image *m = x->a->image;
        const struct imghdr *h = &m->hdr;
        uint64_t bytes = (uint64_t)h->reftable_clusters << h->cluster_bits;
        AUTO_FREE uint8_t *table = malloc(bytes);

        if (!table)
                return err_set(e, ENOMEM, "check '%s'", m->path);

        int rc = image_pread(m, table, bytes, h->reftable_offset, "the refcount table", e);

        if (rc == 0)
                metasum_add(x->sum, table, bytes);
        for (uint64_t i = 0; rc == 0 && i < bytes / 8; i++) {
                uint64_t offset = get_be64(table + i * 8);

                /* those of a wrong place are findings already */
                if (offset && IS_ALIGNED(offset, m->cluster_bytes) && offset < m->bound)
                        rc = add_clusters(x, offset, 1, e);
        }
        return rc;
}

/* *ret 0 = none, or of a wrong place, which is a finding already */
static void area_table(const struct active *x, uint64_t i, uint64_t *ret)
{
        const struct qs_image *m = x->a->image;

        if (l1entry_decode(get_be64(x->l1 + (m->disk_l1 + i) * 8), m->hdr.cluster_bits, m->bound,
                           ret))
                *ret = 0;
}

static int sum_tables(struct active *x, struct err *e)
{
        const struct qs_image *m = x->a->image;
        int rc = add_refcounts(x, e);

        metasum_add(x->sum, x->l1, l1_clusters(&m->hdr) << m->hdr.cluster_bits);
        for (uint64_t i = 0; rc == 0 && i < x->area_l1; i++) {
                uint64_t offset;

                area_table(x, i, &offset);
                if (offset) {
                        audit_mark(x->a, offset >> m->hdr.cluster_bits, MARK_FILE);
                        rc = add_clusters(x, offset, 1, e);
                }
        }
        if (rc == 0 && metasum_get(x->sum) != m->hdr.meta_sum)
                return err_msg(e, EBADMSG, "refcounts or active layer do not match their "
                               "checksum");
        return rc;
}

/* What QEMU takes for the disk is the default snapshot's. */
static int compare_default(struct active *x, struct err *e)
{
        const struct qs_image *m = x->a->image;
        const struct snapshot *s = &m->snapshots[m->hdr.default_snapshot];
        AUTO_FREE uint8_t *l1 = malloc(m->disk_l1 * 8 + 1);

        if (!l1)
                return err_set(e, ENOMEM, "check '%s'", m->path);
        if (s->l1_entries < m->disk_l1)
                return 0;               /* the tag's finding */

        int rc = image_pread(m, l1, m->disk_l1 * 8, s->l1_offset, "an L1 table", e);

        if (rc == 0 && memcmp(l1, x->l1, m->disk_l1 * 8) != 0)
                return err_msg(e, EBADMSG, "the active layer is not snapshot '%s'", s->tag);
        return rc;
}

static int area_locate(const struct active *x, uint64_t cluster, uint64_t *ret_offset,
                       struct err *e)
{
        const struct qs_image *m = x->a->image;
        uint64_t per_table = layout_l2_entries(m->hdr.cluster_bits);
        struct l2entry entry = { .kind = L2_NONE };
        uint64_t table = 0;
        uint64_t v;

        if (cluster / per_table < x->area_l1)
                area_table(x, cluster / per_table, &table);
        if (table) {
                int rc = image_pread(m, &v, 8, table + cluster % per_table * 8, "an L2 table", e);

                if (rc < 0)
                        return rc;
                if (l2entry_decode(be64toh(v), m->hdr.cluster_bits, m->bound, &entry))
                        entry.kind = L2_NONE;
        }
        if (entry.kind != L2_RAW)
                return err_msg(e, EBADMSG, "the pool area has a hole");
        *ret_offset = entry.offset;
        return 0;
}

/* bytes of the area from its cluster `at` on, which nothing else guards and
 * behind which are zeros */
static int read_area(struct active *x, uint64_t at, uint64_t bytes, struct metasum *sum,
                     const char *what, struct err *e)
{
        const struct qs_image *m = x->a->image;
        uint64_t offset = 0;
        uint64_t part = 0;

        for (uint64_t done = 0; done < bytes; done += part, at++) {
                int rc = area_locate(x, at, &offset, e);

                part = MIN(bytes - done, m->cluster_bytes);
                if (rc == 0)
                        rc = image_pread(m, x->buf, part, offset, what, e);
                if (rc < 0)
                        return rc;
                metasum_add(sum, x->buf, part);
                audit_mark(x->a, offset >> m->hdr.cluster_bits, MARK_FILE);
        }
        return bytes ? audit_slack(x->a, offset + part, what, e) : 0;
}

static int check_area_part(struct active *x, uint64_t at, uint64_t bytes, uint64_t want,
                           const char *what, struct err *e)
{
        struct metasum *sum = metasum_new(x->a->image->hdr.hash_seed);
        int rc = sum ? read_area(x, at, bytes, sum, what, e)
                     : err_set(e, ENOMEM, "check '%s'", x->a->image->path);

        if (rc == 0 && metasum_get(sum) != want)
                rc = err_msg(e, EBADMSG, "%s of the pool does not match its checksum", what);
        metasum_free(sum);
        return rc;
}

static int check_area(struct active *x, struct err *e)
{
        const struct qs_image *m = x->a->image;
        unsigned bits = m->hdr.cluster_bits;
        struct sectoc toc;
        uint8_t buf[SECTOC_BYTES];
        uint64_t offset;

        if (!m->hdr.pool_sum)
                return 0;

        int rc = check_area_part(x, 0, SECTOC_BYTES, m->hdr.pool_sum, "the section table", e);

        if (rc == 0)
                rc = area_locate(x, 0, &offset, e);
        if (rc == 0)
                rc = image_pread(m, buf, sizeof(buf), offset, "the section table", e);
        if (rc == 0)
                rc = sectoc_parse(buf, bits, x->area_l1 * layout_l2_entries(bits) << bits, &toc,
                                  e);
        for (unsigned i = 0; rc == 0 && i < toc.count; i++) {
                const struct section *s = &toc.section[i];
                struct err why = { 0 };

                rc = check_area_part(x, s->offset >> bits, s->bytes, s->sum, s->name, &why);
                rc = audit_absorb(x->a, rc, &why, e);
        }
        return rc;
}

static int load(struct active *x, struct err *e)
{
        const struct qs_image *m = x->a->image;
        uint64_t bytes = l1_clusters(&m->hdr) << m->hdr.cluster_bits;

        x->area_l1 = m->hdr.l1_entries - m->disk_l1;
        x->l1 = malloc(bytes);
        x->buf = malloc(m->cluster_bytes);
        x->sum = metasum_new(m->hdr.hash_seed);
        if (!x->l1 || !x->buf || !x->sum)
                return err_set(e, ENOMEM, "check '%s'", m->path);
        return image_pread(m, x->l1, bytes, m->hdr.l1_offset, "the active L1 table", e);
}

int audit_file(struct audit *a, struct err *e)
{
        static int (*const steps[])(struct active *x, struct err *e) = {
                sum_tables, compare_default, check_area,
        };
        const struct qs_image *m = a->image;
        struct active x = { .a = a };
        struct err why = { 0 };
        int rc = load(&x, &why);
        bool loaded = rc == 0;

        rc = audit_absorb(a, rc, &why, e);
        for (size_t i = 0; loaded && rc == 0 && i < ARRAY_SIZE(steps); i++)
                rc = audit_absorb(a, steps[i](&x, &why), &why, e);
        if (rc == 0)
                rc = audit_slack(a, LAYOUT_SECTOR_BYTES, "the header", e);
        if (rc == 0)
                rc = audit_slack(a, m->hdr.snaptable_offset + m->snaptable_bytes,
                                 "the snapshot table", e);
        free(x.l1);
        free(x.buf);
        metasum_free(x.sum);
        return rc;
}
