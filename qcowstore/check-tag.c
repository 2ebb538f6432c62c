/* SPDX-License-Identifier: Apache-2.0 */
/* a tag against its sums: sections, then all clusters that it refers to, then
 * guest memory */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/auto.h"
#include "qcowstore/audit.h"
#include "qcowstore/l2entry.h"
#include "qcowstore/sum.h"

typedef unsigned long long ull;

/* Of the table of unpacked clusters: 64 MiB. */
#define UNPACKED_MAX (1u << 23)

/* What is wrong with a tag's part of the file is a finding, with its name. */
static int absorb(struct audit *a, const struct qs_image *m, int rc, struct err *why,
                  struct err *e)
{
        if (rc == -EBADMSG)
                err_in(why, rc, "snapshot '%s'", m->snapshot->tag);
        return audit_absorb(a, rc, why, e);
}

/* ---- host clusters ---- */

/* A cluster that the tag refers to and does not guard otherwise; its bytes are
 * compared if they were read. Each is at fault once. */
static int compare_host(struct audit *a, struct qs_image *m, uint64_t host, struct err *e)
{
        uint64_t sum = 0;
        struct err why = { 0 };
        int rc = host < sumtree_entries(m->hostsums)
                 ? sumtree_get(m->hostsums, host, &sum, &why) : 0;

        if (rc < 0)
                return absorb(a, m, rc, &why, e);
        if (!(audit_mark(a, host, MARK_COMPARED) & MARK_COMPARED))
                a->checked += a->contents;
        if ((a->sums ? sum != a->sums[host] : sum == 0) &&
            !(audit_mark(a, host, MARK_BAD) & MARK_BAD))
                audit_find(a, AUDIT_CORRUPTION, "snapshot '%s', host cluster %llu does not match "
                           "its checksum", m->snapshot->tag, (ull)host);
        return 0;
}

static int compare_range(struct audit *a, struct qs_image *m, uint64_t offset, uint64_t bytes,
                         struct err *e)
{
        unsigned bits = m->hdr.cluster_bits;
        int rc = 0;

        for (uint64_t i = offset >> bits; rc == 0 && i <= (offset + bytes - 1) >> bits; i++)
                rc = compare_host(a, m, i, e);
        return rc;
}

/* A cluster of a table: compared now, whether contents are or not. */
static int compare_table(struct audit *a, struct qs_image *m, uint64_t offset, void *buf,
                         const char *what, struct err *e)
{
        struct err why = { 0 };
        int rc = m->hdr.changed ? image_table_read(m, buf, offset, 1, what, &why)
                                : image_pread_verified(m, buf, offset, 1, what, &why);

        if (!(audit_mark(a, offset >> m->hdr.cluster_bits, MARK_COMPARED) & MARK_COMPARED))
                a->checked++;
        return absorb(a, m, rc, &why, e);
}

/* ---- what the tag's HOSTSUMS does not guard ---- */

/* Clusters [first, first + n) of the VM-state area are not in HOSTSUMS; of the
 * last one only `used` bytes are covered by the sum that guards it. */
static int take_state(struct audit *a, struct qs_image *m, uint64_t first, uint64_t n,
                      uint64_t used, const char *what, struct err *e)
{
        uint64_t offset = 0;

        for (uint64_t i = 0; i < n; i++) {
                struct err why = { 0 };
                uint64_t sum = 0;
                int rc = image_state_locate(m, first + i, &offset, &why);
                uint64_t host = offset >> m->hdr.cluster_bits;

                if (rc == 0 && host < sumtree_entries(m->hostsums))
                        rc = sumtree_get(m->hostsums, host, &sum, &why);
                if (rc < 0)
                        return absorb(a, m, rc, &why, e);
                audit_mark(a, host, MARK_FILE);
                if (sum)
                        audit_find(a, AUDIT_CORRUPTION, "snapshot '%s', host cluster %llu has a "
                                   "sum in HOSTSUMS but is guarded elsewhere", m->snapshot->tag,
                                   (ull)host);
        }
        return audit_slack(a, offset + used, what, e);
}

static int take_unguarded(struct audit *a, struct qs_image *m, struct err *e)
{
        unsigned bits = m->hdr.cluster_bits;
        const struct section *s = sectoc_find(&m->toc, LAYOUT_HOSTSUMS);
        uint64_t blocks = sumtree_blocks(s->bytes / 8, bits);
        uint64_t first_clusters = sumtree_blocks_at(s->bytes / 8, bits) >> bits;
        uint64_t at = s->offset >> bits;
        int rc = take_state(a, m, 0, 1, SECTOC_BYTES, "the section table", e);

        if (rc == 0)
                rc = take_state(a, m, at, first_clusters,
                                blocks * 8 - ((first_clusters - 1) << bits),
                                "the first level of HOSTSUMS", e);
        for (uint64_t i = 0; rc == 0 && i < blocks; i++) {
                if (!sumtree_block_empty(m->hostsums, i * layout_l2_entries(bits)))
                        rc = take_state(a, m, at + first_clusters + i, 1, m->cluster_bytes,
                                        "a block of HOSTSUMS", e);
        }
        return rc;
}

