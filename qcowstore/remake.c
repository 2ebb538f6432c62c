/* SPDX-License-Identifier: Apache-2.0 */
/* a file of ours made anew with all its tags: compact and optimize
 *
 * Tag after tag is put into a file without a name, which takes the place of the
 * old one when it is complete; whoever has that open keeps it. UUID, hash seed,
 * tags and dates stay. Compact copies what is stored as it is (clone.h), once
 * each, and leaves out what no tag refers to; optimize reads content, finds equal
 * ones, and compresses anew. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "qcowstore/clone.h"
#include "qcowstore/dedupindex.h"
#include "qcowstore/imglock.h"
#include "qcowstore/rewrite.h"
#include "qcowstore/sum.h"
#include "qcowstore/writer-priv.h"

/* contents that compact keeps in mind: 1 GiB of memory, if there are so many */
#define CLONES_MAX (1u << 24)

struct remake {
        const char *path;
        struct qs_writer_options options;
        bool clone;
        int fd;                         /* of the old file; holds the lock */
        struct pool *pool;              /* the same; NULL = it is not to be trusted */
        struct qs_image *latest;        /* pool->latest, or owned */
        struct writer_into into;
        struct publish *file;
        struct dedupindex index;
        struct qs_writer_stats stats;
        /* progress of all tags */
        qs_progress_fn *progress;
        void *ctx;
        uint32_t tag;
};

static bool on_progress(void *ctx, uint64_t done, uint64_t total)
{
        struct remake *r = ctx;

        return !r->progress || r->progress(r->ctx, r->tag * total + done,
                                           r->latest->hdr.snapshots * total);
}

/* What a delta has not is its parent's, which is not copied. The name of that may
 * have been taken out, the UUID was not. */
static int check_alone(const struct qs_image *m, struct err *e)
{
        const struct imghdr *h = &m->hdr;

        if (!h->backing_offset && sum_all_zero(h->parent_uuid, sizeof(h->parent_uuid)))
                return 0;
        return err_msg(e, EINVAL, "it has a parent and was changed by another program: make a new "
                       "one of it with 'vmm image export' and 'import'");
}

/* A file that another program changed, or whose own tables are damaged, has whole
 * tags, but no pool area to trust. */
