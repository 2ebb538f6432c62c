/* SPDX-License-Identifier: Apache-2.0 */
/* storing a snapshot's working set
 *
 * Only what belongs to the file is made anew: pool area, active layer, snapshot
 * table (with the same bytes), refcounts; then the header switches (pool.h). No RAM,
 * no table and no section of a snapshot is written, so whoever reads one, or rests on
 * it as a delta does, notices nothing. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "qcowstore/commit.h"
#include "qcowstore/dedupindex.h"
#include "qcowstore/workset.h"

struct put {
        struct pool *pool;
        struct space space;
        struct dedupindex area;         /* with the new WORKING-SETS as the last section */
        uint64_t *l1;                   /* of the active layer, the disk's part */
        uint8_t *sets;
        size_t sets_bytes;
};

static int find_tag(const struct put *x, const char *tag, uint64_t *ret_toc_sum, struct err *e)
{
        const struct qs_image *m = x->pool->latest;
        const struct snapshot *s = NULL;

        for (uint32_t i = 0; i < m->hdr.snapshots; i++) {
                if (!tag || strcmp(m->snapshots[i].tag, tag) == 0)
                        s = &m->snapshots[i];           /* NULL: the last one (INV-LATEST) */
        }
        if (!s)
                return err_msg(e, ENOENT, "there is no snapshot '%s' in '%s'", tag, m->path);
        *ret_toc_sum = s->toc_sum;
        return 0;
}

static int make_sets(struct put *x, uint64_t toc_sum, const struct qs_ram_range *set, size_t n,
                     struct err *e)
{
        const struct qs_image *m = x->pool->latest;
        const struct section *old = sectoc_find(&x->pool->area_toc, WORKSET_SECTIONS);
        AUTO_FREE uint8_t *bytes = workset_encode(set, n);
        AUTO_FREE void *data = NULL;
        int rc = old ? pool_section(x->pool, old, &data, e) : 0;

        if (!bytes)
                return err_set(e, ENOMEM, "write the working set");
        if (rc == -EBADMSG)             /* it is written anew, as far as it is known */
                rc = 0;
        if (rc == 0)
                rc = worksets_put(data, data ? old->bytes : 0, m->snapshots, m->hdr.snapshots,
                                  toc_sum, bytes, n * WORKSET_EXTENT_BYTES, &x->sets,
                                  &x->sets_bytes, e);
        if (rc == 0 && x->sets_bytes > QS_SECTION_BYTES_MAX)
                return err_msg(e, EFBIG, "'%s' has no room for more working sets: take out those "
                               "of other snapshots with 'vmm image workingset --clear'", m->path);
        return rc;
}

static int make_area(struct put *x, struct err *e)
{
        struct dedupindex *area = &x->area;
        int rc = dedupindex_next(x->pool, NULL, NULL, area, e);

        if (rc < 0)
                return rc;
        if (area->n > 0 && area->section[area->n - 1].kept &&
            strcmp(area->section[area->n - 1].kept->name, WORKSET_SECTIONS) == 0)
                area->n--;              /* the old ones */
        area->section[area->n] = (struct area_section){
                .data = x->sets, .bytes = x->sets_bytes,
        };
        strcpy(area->section[area->n++].name, WORKSET_SECTIONS);
        return 0;
}

/* The active layer's new L1 refers to the same tables as the old one. */
static int recount(struct put *x, struct err *e)
{
        struct qs_image *m = x->pool->latest;
        int rc = pool_space(x->pool, &x->space, e);

        if (rc == 0)
                rc = pool_release_file(x->pool, &x->space, e);
        if (rc == 0)
                rc = pool_count_tag(m, true, 1, &x->space, e);
        x->l1 = calloc(m->disk_l1 + 1, sizeof(*x->l1));
        if (rc == 0 && !x->l1)
                return err_set(e, ENOMEM, "change '%s'", m->path);
        for (uint64_t i = 0; rc == 0 && i < m->disk_l1; i++)
                rc = image_l1_entry(m, i, &x->l1[i], e);
        return rc;
}

