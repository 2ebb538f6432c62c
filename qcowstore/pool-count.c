/* SPDX-License-Identifier: Apache-2.0 */
/* counting what tables refer to, as QCOW2 does: once for each way from an L1
 * table to a cluster */
#include <errno.h>
#include <stdlib.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "qcowstore/l2entry.h"
#include "qcowstore/pool.h"

static int count(struct space *s, uint64_t offset, uint64_t bytes, int by, struct err *e)
{
        for (uint64_t i = offset >> s->cluster_bits;
             bytes && i <= (offset + bytes - 1) >> s->cluster_bits; i++) {
                if (i >= s->end || s->refs[i] == (by < 0 ? 0 : UINT32_MAX))
                        return err_msg(e, EBADMSG, "refcounts and tables contradict each other: "
                                       "see 'vmm image check'");
                s->refs[i] += (uint32_t)by;
        }
        return 0;
}

/* The table itself, and what its entries refer to. */
static int count_l2(struct qs_image *m, uint64_t offset, uint64_t *table, int by,
                    struct space *s, struct err *e)
{
        int rc = count(s, offset, m->cluster_bytes, by, e);

        for (uint64_t i = 0; rc == 0 && i < layout_l2_entries(s->cluster_bits); i++) {
                struct l2entry entry;
                const char *wrong = l2entry_decode(be64toh(table[i]), s->cluster_bits, m->bound,
                                                   &entry);

                if (wrong)
                        return err_msg(e, EBADMSG, "%s", wrong);
                rc = count(s, entry.offset, entry.offset ? entry.bytes : 0, by, e);
        }
        return rc;
}

/* The L2 tables of n entries of an L1 table, as they are; guarded by HOSTSUMS. */
static int count_l1(struct qs_image *m, const uint64_t *l1, uint64_t n, int by, struct space *s,
                    struct err *e)
{
        AUTO_FREE uint64_t *table = malloc(m->cluster_bytes);
        int rc = table ? 0 : err_set(e, ENOMEM, "count clusters");

        for (uint64_t i = 0; rc == 0 && i < n; i++) {
                uint64_t offset;
                const char *wrong = l1entry_decode(l1[i], s->cluster_bits, m->bound, &offset);

                if (wrong)
                        return err_msg(e, EBADMSG, "%s", wrong);
                if (offset == 0)
                        continue;
                rc = image_table_read(m, table, offset, 1, "an L2 table", e);
                if (rc == 0)
                        rc = count_l2(m, offset, table, by, s, e);
        }
        return rc;
}

static int count_area(const struct pool *p, struct space *s, struct err *e)
{
        const struct qs_image *m = p->latest;
        int rc = 0;

        for (uint64_t i = 0; rc == 0 && i < p->area_l1; i++) {
                uint64_t offset;
                const char *wrong = l1entry_decode(p->active_l1[m->disk_l1 + i], s->cluster_bits,
                                                   m->bound, &offset);

                ASSERT(!wrong);                 /* pool_load() saw to it */
                rc = count(s, offset, offset ? m->cluster_bytes : 0, -1, e);
        }
        for (uint64_t i = 0; rc == 0 && i < p->area_clusters; i++)
                rc = count(s, p->area[i] << s->cluster_bits, p->area[i] ? m->cluster_bytes : 0, -1,
                           e);
        return rc;
}

int pool_release_file(const struct pool *p, struct space *s, struct err *e)
{
        const struct imghdr *h = &p->latest->hdr;
        int rc = count(s, h->snaptable_offset, p->latest->snaptable_bytes, -1, e);

        if (rc == 0)
                rc = count(s, h->reftable_offset,
                           (uint64_t)h->reftable_clusters << h->cluster_bits, -1, e);
        if (rc == 0)
                rc = count(s, h->l1_offset, h->l1_entries * 8ull, -1, e);
        if (rc == 0)
                rc = count_l1(p->latest, p->active_l1, p->latest->disk_l1, -1, s, e);
        if (rc == 0)
                rc = count_area(p, s, e);
        return rc < 0 ? err_in(e, rc, "image '%s'", p->path) : 0;
}

int pool_count_tag(struct qs_image *m, bool disk_only, int by, struct space *s, struct err *e)
{
        uint64_t entries = disk_only ? m->disk_l1 : m->snapshot->l1_entries;
        uint64_t clusters = layout_clusters(m->snapshot->l1_entries * 8ull, s->cluster_bits);
        AUTO_FREE uint64_t *l1 = malloc(clusters << s->cluster_bits);

        if (!l1)
                return err_set(e, ENOMEM, "count clusters");

        int rc = image_table_read(m, l1, m->snapshot->l1_offset, clusters, "an L1 table", e);

        for (uint64_t i = 0; rc == 0 && i < entries; i++)
                l1[i] = be64toh(l1[i]);
        if (rc == 0 && !disk_only)
                rc = count(s, m->snapshot->l1_offset, m->snapshot->l1_entries * 8ull, by, e);
        if (rc == 0)
                rc = count_l1(m, l1, entries, by, s, e);
        return rc < 0 ? err_in(e, rc, "image '%s'", m->path) : 0;
}
