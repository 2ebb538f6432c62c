/* SPDX-License-Identifier: Apache-2.0 */
/* reading a snapshot's working set
 *
 * That of the pool area may have been stored after the image was opened, and what
 * the area was then may have been given to others. So the file's own tables are
 * read again, while they are locked; and as every byte is summed from the header
 * on, a lock that is lost on the way, or a file system without any, shows. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "qcowstore/imglock.h"
#include "qcowstore/l2entry.h"
#include "qcowstore/sum.h"
#include "qcowstore/workset.h"

/* the file changed while it was read */
#define LOAD_TRIES 3

/* The pool area of a file of which only the tables were opened. */
struct area {
        const struct qs_image *m;
        uint64_t *table;                /* an L2 table, as it is stored */
        uint64_t table_at;              /* which one + 1; 0 = none yet */
};

/* L2 table i of the area */
static int read_table(struct area *a, uint64_t i, struct err *e)
{
        const struct qs_image *m = a->m;
        uint64_t v, offset;

        if (i >= m->hdr.l1_entries - m->disk_l1)
                return err_msg(e, EBADMSG, "the pool area is too short");

        int rc = image_pread(m, &v, sizeof(v), m->hdr.l1_offset + (m->disk_l1 + i) * 8,
                             "the active L1 table", e);

        if (rc < 0)
                return rc;
        if (l1entry_decode(be64toh(v), m->hdr.cluster_bits, m->bound, &offset) || !offset)
                return err_msg(e, EBADMSG, "the pool area has a hole");
        a->table_at = i + 1;
        return image_pread(m, a->table, m->cluster_bytes, offset, "an L2 table", e);
}

static int locate(struct area *a, uint64_t cluster, uint64_t *ret_offset, struct err *e)
{
        const struct qs_image *m = a->m;
        uint64_t n = layout_l2_entries(m->hdr.cluster_bits);
        struct l2entry entry;
        int rc = a->table_at == cluster / n + 1 ? 0 : read_table(a, cluster / n, e);

        if (rc < 0)
                return rc;
        if (l2entry_decode(be64toh(a->table[cluster % n]), m->hdr.cluster_bits, m->bound,
                           &entry) || entry.kind != L2_RAW)
                return err_msg(e, EBADMSG, "the pool area has a hole");
        *ret_offset = entry.offset;
        return 0;
}

static int read_bytes(struct area *a, uint64_t at, uint64_t bytes, uint64_t sum, uint8_t *buf,
                      struct err *e)
{
        const struct qs_image *m = a->m;

        for (uint64_t done = 0; done < bytes; done += m->cluster_bytes) {
                uint64_t offset = 0;
                int rc = locate(a, (at + done) >> m->hdr.cluster_bits, &offset, e);

                if (rc == 0)
                        rc = image_pread(m, buf + done, MIN(bytes - done, m->cluster_bytes),
                                         offset, "the pool area", e);
                if (rc < 0)
                        return rc;
        }
        return sum_bytes(buf, bytes, m->hdr.hash_seed) == sum ? 0
               : err_msg(e, EBADMSG, "the pool area does not match its checksum");
}

static int read_section(struct area *a, void **ret, size_t *ret_bytes, struct err *e)
{
        const struct qs_image *m = a->m;
        unsigned bits = m->hdr.cluster_bits;
        uint64_t area = (m->hdr.l1_entries - m->disk_l1) * layout_l2_entries(bits) << bits;
        uint8_t buf[SECTOC_BYTES];
        struct sectoc toc;
        int rc = read_bytes(a, 0, sizeof(buf), m->hdr.pool_sum, buf, e);

        if (rc == 0)
                rc = sectoc_parse(buf, bits, area, &toc, e);
        if (rc < 0)
                return rc;

        const struct section *s = sectoc_find(&toc, WORKSET_SECTIONS);

        if (!s || s->flags & SECTION_TREE)
                return err_msg(e, ENOENT, "there is no working set");

        AUTO_FREE uint8_t *data = malloc(s->bytes + 1);

        if (!data)
                return err_set(e, ENOMEM, "read the working set");
        rc = read_bytes(a, s->offset, s->bytes, s->sum, data, e);
        if (rc < 0)
                return rc;
        *ret = ptr_take(&data);
        *ret_bytes = s->bytes;
        return 0;
}

