/* SPDX-License-Identifier: Apache-2.0 */
/* opening one layer: see image-priv.h for the order of things */
#include "qcowstore/image-priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "qcowstore/imglock.h"
#include "qcowstore/l2entry.h"
#include "qcowstore/legacy.h"
#include "qcowstore/sum.h"

/* Openings during which the file changed under us. A second change of the same
 * kind does no harm (hold_snapshot), so this is more than anybody needs. */
#define OPEN_TRIES 8

static int choose_snapshot(struct qs_image *m, const char *tag, struct err *e)
{
        uint32_t n = m->hdr.snapshots;

        if (!tag) {
                if (m->hdr.format_version)
                        m->snapshot = &m->snapshots[m->hdr.default_snapshot];
                return 0;
        }
        for (uint32_t i = 0; i < n && !m->snapshot; i++) {
                if (strcmp(m->snapshots[i].tag, tag) == 0)
                        m->snapshot = &m->snapshots[i];
        }
        if (!m->snapshot)
                return err_msg(e, ENOENT, "there is no snapshot '%s' in it", tag);
        return 0;
}

/* The part of a snapshot's L1 that maps VM state. Nobody vouched for it yet; what
 * is read through it has sums of its own. */
static int read_state_l1(struct qs_image *m, const struct snapshot *s, struct err *e)
{
        ASSERT(s->l1_entries > m->disk_l1);

        uint64_t n = s->l1_entries - m->disk_l1;

        m->state_l1 = malloc(n * 8);
        if (!m->state_l1)
                return err_set(e, ENOMEM, "read an L1 table");

        int rc = image_pread(m, m->state_l1, n * 8, s->l1_offset + m->disk_l1 * 8,
                             "an L1 table", e);

        for (uint64_t i = 0; rc == 0 && i < n; i++) {
                const char *wrong = l1entry_decode(be64toh(m->state_l1[i]), m->hdr.cluster_bits,
                                                   m->bound, &m->state_l1[i]);

                if (wrong)
                        return err_msg(e, EBADMSG, "%s", wrong);
        }
        m->state_l1_entries = n;
        return rc;
}

static int keep_state_l2(struct qs_image *m, const struct snapshot *s, struct err *e)
{
        uint64_t clusters = MIN(layout_clusters(s->state_bytes, m->hdr.cluster_bits),
                                layout_l2_entries(m->hdr.cluster_bits));

        if (m->state_l1[0] == 0)        /* said when it is read */
                return 0;
        m->state_l2_kept = (unsigned)MIN(clusters, STATE_L2_KEPT);
        return image_pread(m, m->state_l2, m->state_l2_kept * sizeof(m->state_l2[0]),
                           m->state_l1[0], "an L2 table", e);
}

static int use_l1(struct qs_image *m, uint64_t offset, uint32_t entries, struct err *e)
{
        m->l1_offset = offset;
        m->l1_used = MIN(entries, m->disk_l1);
        return image_map_new(m, e);
}

static int open_tree(struct qs_image *m, const char *name, uint64_t min, uint64_t max,
                     struct sumtree **ret, struct err *e)
{
        const struct section *s = sectoc_find(&m->toc, name);

        if (!s || !(s->flags & SECTION_TREE) || s->bytes / 8 < min || s->bytes / 8 > max)
                return err_msg(e, EBADMSG, "%s is missing or has a wrong size", name);
        return sumtree_open(s, m->hdr.cluster_bits, m->hdr.hash_seed, image_state_read, m, ret,
                            e);
}

static int read_sections(struct qs_image *m, struct err *e)
{
        uint8_t buf[SECTOC_BYTES];
        /* as many as can be counted: the file may have been longer when the tag was made */
        uint64_t clusters_max = LAYOUT_REFTABLE_BYTES_MAX / 8 *
                layout_refblock_entries(m->hdr.cluster_bits, LAYOUT_REFCOUNT_ORDER);
        int rc = image_state_read(m, 0, buf, sizeof(buf), e);

        if (rc < 0)
                return rc;
        if (sum_bytes(buf, sizeof(buf), m->hdr.hash_seed) != m->snapshot->toc_sum)
                return err_msg(e, EBADMSG, "the section table does not match its checksum");
        rc = sectoc_parse(buf, m->hdr.cluster_bits, m->snapshot->state_bytes, &m->toc, e);
        if (rc == 0)
                rc = open_tree(m, LAYOUT_CHECKSUMS, m->disk_clusters, m->disk_clusters,
                               &m->checksums, e);
        if (rc == 0)
                rc = open_tree(m, LAYOUT_HOSTSUMS, 1, clusters_max, &m->hostsums, e);
        return rc;
}

