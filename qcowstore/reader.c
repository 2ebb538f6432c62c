/* SPDX-License-Identifier: Apache-2.0 */
/* guest RAM and sections out of an open image */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "common/auto.h"
#include "qcowstore/image-priv.h"
#include "qcowstore/l2entry.h"
#include "qcowstore/sum.h"

struct qs_reader {
        struct qs_image *image;
        ZSTD_DCtx *zstd;
        uint8_t *packed;        /* 2 clusters: no entry can ask for more */
};

int qs_reader_new(struct qs_image *m, struct qs_reader **ret, struct err *e)
{
        if (m->hdr.format_version == 0)
                return err_msg(e, ENOTSUP, "image '%s' was not made by snapback and has no "
                               "checksums: read it with 'qemu-img convert'", m->path);

        struct qs_reader *r = calloc(1, sizeof(*r));

        if (!r)
                return err_set(e, ENOMEM, "image '%s'", m->path);
        r->image = m;
        r->zstd = ZSTD_createDCtx();
        r->packed = malloc(2 * m->cluster_bytes);
        if (!r->zstd || !r->packed) {
                qs_reader_free(r);
                return err_set(e, ENOMEM, "image '%s'", m->path);
        }
        *ret = r;
        return 0;
}

void qs_reader_free(struct qs_reader *r)
{
        if (!r)
                return;
        ZSTD_freeDCtx(r->zstd);
        free(r->packed);
        free(r);
}

/* Both guardians of a cluster; one is zero when and only when the other is. */
static int look_up(struct qs_reader *r, uint64_t cluster, uint64_t *ret_entry,
                   uint64_t *ret_sum, struct err *e)
{
        struct qs_image *m = r->image;
        uint64_t entry;
        uint64_t sum;
        int rc = image_l2_entry(m, cluster, &entry, e);

        if (rc == 0)
                rc = sumtree_get(m->checksums, cluster, &sum, e);
        if (rc == 0 && (entry == 0) != (sum == 0))
                rc = err_msg(e, EBADMSG, "L2 table and CHECKSUMS disagree");
        if (rc < 0)
                return err_in(e, rc, "image '%s', cluster %llu", m->path,
                              (unsigned long long)cluster);
        *ret_entry = entry;
        *ret_sum = sum;
        return 0;
}

int qs_cluster_kind(struct qs_reader *r, uint64_t cluster, enum qs_kind *ret, struct err *e)
{
        uint64_t entry;
        uint64_t sum;
        int rc = look_up(r, cluster, &entry, &sum, e);

        if (rc == 0)
                *ret = entry == 0 ? QS_ZERO : entry & L2ENTRY_PACKED ? QS_PACKED : QS_RAW;
        return rc;
}

int qs_zero_run(struct qs_reader *r, uint64_t cluster, uint64_t max, uint64_t *ret,
                struct err *e)
{
        uint64_t n = MIN(max, r->image->disk_clusters - cluster);

        ASSERT(cluster <= r->image->disk_clusters);
        for (uint64_t i = 0; i < n; i++) {
                uint64_t entry;
                uint64_t sum;
                int rc = look_up(r, cluster + i, &entry, &sum, e);

                if (rc < 0)
                        return rc;
                if (entry)
                        n = i;
        }
        *ret = n;
        return 0;
}

static int unpack(struct qs_reader *r, const struct l2entry *entry, void *buf, struct err *e)
{
        size_t room = r->image->cluster_bytes;
        int rc = image_pread(r->image, r->packed, entry->bytes, entry->offset, "its data", e);

        if (rc < 0)
                return rc;

        size_t frame = ZSTD_findFrameCompressedSize(r->packed, entry->bytes);

        if (ZSTD_isError(frame) ||
            ZSTD_decompressDCtx(r->zstd, buf, room, r->packed, frame) != room)
                return err_msg(e, EBADMSG, "its data cannot be decompressed: the file is damaged");
        return 0;
}

