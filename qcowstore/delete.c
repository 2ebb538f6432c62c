/* SPDX-License-Identifier: Apache-2.0 */
/* a tag is taken out of a pool
 *
 * Nothing of the old state is overwritten here either: counts are written anew,
 * and the header switches. Then what was freed goes back to the file system,
 * unless somebody may still read the old state: then it waits for a later change.
 * Whoever reads the tag itself keeps it from being deleted. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "qcowstore/commit.h"
#include "qcowstore/dedupindex.h"
#include "qcowstore/imglock.h"

struct deletion {
        struct pool *pool;
        uint32_t index;                 /* of the tag in the snapshot table */
        struct qs_image *tag;
        struct qs_image *next;          /* the default tag afterwards; pool->latest or owned */
        struct space space;
        struct dedupindex contents;
        struct snapshot *left;
        uint64_t *l1;                   /* of next, the disk's part: offsets of L2 tables */
};

static int find_tag(struct deletion *d, const char *tag, struct err *e)
{
        const struct qs_image *m = d->pool->latest;

        for (d->index = 0; d->index < m->hdr.snapshots; d->index++) {
                if (strcmp(m->snapshots[d->index].tag, tag) == 0)
                        break;
        }
        if (d->index == m->hdr.snapshots)
                return err_msg(e, ENOENT, "there is no snapshot '%s' in '%s'", tag, m->path);
        if (m->hdr.snapshots == 1)
                return err_msg(e, EINVAL, "'%s' is the only snapshot in '%s': remove the file "
                               "instead", tag, m->path);
        return 0;
}

static int open_tag(const struct pool *p, uint32_t i, struct qs_image **ret, struct err *e)
{
        int rc = image_open_layer(p->fd, p->path, p->latest->snapshots[i].tag, ret, e);

        return rc < 0 ? err_in(e, rc, "image '%s'", p->path) : 0;
}

/* The lock comes last: opening takes the reader's on the same descriptor. */
static int open_tags(struct deletion *d, struct err *e)
{
        uint32_t last = d->pool->latest->hdr.snapshots - 1;
        const char *id = d->pool->latest->snapshots[d->index].id;
        int rc = open_tag(d->pool, d->index, &d->tag, e);

        d->next = d->pool->latest;
        if (rc == 0 && d->index == last)
                rc = open_tag(d->pool, last - 1, &d->next, e);
        if (rc == 0) {
                rc = imglock_delete(d->pool->fd, (uint32_t)strtoul(id, NULL, 10), e);
                if (rc < 0)
                        rc = err_in(e, rc, "delete '%s' from '%s'", d->tag->snapshot->tag,
                                    d->pool->path);
        }
        return rc;
}

static int recount(struct deletion *d, struct err *e)
{
        int rc = pool_space(d->pool, &d->space, e);

        if (rc == 0)
                rc = pool_release_file(d->pool, &d->space, e);
        if (rc == 0)
                rc = pool_count_tag(d->tag, false, -1, &d->space, e);
        if (rc == 0)
                rc = pool_count_tag(d->next, true, 1, &d->space, e);
        return rc < 0 ? rc : dedupindex_next(d->pool, NULL, &d->space, &d->contents, e);
}

static int list_left(struct deletion *d, struct err *e)
{
        const struct qs_image *m = d->pool->latest;
        uint32_t n = 0;
        int rc = 0;

        d->left = calloc(m->hdr.snapshots, sizeof(*d->left));
        d->l1 = calloc(m->disk_l1, sizeof(*d->l1));
        if (!d->left || !d->l1)
                return err_set(e, ENOMEM, "delete from '%s'", d->pool->path);
        for (uint32_t i = 0; i < m->hdr.snapshots; i++) {
                if (i != d->index)
                        d->left[n++] = m->snapshots[i];
        }
        for (uint64_t i = 0; rc == 0 && i < m->disk_l1; i++)
                rc = image_l1_entry(d->next, i, &d->l1[i], e);
        return rc;
}

static int on_write_error(void *ctx, int rc, struct err *e)
{
        return pool_write_error(ctx, rc, e);
}

static int commit(struct deletion *d, struct err *e)
{
        uint8_t sector[LAYOUT_SECTOR_BYTES];
        struct commit c = {
                .fd = d->pool->fd, .space = &d->space, .pool = d->pool, .snapshots = d->left,
                .n_snapshots = d->pool->latest->hdr.snapshots - 1, .disk_l1 = d->l1,
                .disk_l1_entries = d->pool->latest->disk_l1, .area = d->contents.section,
                .n_area = d->contents.n, .write_error = on_write_error, .ctx = d->pool,
                .header = d->pool->latest->hdr,
        };
        int rc = commit_write(&c, e);

        if (rc < 0)
                return rc;
        imghdr_encode(&c.header, sector);
        return pool_switch(d->pool, sector, e);
}

/* A hint: what cannot be given back is used again later. */
static void give_back(const struct deletion *d)
{
        const struct space *s = &d->space;
        uint64_t end = MIN(s->end, d->pool->latest->bound >> s->cluster_bits);

        if (imglock_readers(d->pool->fd))                       /* INV-REUSE */
                return;
        for (uint64_t i = 1, n; i < end; i += n) {
                for (n = 0; i + n < end && s->refs[i + n] == 0;)
                        n++;
                if (n && fallocate(d->pool->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                   (off_t)(i << s->cluster_bits),
                                   (off_t)(n << s->cluster_bits)) < 0)
                        return;
                n += n == 0;
        }
}

static int delete(struct deletion *d, const char *tag, struct err *e)
{
        int rc = find_tag(d, tag, e);

        if (rc == 0)
                rc = open_tags(d, e);
        if (rc == 0)
                rc = recount(d, e);
        if (rc == 0)
                rc = list_left(d, e);
        if (rc == 0)
                rc = commit(d, e);
        if (rc == 0)
                give_back(d);
        return rc;
}

int qs_snapshot_delete(const char *path, const char *tag, struct err *e)
{
        struct deletion d = { 0 };
        int rc = pool_open(path, &d.pool, e);

        if (rc == 0)
                rc = delete(&d, tag, e);
        if (d.pool && d.next != d.pool->latest)
                qs_image_close(d.next);
        qs_image_close(d.tag);
        dedupindex_fini(&d.contents);
        space_fini(&d.space);
        free(d.left);
        free(d.l1);
        pool_close(d.pool);
        return rc;
}