static int verify_clusters(const struct qs_image *m, const uint8_t *buf, uint64_t offset,
                           uint64_t clusters, const char *what, struct err *e)
{
        uint64_t at = offset >> m->hdr.cluster_bits;

        for (uint64_t i = 0; i < clusters; i++, buf += m->cluster_bytes) {
                uint64_t sum = 0;
                int rc = at + i < sumtree_entries(m->hostsums)
                         ? sumtree_get(m->hostsums, at + i, &sum, e) : 0;

                if (rc < 0)
                        return rc;
                if (sum != sum_bytes(buf, m->cluster_bytes, m->hdr.hash_seed))
                        return err_msg(e, EBADMSG, "%s at offset %llu does not match its "
                                       "checksum", what,
                                       (unsigned long long)((at + i) << m->hdr.cluster_bits));
        }
        return 0;
}

/* Tables of ours have no COPIED. QEMU sets it where the active layer was the
 * only other one to share a table and left it. */
static void forget_copied(uint64_t *entries, uint64_t n)
{
        for (uint64_t i = 0; i < n; i++)
                entries[i] &= ~htobe64(L2ENTRY_COPIED);
}

int image_pread_verified(const struct qs_image *m, void *buf, uint64_t offset,
                         uint64_t clusters, const char *what, struct err *e)
{
        int rc = image_pread(m, buf, clusters << m->hdr.cluster_bits, offset, what, e);

        return rc < 0 ? rc : verify_clusters(m, buf, offset, clusters, what, e);
}

int image_table_read(const struct qs_image *m, void *buf, uint64_t offset, uint64_t clusters,
                     const char *what, struct err *e)
{
        uint64_t bytes = clusters << m->hdr.cluster_bits;
        int rc = image_pread(m, buf, bytes, offset, what, e);

        if (rc == 0)
                forget_copied(buf, bytes / sizeof(uint64_t));
        return rc < 0 ? rc : verify_clusters(m, buf, offset, clusters, what, e);
}

static int open_ours(struct qs_image *m, struct err *e)
{
        const struct snapshot *s = m->snapshot;

        if (!s->ours || s->disk_bytes != m->hdr.disk_bytes || s->l1_entries <= m->disk_l1)
                return err_msg(e, EBADMSG, "snapshot '%s' was not made by snapback", s->tag);

        int rc = use_l1(m, s->l1_offset, s->l1_entries, e);

        if (rc == 0)
                rc = read_state_l1(m, s, e);
        if (rc == 0)
                rc = keep_state_l2(m, s, e);
        return rc < 0 ? rc : read_sections(m, e);
}

/* A file of ours whose extension was lost must not pass as somebody's plain
 * QCOW2 file: its VM state tells. */
static int refuse_headless(struct qs_image *m, struct err *e)
{
        const struct snapshot *s = m->hdr.snapshots ? &m->snapshots[m->hdr.snapshots - 1] : NULL;
        uint8_t magic[8];

        if (!s || m->hdr.extended_l2 || s->l1_entries <= m->disk_l1 ||
            s->state_bytes < sizeof(magic))
                return 0;

        int rc = read_state_l1(m, s, e);

        if (s->ours || (rc == 0 && image_state_read(m, 0, magic, sizeof(magic), NULL) == 0 &&
                        sectoc_magic(magic, sizeof(magic))))
                return err_msg(e, EBADMSG, "the snapback header extension is missing: the header "
                               "is damaged or was changed by another program");
        return rc;
}