static int open_changed(struct remake *r, struct err *e)
{
        r->fd = open(r->path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (r->fd < 0)
                return err_set(e, errno, "open '%s' to change it", r->path);

        int rc = imglock_append(r->fd, e);

        if (rc == 0)
                rc = image_open_layer(r->fd, r->path, NULL, &r->latest, e);
        if (rc == 0)
                rc = check_alone(r->latest, e);
        return rc < 0 ? err_in(e, rc, "image '%s'", r->path) : 0;
}

static int is_changed(struct remake *r, bool *ret, struct err *e)
{
        struct qs_image *m = NULL;
        AUTO_FD fd = open(r->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

        if (fd < 0)
                return err_set(e, errno, "open '%s'", r->path);

        int rc = image_open_layer(fd, r->path, NULL, &m, e);

        if (rc == 0)
                *ret = m->hdr.changed;
        qs_image_close(m);
        return rc < 0 ? err_in(e, rc, "image '%s'", r->path) : 0;
}

static int open_old(struct remake *r, struct err *e)
{
        bool changed = false;
        int rc = is_changed(r, &changed, e);

        if (rc == 0 && changed)
                return open_changed(r, e);
        if (rc == 0)
                rc = pool_open(r->path, &r->pool, e);
        if (rc == -EBADMSG)
                return open_changed(r, e);
        if (rc == 0) {
                r->latest = r->pool->latest;
                r->fd = r->pool->fd;
        }
        return rc;
}

/* with clusters of the new size */
static uint64_t contents(const struct remake *r)
{
        uint64_t clusters = layout_clusters(r->latest->hdr.disk_bytes, r->options.cluster_bits);

        return MIN(clusters * r->latest->hdr.snapshots,
                   r->clone ? CLONES_MAX : DEDUP_CONTENTS_MAX);
}

static int open_new(struct remake *r, struct err *e)
{
        const struct imghdr *h = &r->latest->hdr;

        if (r->clone || r->options.cluster_bits == 0)
                r->options.cluster_bits = h->cluster_bits;
        if (r->clone)
                r->options.compress = h->zstd ? QS_COMPRESS_ZSTD : QS_COMPRESS_NONE;
        r->options.disk_bytes = h->disk_bytes;

        int rc = publish_new(r->path, true, &r->file, e);

        if (rc < 0)
                return rc;
        r->into = (struct writer_into){
                .file = r->file, .path = r->path, .seed = h->hash_seed,
                .dedup = dedup_new(h->hash_seed, contents(r),
                                   r->clone ? UINT32_MAX / 4
                                            : dedup_refs_max(r->options.cluster_bits)),
        };
        memcpy(r->into.uuid, h->uuid, sizeof(r->into.uuid));
        return r->into.dedup ? 0 : err_set(e, ENOMEM, "rewrite '%s'", r->path);
}

static int put_first(struct qs_writer *w, struct qs_image *from, struct err *e)
{
        AUTO_FREE struct qs_ram_range *first = NULL;
        size_t n = 0;
        struct err why;
        int rc = qs_working_set_read(from, &first, &n, &why);

        if (rc == -ENOENT)
                return 0;
        if (rc < 0 && e)
                *e = why;
        return rc < 0 ? rc : qs_writer_first(w, first, n, e);
}

static int put_ram(struct remake *r, struct qs_writer *w, struct qs_image *from, struct err *e)
{
        const struct qs_ram_range all = { 0, r->options.disk_bytes };

        if (r->clone) {
                w->clone_of = from;
                return qs_writer_ram(w, &all, 1, NULL, on_progress, r, e);
        }

        int rc = put_first(w, from, e);

        return rc < 0 ? rc : rewrite_ram(w, from, all.bytes, on_progress, r, e);
}

/* With the last tag: what the next one must not store again. */
static int make_index(struct remake *r, struct err *e)
{
        int rc = 0;

        if (r->clone && r->pool)
                rc = dedupindex_moved(r->pool, r->into.dedup, &r->index, e);
        else if (!r->clone && r->latest->hdr.snapshots > 1)
                rc = dedupindex_of(r->into.dedup, &r->index, e);
        r->into.area = r->index.section;
        r->into.n_area = r->index.n;
        return rc;
}

static void add_stats(struct qs_writer_stats *all, const struct qs_writer_stats *one)
{
        all->clusters_zero += one->clusters_zero;
        all->clusters_raw += one->clusters_raw;
        all->clusters_packed += one->clusters_packed;
        all->clusters_shared += one->clusters_shared;
        all->ram_bytes += one->ram_bytes;
        all->file_bytes = one->file_bytes;
}

static int put_tag(struct remake *r, struct qs_image *from, struct err *e)
{
        struct qs_writer *w = NULL;
        struct qs_writer_stats stats;

        memcpy(r->options.tag, from->info.tag, sizeof(r->options.tag));
        r->options.date_ns = from->info.date_ns;
        r->options.vm_clock_ns = from->info.vm_clock_ns;

        int rc = writer_new_into(&r->into, &r->options, &w, e);

        if (rc == 0)
                rc = put_ram(r, w, from, e);
        if (rc == 0)
                rc = rewrite_sections(w, from, e);
        if (rc == 0 && r->tag == r->latest->hdr.snapshots - 1)
                rc = make_index(r, e);
        if (rc == 0)
                rc = qs_writer_publish(w, e);
        if (rc == 0) {
                qs_writer_stats(w, &stats);
                add_stats(&r->stats, &stats);
        }
        qs_writer_free(w);
        return rc;
}

static int put_tags(struct remake *r, struct err *e)
{
        int rc = 0;

        for (r->tag = 0; rc == 0 && r->tag < r->latest->hdr.snapshots; r->tag++) {
                const struct snapshot *s = &r->latest->snapshots[r->tag];
                struct qs_image *m = NULL;

                if (!s->ours)
                        return err_msg(e, EINVAL, "snapshot '%s' in '%s' was made by another "
                                       "program: delete it first ('qemu-img snapshot -d')",
                                       s->tag, r->path);
                rc = image_open_layer(r->fd, r->path, s->tag, &m, e);
                rc = rc < 0 ? err_in(e, rc, "image '%s'", r->path) : put_tag(r, m, e);
                qs_image_close(m);
        }
        return rc;
}

static int put_all(struct remake *r, struct err *e)
{
        int rc = open_old(r, e);

        if (rc == 0)
                rc = open_new(r, e);
        if (rc == 0)
                rc = put_tags(r, e);
        if (rc == 0)
                rc = rewrite_check_same(r->latest, e);
        return rc < 0 ? rc : publish_commit(r->file, e);
}

static void remake_fini(struct remake *r)
{
        publish_free(r->file);
        dedup_free(r->into.dedup);
        dedupindex_fini(&r->index);
        if (!r->pool) {
                qs_image_close(r->latest);
                fd_close(&r->fd);
        }
        pool_close(r->pool);
}

static int remake(struct remake *r, struct qs_writer_stats *ret, struct err *e)
{
        int rc = put_all(r, e);

        remake_fini(r);
        if (rc == 0)
                *ret = r->stats;
        return rc;
}

int qs_compact(const char *path, qs_progress_fn *progress, void *ctx,
               struct qs_writer_stats *ret, struct err *e)
{
        struct remake r = {
                .path = path, .clone = true, .fd = -1, .progress = progress, .ctx = ctx,
                .options = { .zstd_level = QS_ZSTD_LEVEL_DEFAULT },
        };

        return remake(&r, ret, e);
}

int qs_optimize(const char *path, const struct qs_writer_options *options,
                qs_progress_fn *progress, void *ctx, struct qs_writer_stats *ret,
                struct err *e)
{
        struct remake r = {
                .path = path, .fd = -1, .progress = progress, .ctx = ctx, .options = *options,
        };

        return remake(&r, ret, e);
}