/* the file's own tables, as they are now; of the very file that is open */
static int load_sections(const struct qs_image *m, void **ret, size_t *ret_bytes, struct err *e)
{
        struct qs_image *now = calloc(1, sizeof(*now));

        if (!now)
                return err_set(e, ENOMEM, "read the working set");
        now->fd = -1;

        int rc = image_open_tables(now, m->fd, m->path, e);
        bool ours = rc == 0 && now->hdr.format_version && !now->hdr.changed &&
                    memcmp(now->hdr.uuid, m->hdr.uuid, sizeof(m->hdr.uuid)) == 0;
        AUTO_FREE uint64_t *table = rc == 0 ? malloc(now->cluster_bytes) : NULL;
        struct area a = { .m = now, .table = table };

        if (rc == 0 && !table)
                rc = err_set(e, ENOMEM, "read the working set");
        if (rc == 0)
                rc = ours && now->hdr.pool_sum ? read_section(&a, ret, ret_bytes, e)
                     : err_msg(e, ENOENT, "there is no working set");
        if (now->fd >= 0)
                imglock_tables_done(now->fd);
        qs_image_close(now);
        return rc;
}

/* From the pool area; *ret_bytes 0: it says that there is none. Of a file that another
 * program changed there is no pool area to trust. */
static int load_stored(struct qs_image *m, void **ret, size_t *ret_bytes, struct err *e)
{
        AUTO_FREE void *all = NULL;
        const uint8_t *set;
        size_t bytes = 0;
        int rc = -EBADMSG;

        for (int i = 0; rc == -EBADMSG && i < LOAD_TRIES; i++)
                rc = m->hdr.changed ? -ENOENT : load_sections(m, &all, &bytes, e);
        if (rc == 0)
                rc = worksets_find(all, bytes, m->snapshot->toc_sum, &set, &bytes, e);
        if (rc < 0)
                return err_in(e, rc, "image '%s'", m->path);
        *ret = malloc(bytes + 1);
        if (!*ret)
                return err_set(e, ENOMEM, "read the working set");
        memcpy(*ret, set, bytes);
        *ret_bytes = bytes;
        return 0;
}

/* from the snapshot itself */
static int load_own(struct qs_image *m, void **ret, size_t *ret_bytes, struct err *e)
{
        struct qs_reader *r = NULL;
        int rc = qs_reader_new(m, &r, e);

        if (rc == 0)
                rc = qs_section_read(r, QS_SECTION_WORKING_SET, ret, ret_bytes, e);
        qs_reader_free(r);
        return rc;
}

int workset_load(struct qs_image *m, void **ret, size_t *ret_bytes, struct err *e)
{
        AUTO_FREE void *data = NULL;
        size_t bytes = 0;
        bool ours = m->hdr.format_version && m->snapshot;
        struct err why = { 0 };         /* that it is not here is no error if it is there */
        int rc = ours ? load_stored(m, &data, &bytes, &why) : -ENOENT;

        if (rc == -ENOENT && ours)
                rc = load_own(m, &data, &bytes, &why);
        if (rc == -ENOENT || (rc == 0 && bytes == 0))
                return err_msg(e, ENOENT, "image '%s' has no working set: record one with 'vmm "
                               "revert --record'", m->path);
        if (rc < 0) {
                if (e)
                        *e = why;
                return rc;
        }
        *ret = ptr_take(&data);
        *ret_bytes = bytes;
        return 0;
}

int qs_working_set_read(struct qs_image *m, struct qs_ram_range **ret, size_t *ret_n,
                        struct err *e)
{
        AUTO_FREE void *data = NULL;
        size_t bytes = 0;
        int rc = workset_load(m, &data, &bytes, e);

        if (rc < 0)
                return rc;
        rc = qs_working_set_parse(data, bytes, m->disk_bytes, ret, ret_n, e);
        return rc < 0 ? err_in(e, rc, "image '%s'", m->path) : 0;
}