/* The disk of a snapshot may have another size; behind it is VM state. */
static int take_snapshot_disk(struct qs_image *m, struct err *e)
{
        if (m->snapshot->disk_bytes)
                m->disk_bytes = m->snapshot->disk_bytes;
        if (m->disk_bytes > QS_DISK_BYTES_MAX)
                return err_msg(e, ENOTSUP, "a disk of more than 64 TiB is not supported");
        m->disk_clusters = layout_clusters(m->disk_bytes, m->hdr.cluster_bits);
        m->disk_l1 = imghdr_l1_entries(&m->hdr, m->disk_bytes);
        return 0;
}

static int open_foreign(struct qs_image *m, struct err *e)
{
        const struct snapshot *s = m->snapshot;
        int rc = refuse_headless(m, e);

        if (rc == 0 && s)
                rc = take_snapshot_disk(m, e);
        if (rc < 0)
                return rc;
        return s ? use_l1(m, s->l1_offset, s->l1_entries, e)
                 : use_l1(m, m->hdr.l1_offset, m->hdr.l1_entries, e);
}

static void fill_info(struct qs_image *m)
{
        struct qs_image_info *i = &m->info;

        i->format_version = m->hdr.format_version;
        i->changed = m->hdr.changed;
        memcpy(i->uuid, m->hdr.uuid, sizeof(i->uuid));
        i->disk_bytes = m->disk_bytes;
        i->compress = m->hdr.zstd ? QS_COMPRESS_ZSTD : QS_COMPRESS_NONE;
        i->is_parent = m->hdr.is_parent;
        i->parent = m->parent_name;
        i->layers = 1;
        m->unit_bits = MAX(m->hdr.cluster_bits, QS_CLUSTER_BITS_MIN);
        m->units = layout_clusters(m->disk_bytes, m->unit_bits);
        i->cluster_bits = m->unit_bits;
        if (m->snapshot) {
                memcpy(i->tag, m->snapshot->tag, sizeof(i->tag));
                i->date_ns = m->snapshot->date_ns;
                i->vm_clock_ns = m->snapshot->vm_clock_ns;
                i->state_bytes = m->snapshot->state_bytes;
        }
}

static int open_chosen(struct qs_image *m, struct err *e)
{
        int rc = m->hdr.format_version ? open_ours(m, e) : open_foreign(m, e);

        if (rc == 0)
                fill_info(m);
        return rc;
}

int image_open_native(struct qs_image *m, const char *tag, struct err *e)
{
        int rc = choose_snapshot(m, tag, e);

        return rc < 0 ? rc : open_chosen(m, e);
}

/* Ids of ours are decimal. */
static int parse_id(const struct snapshot *s, uint32_t *ret, struct err *e)
{
        char *end;
        unsigned long id = strtoul(s->id, &end, 10);

        if (s->id[0] < '0' || s->id[0] > '9' || *end || id > UINT32_MAX)
                return err_msg(e, EBADMSG, "snapshot '%s' was not made by snapback", s->tag);
        *ret = (uint32_t)id;
        return 0;
}

bool image_header_stands(const struct qs_image *m)
{
        uint8_t now[LAYOUT_SECTOR_BYTES];

        return image_pread(m, now, sizeof(now), 0, "the header", NULL) == 0 &&
               memcmp(now, m->sector, sizeof(now)) == 0;
}

int image_lock_snapshot(const struct qs_image *m, uint32_t *ret_id, struct err *e)
{
        int rc = parse_id(m->snapshot, ret_id, e);

        return rc == 0 ? imglock_tag(m->fd, *ret_id, e) : rc;
}

/* Snapshots whose bytes are locked already, while an image is opened. */
struct held {
        uint32_t id[OPEN_TRIES];
        unsigned n;
};

static bool holds(const struct held *h, uint32_t id)
{
        unsigned i = 0;

        while (i < h->n && h->id[i] != id)
                i++;
        return i < h->n;
}

/* INV-TAG: 0, or -EAGAIN when the tables must be read again. A snapshot that was
 * held before they were read need not be looked after: those that the default
 * was meanwhile stay locked, so a file that changes all the time opens, too. */