/* INV-VERIFIED */
static int read_data(struct qs_reader *r, uint64_t v, uint64_t sum, void *buf, struct err *e)
{
        struct qs_image *m = r->image;
        struct l2entry entry;
        const char *wrong = l2entry_decode(v, m->hdr.cluster_bits, m->bound, &entry);

        ASSERT(!wrong);
        ASSERT(entry.bytes <= 2 * m->cluster_bytes);

        int rc = entry.kind == L2_PACKED
                 ? unpack(r, &entry, buf, e)
                 : image_pread(m, buf, m->cluster_bytes, entry.offset, "its data", e);

        if (rc < 0)
                return rc;
        if (sum_bytes(buf, m->cluster_bytes, m->hdr.hash_seed) != sum)
                return err_msg(e, EBADMSG, "its data do not match their checksum: the file is "
                               "damaged");
        return 0;
}

int qs_cluster_read(struct qs_reader *r, uint64_t cluster, void *buf, struct err *e)
{
        uint64_t entry;
        uint64_t sum;
        int rc = look_up(r, cluster, &entry, &sum, e);

        if (rc < 0)
                return rc;
        if (entry == 0) {
                memset(buf, 0, r->image->cluster_bytes);
                return 0;
        }
        rc = read_data(r, entry, sum, buf, e);
        if (rc < 0)
                return err_in(e, rc, "image '%s', cluster %llu", r->image->path,
                              (unsigned long long)cluster);
        return 0;
}

static int read_section(struct qs_image *m, const struct section *s, uint8_t *data,
                        struct err *e)
{
        int rc = image_state_read(m, s->offset, data, s->bytes, e);

        if (rc < 0)
                return rc;
        if (sum_bytes(data, s->bytes, m->hdr.hash_seed) != s->sum)
                return err_msg(e, EBADMSG, "its data do not match their checksum: the file is "
                               "damaged");
        data[s->bytes] = '\0';
        return 0;
}

int qs_section_read(struct qs_reader *r, const char *name, void **ret_data, size_t *ret_bytes,
                    struct err *e)
{
        struct qs_image *m = r->image;
        const struct section *s = sectoc_find(&m->toc, name);

        if (!s || s->flags & SECTION_TREE)
                return err_msg(e, ENOENT, "image '%s' has no section '%s'", m->path, name);

        AUTO_FREE uint8_t *data = malloc(s->bytes + 1);

        if (!data)
                return err_set(e, ENOMEM, "image '%s', section '%s'", m->path, name);

        int rc = read_section(m, s, data, e);

        if (rc < 0)
                return err_in(e, rc, "image '%s', section '%s'", m->path, name);
        *ret_data = ptr_take(&data);
        *ret_bytes = s->bytes;
        return 0;
}

int qs_snapshot_list(int fd, const char *path, struct qs_snapshot_info **ret, size_t *ret_n,
                     struct err *e)
{
        struct qs_image *m = calloc(1, sizeof(*m));

        if (!m)
                return err_set(e, ENOMEM, "image '%s'", path);
        m->fd = -1;

        int rc = image_open_tables(m, fd, path, e);
        size_t n = rc == 0 ? m->hdr.snapshots : 0;
        struct qs_snapshot_info *list = calloc(n + 1, sizeof(*list));

        if (rc == 0 && !list)
                rc = err_set(e, ENOMEM, "list snapshots");
        for (size_t i = 0; rc == 0 && i < n; i++) {
                const struct snapshot *s = &m->snapshots[i];

                memcpy(list[i].id, s->id, sizeof(list[i].id));
                memcpy(list[i].tag, s->tag, sizeof(list[i].tag));
                list[i].date_ns = s->date_ns;
                list[i].vm_clock_ns = s->vm_clock_ns;
                list[i].state_bytes = s->state_bytes;
                list[i].is_default = i == (m->hdr.format_version ? m->hdr.default_snapshot
                                                                 : n - 1);
        }
        qs_image_close(m);
        if (rc < 0) {
                free(list);
                return err_in(e, rc, "image '%s'", path);
        }
        *ret = list;
        *ret_n = n;
        return 0;
}