/* ---- sections and sums ---- */

static int check_blocks(struct audit *a, struct qs_image *m, struct sumtree *t, struct err *e)
{
        uint64_t step = layout_l2_entries(m->hdr.cluster_bits);
        int rc = 0;

        for (uint64_t i = 0; rc == 0 && i < sumtree_entries(t); i += step) {
                uint64_t sum;
                struct err why = { 0 };

                rc = absorb(a, m, sumtree_get(t, i, &sum, &why), &why, e);
        }
        return rc;
}

static int check_sections(struct audit *a, struct qs_image *m, struct err *e)
{
        struct qs_reader *r = NULL;
        int rc = qs_reader_new(m, &r, e);

        for (unsigned i = 0; rc == 0 && i < m->toc.count; i++) {
                void *data = NULL;
                size_t bytes;
                struct err why = { 0 };

                if (m->toc.section[i].flags & SECTION_TREE)
                        continue;
                rc = qs_section_read(r, m->toc.section[i].name, &data, &bytes, &why);
                rc = absorb(a, m, rc, &why, e);
                free(data);
        }
        qs_reader_free(r);
        if (rc == 0)
                rc = check_blocks(a, m, m->checksums, e);
        return rc < 0 ? rc : check_blocks(a, m, m->hostsums, e);
}

/* ---- tables and VM state ---- */

static int check_state_table(struct audit *a, struct qs_image *m, uint64_t *table, struct err *e)
{
        int rc = 0;

        for (uint64_t i = 0; rc == 0 && i < layout_l2_entries(m->hdr.cluster_bits); i++) {
                struct l2entry entry;

                /* what is wrong is a finding already */
                if (l2entry_decode(be64toh(table[i]), m->hdr.cluster_bits, m->bound, &entry) ||
                    entry.offset == 0 ||
                    audit_marked(a, entry.offset >> m->hdr.cluster_bits, MARK_FILE))
                        continue;
                rc = compare_range(a, m, entry.offset, entry.bytes, e);
        }
        return rc;
}

static int check_tables(struct audit *a, struct qs_image *m, struct err *e)
{
        uint64_t n = layout_clusters(m->snapshot->l1_entries * 8ull, m->hdr.cluster_bits);
        AUTO_FREE uint64_t *table = malloc(m->cluster_bytes);
        int rc = table ? 0 : err_set(e, ENOMEM, "check '%s'", m->path);

        for (uint64_t i = 0; rc == 0 && i < n; i++)
                rc = compare_table(a, m, m->l1_offset + (i << m->hdr.cluster_bits), table,
                                   "an L1 table", e);
        for (uint64_t i = 0; rc == 0 && i < m->state_l1_entries; i++) {
                memset(table, 0, m->cluster_bytes);
                if (m->state_l1[i])
                        rc = compare_table(a, m, m->state_l1[i], table, "an L2 table", e);
                if (rc == 0)
                        rc = check_state_table(a, m, table, e);
        }
        return rc;
}

/* ---- guest memory ---- */

/* Never 0, which is an empty place. */
static uint64_t fingerprint(const struct qs_image *m, const struct l2entry *entry, uint64_t sum)
{
        const uint64_t key[] = { entry->offset, entry->bytes, sum };
        uint64_t hash = XXH3_64bits_withSeed(key, sizeof(key), m->hdr.hash_seed);

        return hash ? hash : 1;
}

static bool unpacked_before(const struct audit *a, uint64_t print)
{
        return atomic_load_explicit(&a->unpacked[print & (a->unpacked_room - 1)],
                                    memory_order_relaxed) == print;
}

static void note_unpacked(struct audit *a, uint64_t print)
{
        atomic_store_explicit(&a->unpacked[print & (a->unpacked_room - 1)], print,
                              memory_order_relaxed);
}

static void memory_wrong(struct audit *a, const struct qs_image *m, uint64_t cluster,
                         const char *wrong)
{
        audit_find(a, AUDIT_CORRUPTION, "snapshot '%s', guest memory at %#llx: %s",
                   m->snapshot->tag, (ull)cluster << m->hdr.cluster_bits, wrong);
}

/* Does what is stored give what CHECKSUMS says? */
static int check_content(struct audit *a, struct qs_reader *r, const struct l2entry *entry,
                         uint64_t cluster, uint64_t sum, uint8_t *buf, struct err *e)
{
        const struct qs_image *m = image_of_reader(r);
        static const char wrong[] = "its data do not match their checksum: the file is damaged";

        if (entry->kind == L2_RAW) {
                if (a->sums[entry->offset >> m->hdr.cluster_bits] != sum)
                        memory_wrong(a, m, cluster, wrong);
                return 0;
        }

        uint64_t print = fingerprint(m, entry, sum);
        struct err why = { 0 };

        if (unpacked_before(a, print))
                return 0;

        int rc = qs_cluster_read(r, cluster, buf, &why);

        if (rc == 0)
                note_unpacked(a, print);
        else if (rc == -EBADMSG)
                memory_wrong(a, m, cluster, wrong);
        return rc == -EBADMSG ? 0 : audit_absorb(a, rc, &why, e);
}