static int hold_chosen(struct qs_image *m, struct held *held, struct err *e)
{
        uint32_t id = 0;
        int rc = image_lock_snapshot(m, &id, e);

        if (rc < 0 || holds(held, id))
                return rc;
        held->id[held->n++] = id;
        return image_header_stands(m) ? 0 : err_msg(e, EAGAIN, "the file changes all the time");
}

/* Chooses a snapshot and sees to it that nobody takes it away. Files that others
 * may have changed stay locked as a whole. */
static int hold_snapshot(struct qs_image *m, const char *tag, struct err *e)
{
        struct held held = { .n = 0 };
        int rc = choose_snapshot(m, tag, e);

        for (int i = 1; rc == 0 && m->hdr.format_version && !m->hdr.changed; i++) {
                rc = hold_chosen(m, &held, e);
                if (rc != -EAGAIN)
                        return rc;
                if (i == OPEN_TRIES)
                        return err_in(e, -EBUSY, "snapshot '%s'", m->snapshot->tag);
                rc = image_load_tables(m, e);
                if (rc == 0)
                        rc = choose_snapshot(m, tag, e);
        }
        return rc;
}

int image_open_layer(int fd, const char *path, const char *tag, struct qs_image **ret,
                     struct err *e)
{
        struct qs_image *m = calloc(1, sizeof(*m));

        if (!m)
                return err_set(e, ENOMEM, "open");
        m->fd = -1;

        int rc = image_open_tables(m, fd, path, e);

        if (rc == 0)
                rc = hold_snapshot(m, tag, e);
        if (rc == 0 && m->hdr.aes)
                rc = err_msg(e, ENOTSUP, "it is encrypted (AES)");
        if (rc == 0)
                rc = open_chosen(m, e);
        if (rc < 0) {
                qs_image_close(m);
                return rc;
        }
        *ret = m;
        return 0;
}

static int copy_tables(struct qs_image *m, const struct qs_image *of, uint32_t i, struct err *e)
{
        *m = *of;
        m->fd = fcntl(of->fd, F_DUPFD_CLOEXEC, 0);
        m->path = strdup(of->path);
        m->parent_name = of->parent_name ? strdup(of->parent_name) : NULL;
        m->snapshots = malloc(sizeof(*m->snapshots));
        if (m->fd < 0 || !m->path || !m->snapshots || !m->parent_name != !of->parent_name)
                return err_set(e, m->fd < 0 ? errno : ENOMEM, "open");
        m->snapshots[0] = of->snapshots[i];
        m->snapshot = &m->snapshots[0];
        return 0;
}

int image_open_sibling(const struct qs_image *of, uint32_t i, struct qs_image **ret,
                       struct err *e)
{
        struct qs_image *m = calloc(1, sizeof(*m));

        ASSERT(!of->snapshot && !of->l1 && i < of->hdr.snapshots);
        if (!m)
                return err_set(e, ENOMEM, "open");

        int rc = copy_tables(m, of, i, e);

        if (rc == 0)
                rc = open_chosen(m, e);
        if (rc < 0) {
                qs_image_close(m);
                return rc;
        }
        *ret = m;
        return 0;
}

static void close_layer(struct qs_image *m)
{
        image_map_free(m);
        sumtree_free(m->checksums);
        sumtree_free(m->hostsums);
        legacy_close(m->legacy);
        image_later_free(m);
        free(m->state_l1);
        free(m->snapshots);
        free(m->parent_name);
        free(m->path);
        fd_close(&m->fd);
        free(m);
}

void qs_image_close(struct qs_image *m)
{
        while (m) {
                struct qs_image *parent = m->parent;

                close_layer(m);
                m = parent;
        }
}

const struct qs_image_info *qs_image_info(const struct qs_image *m)
{
        return &m->info;
}

static const struct qs_image *layer_of(const struct qs_image *m, unsigned layer)
{
        ASSERT(layer < m->info.layers);
        while (layer-- > 0)
                m = m->parent;
        return m;
}

int qs_image_fd(const struct qs_image *m, unsigned layer)
{
        return layer_of(m, layer)->fd;
}

const char *qs_image_name(const struct qs_image *m, unsigned layer)
{
        return layer_of(m, layer)->path;
}