static int on_write_error(void *ctx, int rc, struct err *e)
{
        return pool_write_error(ctx, rc, e);
}

static int commit(struct put *x, struct err *e)
{
        const struct qs_image *m = x->pool->latest;
        uint8_t sector[LAYOUT_SECTOR_BYTES];
        struct commit c = {
                .fd = x->pool->fd, .space = &x->space, .pool = x->pool,
                .snapshots = m->snapshots, .n_snapshots = m->hdr.snapshots, .disk_l1 = x->l1,
                .disk_l1_entries = m->disk_l1, .area = x->area.section, .n_area = x->area.n,
                .write_error = on_write_error, .ctx = x->pool, .header = m->hdr,
        };
        int rc = commit_write(&c, e);

        if (rc < 0)
                return rc;
        if (c.header.snaptable_sum != m->hdr.snaptable_sum)     /* what a delta knows of it */
                return err_msg(e, EBADMSG, "'%s': its snapshot table is not as snapback writes "
                               "it: make the file anew with 'vmm image compact'", m->path);
        imghdr_encode(&c.header, sector);
        if (m->parent_name)
                imghdr_name_parent(sector, m->parent_name);
        return pool_switch(x->pool, sector, e);
}

/* A name that QEMU wrote may be longer than ours; but then the file was changed, and
 * is refused already. */
static int check_name(const struct put *x, struct err *e)
{
        const char *name = x->pool->latest->parent_name;

        if (name && strlen(name) > IMGHDR_NAME_MAX)
                return err_msg(e, EBADMSG, "'%s': the name of its parent is too long",
                               x->pool->path);
        return 0;
}

/* The name may be another file's by now. */
static int check_file(const struct put *x, const struct qs_image *of, struct err *e)
{
        const struct qs_image *m = x->pool->latest;

        if (of && memcmp(m->hdr.uuid, of->hdr.uuid, sizeof(m->hdr.uuid)) != 0)
                return err_msg(e, ESTALE, "'%s' is another image by now", m->path);
        return 0;
}

static int check_set(const struct put *x, const struct qs_ram_range *set, size_t n,
                     struct err *e)
{
        uint64_t end = x->pool->latest->disk_bytes;

        for (size_t i = 0; i < n; i++) {
                const struct qs_ram_range *r = &set[i];

                if (r->bytes == 0 || !IS_ALIGNED(r->gpa | r->bytes, LAYOUT_PAGE_BYTES) ||
                    r->gpa > end || r->bytes > end - r->gpa)
                        return err_msg(e, EINVAL, "%llu bytes at 0x%llx are not pages of the "
                                       "memory in '%s'", (unsigned long long)r->bytes,
                                       (unsigned long long)r->gpa, x->pool->path);
        }
        return 0;
}

static int put(struct put *x, const char *tag, const struct qs_image *of,
               const struct qs_ram_range *set, size_t n, struct err *e)
{
        uint64_t toc_sum = 0;
        int rc = check_file(x, of, e);

        if (rc == 0)
                rc = check_set(x, set, n, e);
        if (rc == 0)
                rc = find_tag(x, tag, &toc_sum, e);
        if (rc == 0)
                rc = check_name(x, e);
        if (rc == 0)
                rc = make_sets(x, toc_sum, set, n, e);
        if (rc == 0)
                rc = recount(x, e);
        if (rc == 0)
                rc = make_area(x, e);
        return rc < 0 ? rc : commit(x, e);
}

int qs_working_set_put(const char *path, const char *tag, const struct qs_image *of,
                       const struct qs_ram_range *set, size_t n, struct err *e)
{
        struct put x = { 0 };
        int rc = n > QS_WORKING_SET_MAX
                 ? err_msg(e, E2BIG, "a working set has at most %u extents", QS_WORKING_SET_MAX)
                 : pool_open_notes(path, &x.pool, e);

        if (rc == 0)
                rc = put(&x, tag, of, set, n, e);
        dedupindex_fini(&x.area);
        space_fini(&x.space);
        free(x.sets);
        free(x.l1);
        pool_close(x.pool);
        return rc;
}