static int check_cluster(struct audit *a, struct qs_reader *r, uint64_t v, uint64_t cluster,
                         uint8_t *buf, struct err *e)
{
        struct qs_image *m = image_of_reader(r);
        struct l2entry entry;
        struct err why = { 0 };
        uint64_t sum;
        const char *wrong = l2entry_decode(v, m->hdr.cluster_bits, m->bound, &entry);
        int rc = sumtree_get(m->checksums, cluster, &sum, &why);
        bool data = entry.kind == L2_RAW || entry.kind == L2_PACKED;

        ASSERT(!wrong);                 /* image_l2_table() saw to it */
        if (rc < 0)
                return rc == -EBADMSG ? 0 : audit_absorb(a, rc, &why, e);   /* check_blocks() */
        if (data != (sum != 0)) {
                memory_wrong(a, m, cluster, "L2 table and CHECKSUMS disagree");
                return 0;
        }
        if (entry.offset)
                rc = compare_range(a, m, entry.offset, entry.bytes, e);
        return rc == 0 && data && a->contents ? check_content(a, r, &entry, cluster, sum, buf, e)
                                              : rc;
}

/* Clusters that no L2 table speaks of, from `first` on, behind which is `end`. */
static void check_hole(struct audit *a, const struct qs_image *m, uint64_t first, uint64_t end)
{
        uint64_t per_table = layout_l2_entries(m->hdr.cluster_bits);

        /* once for the whole table */
        if (first % per_table == 0 && first < end && !sumtree_block_empty(m->checksums, first))
                memory_wrong(a, m, first, "L1 table and CHECKSUMS disagree");
}

/* A window never crosses an L2 table. */
static int memory_window(struct audit_pass *pass, struct qs_reader *r, uint8_t *buf,
                         uint64_t first, uint64_t end, struct err *e)
{
        struct audit *a = pass->a;
        struct qs_image *m = pass->image;
        uint64_t per_table = layout_l2_entries(m->hdr.cluster_bits);
        const uint64_t *table = NULL;
        uint64_t offset = 0;
        struct err why = { 0 };
        int rc = image_l2_table(m, first / per_table, &table, &offset, &why);

        if (rc < 0)
                return first % per_table == 0 || rc != -EBADMSG ? absorb(a, m, rc, &why, e) : 0;
        if (!table) {
                check_hole(a, m, first, end);
                return 0;
        }
        if (first % per_table == 0 &&
            !(audit_mark(a, offset >> m->hdr.cluster_bits, MARK_COMPARED) & MARK_COMPARED))
                a->checked++;
        for (uint64_t i = first; rc == 0 && i < end; i++)
                rc = check_cluster(a, r, table[i % per_table], i, buf, e);
        return rc;
}

static int check_memory(struct audit *a, struct qs_image *m, struct err *e)
{
        struct audit_pass pass = {
                .a = a, .image = m, .clusters = m->disk_clusters, .step = memory_window,
        };

        return audit_run(&pass, e);
}

/* ---- all of it ---- */

/* Made for all tags: at most one place for each sector of the file. */
static int make_unpacked(struct audit *a, struct err *e)
{
        uint64_t sectors = a->image->bound / LAYOUT_SECTOR_BYTES;

        if (a->unpacked || !a->contents)
                return 0;
        a->unpacked_room = 1;
        while (a->unpacked_room < MIN(sectors, UNPACKED_MAX))
                a->unpacked_room *= 2;
        a->unpacked = calloc(a->unpacked_room, sizeof(*a->unpacked));
        return a->unpacked ? 0 : err_set(e, ENOMEM, "check '%s'", a->image->path);
}

static int check_all(struct audit *a, struct qs_image *m, struct err *e)
{
        int rc = make_unpacked(a, e);

        if (rc == 0)
                rc = take_unguarded(a, m, e);
        if (rc == 0)
                rc = check_sections(a, m, e);
        if (rc == 0)
                rc = check_tables(a, m, e);
        return rc < 0 ? rc : check_memory(a, m, e);
}

int audit_tag(struct audit *a, uint32_t i, struct err *e)
{
        struct qs_image *m = NULL;
        struct err why = { 0 };
        int rc = image_open_sibling(a->image, i, &m, &why);

        if (rc == 0)
                rc = check_all(a, m, e);
        else if (rc == -EBADMSG)
                err_in(&why, rc, "snapshot '%s'", a->image->snapshots[i].tag);
        a->incomplete |= !m;
        if (!m)
                rc = audit_absorb(a, rc, &why, e);
        qs_image_close(m);
        return rc;
}
