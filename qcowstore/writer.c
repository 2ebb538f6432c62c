/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/writer-priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/io.h"
#include "qcowstore/dedup.h"
#include "qcowstore/imglock.h"
#include "qcowstore/layout.h"

/* L1 entries that sections and sums may need beyond the disk's, at worst */
#define STATE_L1_RESERVE(disk_l1) ((disk_l1) / 64 + 8192)

static int check_options(const char *path, const struct qs_writer_options *o, struct err *e)
{
        if (o->cluster_bits < QS_CLUSTER_BITS_MIN || o->cluster_bits > QS_CLUSTER_BITS_MAX)
                return err_msg(e, EINVAL, "create '%s': the cluster size must be 4K to 2M", path);
        if (o->compress == QS_COMPRESS_ZSTD &&
            (o->zstd_level < 1 || o->zstd_level > QS_ZSTD_LEVEL_MAX))
                return err_msg(e, EINVAL, "create '%s': the zstd level must be 1 to %d", path,
                               QS_ZSTD_LEVEL_MAX);
        if (o->disk_bytes == 0 || o->disk_bytes > QS_DISK_BYTES_MAX ||
            !IS_ALIGNED(o->disk_bytes, LAYOUT_PAGE_BYTES))
                return err_msg(e, EINVAL, "create '%s': guest memory must end at a multiple of "
                               "4 KiB, at most at 64 TiB", path);

        uint64_t l1 = layout_l1_entries(o->disk_bytes, o->cluster_bits);

        if (l1 + STATE_L1_RESERVE(l1) > LAYOUT_L1_ENTRIES_MAX)
                return err_msg(e, EINVAL, "create '%s': guest memory is too large for clusters "
                               "of %u KiB: choose larger ones", path,
                               1u << (o->cluster_bits - 10));
        if (strnlen(o->tag, sizeof(o->tag)) > QS_TAG_MAX)
                return err_msg(e, EINVAL, "create '%s': the tag is longer than %d bytes", path,
                               QS_TAG_MAX);
        for (const char *p = o->tag; *p; p++) {
                if ((unsigned char)*p < ' ' || *p == 127)
                        return err_msg(e, EINVAL, "create '%s': the tag has a control character",
                                       path);
        }
        return 0;
}

int writer_lock_replaced(const struct qs_writer *w, struct err *e)
{
        uint32_t id = (uint32_t)strtoul(w->replaced->snapshot->id, NULL, 10);
        int rc = imglock_delete(w->pool->fd, id, e);

        return rc < 0 ? err_in(e, rc, "replace '%s' in '%s'", w->options.tag, w->pool->path) : 0;
}

/* The tag that the new one replaces: nobody must read it. */
static int open_replaced(struct qs_writer *w, const struct snapshot *s, struct err *e)
{
        const char *path = w->pool->path;

        if (!w->options.force)
                return err_msg(e, EEXIST, "'%s' has a snapshot '%s' already: choose another tag or "
                               "use --force to replace it", path, s->tag);

        int rc = image_open_layer(w->pool->fd, path, s->tag, &w->replaced, e);

        return rc < 0 ? err_in(e, rc, "replace '%s' in '%s'", s->tag, path)
                      : writer_lock_replaced(w, e);
}

/* The tag is added to the file, which says how. */
static int init_pool(struct qs_writer *w, const char *path, struct err *e)
{
        int rc = pool_open(path, &w->pool, e);

        if (rc < 0)
                return rc;

        const struct qs_image *m = w->pool->latest;

        if (w->options.disk_bytes != m->hdr.disk_bytes)
                return err_msg(e, EINVAL, "'%s' holds snapshots of %llu bytes of memory, this is "
                               "%llu: save to another file", path,
                               (unsigned long long)m->hdr.disk_bytes,
                               (unsigned long long)w->options.disk_bytes);
        for (uint32_t i = 0; rc == 0 && i < m->hdr.snapshots; i++) {
                if (strtoull(m->snapshots[i].id, NULL, 10) >= UINT32_MAX)
                        rc = err_msg(e, ENOSPC, "'%s' has used up the numbers of snapshots: make "
                                     "it anew with 'vmm image compact'", path);
                else if (strcmp(m->snapshots[i].tag, w->options.tag) == 0)
                        rc = open_replaced(w, &m->snapshots[i], e);
        }
        if (rc == 0 && m->hdr.snapshots == LAYOUT_SNAPSHOTS_MAX && !w->replaced)
                return err_msg(e, ENOSPC, "'%s' has %u snapshots, no more are possible: save to "
                               "another file", path, LAYOUT_SNAPSHOTS_MAX);
        w->options.cluster_bits = m->hdr.cluster_bits;
        if (w->options.compress_alike)
                w->options.compress = m->hdr.zstd ? QS_COMPRESS_ZSTD : QS_COMPRESS_NONE;
        w->seed = m->hdr.hash_seed;
        return rc < 0 ? rc : pool_space(w->pool, &w->space, e);
}

/* What is there must fit, and then says how the rest is done. */
static int join_into(struct qs_writer *w, struct err *e)
{
        int rc = pool_open_unnamed(publish_fd(w->publish), w->into->path, &w->pool, e);

        return rc < 0 ? rc : pool_space(w->pool, &w->space, e);
}

static int init_into(struct qs_writer *w, struct err *e)
{
        w->publish = w->into->file;
        w->seed = w->into->seed;
        return w->into->tags ? join_into(w, e) : space_init(&w->space, w->options.cluster_bits, e);
}

/* Deltas know their parent by its UUID: they would be lost with it. */
static int spare_parent(const char *path, struct err *e)
{
        AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
        uint8_t sector[LAYOUT_SECTOR_BYTES];
        struct imghdr h;

        if (fd < 0 || io_pread_full(fd, sector, sizeof(sector), 0) < 0 ||
            imghdr_parse(sector, sizeof(sector), &h, NULL) < 0 || !h.is_parent)
                return 0;
        return err_msg(e, EBUSY, "'%s' is the parent of other images, which would be lost: choose "
                       "another name, or remove it", path);
}

static int init_file(struct qs_writer *w, const char *path, struct err *e)
{
        int rc = w->options.force && !w->options.force_parent ? spare_parent(path, e) : 0;

        if (rc < 0)
                return rc;
        if (getrandom(&w->seed, sizeof(w->seed), 0) != sizeof(w->seed))
                return err_set(e, errno, "create '%s': get random bytes", path);

        rc = space_init(&w->space, w->options.cluster_bits, e);

        /* there was no file to append to: one that comes meanwhile must not be lost */
        return rc < 0 ? rc : publish_new(path, w->options.force && !w->options.append,
                                         &w->publish, e);
}

static int init(struct qs_writer *w, const char *path, const struct qs_writer_options *o,
                struct err *e)
{
        w->options = *o;
        if (!w->options.tag[0])
                strcpy(w->options.tag, "default");

        bool exists = o->append && access(path, F_OK) == 0;

        if (exists && o->backing)
                return err_msg(e, EINVAL, "'%s' exists, and a snapshot in it cannot have a parent: "
                               "leave out --tag or --backing", path);

        int rc = o->backing ? delta_open(path, o->backing, o->disk_bytes, &w->delta, e) : 0;

        w->options.backing = NULL;      /* the caller's */
        if (rc == 0)
                rc = w->into ? init_into(w, e)
                     : exists ? init_pool(w, path, e) : init_file(w, path, e);

        if (rc < 0)
                return rc;
        w->cluster_bits = w->options.cluster_bits;
        w->cluster_bytes = layout_cluster_bytes(w->cluster_bits);
        w->disk_l1 = layout_l1_entries(o->disk_bytes, w->cluster_bits);
        w->refs_max = dedup_refs_max(w->cluster_bits);
        w->tables = calloc(w->disk_l1, sizeof(*w->tables));
        return w->tables ? 0 : err_set(e, ENOMEM, "create '%s'", path);
}

static int writer_new(struct writer_into *into, const char *path,
                      const struct qs_writer_options *options, struct qs_writer **ret,
                      struct err *e)
{
        int rc = check_options(path, options, e);

        if (rc < 0)
                return rc;

        struct qs_writer *w = calloc(1, sizeof(*w));

        if (w) {
                w->into = into;
                readback_shelf_init(&w->readbacks);
        }
        rc = w ? init(w, path, options, e) : err_set(e, ENOMEM, "create '%s'", path);
        if (rc < 0) {
                qs_writer_free(w);
                return rc;
        }
        *ret = w;
        return 0;
}

int qs_writer_new(const char *path, const struct qs_writer_options *options,
                  struct qs_writer **ret, struct err *e)
{
        return writer_new(NULL, path, options, ret, e);
}

int writer_new_into(struct writer_into *into, const struct qs_writer_options *options,
                    struct qs_writer **ret, struct err *e)
{
        struct qs_writer_options o = *options;

        o.append = o.force = false;
        o.backing = NULL;
        return writer_new(into, into->path, &o, ret, e);
}

int qs_writer_first(struct qs_writer *w, const struct qs_ram_range *ranges, size_t n,
                    struct err *e)
{
        ASSERT(!w->ram_done && !w->first);
        w->first = calloc(n + 1, sizeof(*w->first));
        if (!w->first)
                return err_set(e, ENOMEM, "plan the order of guest memory");
        for (size_t i = 0; i < n; i++) {
                const struct qs_ram_range *r = &ranges[i];

                if (r->bytes && r->gpa < w->options.disk_bytes &&
                    r->bytes <= w->options.disk_bytes - r->gpa)
                        w->first[w->n_first++] = *r;
        }
        return 0;
}

void qs_writer_free(struct qs_writer *w)
{
        if (!w)
                return;
        for (uint64_t i = 0; w->tables && i < w->disk_l1; i++)
                free(atomic_load_explicit(&w->tables[i], memory_order_relaxed));
        for (unsigned i = 0; i < w->sections; i++)
                free(w->section_data[i]);
        if (!w->into)
                publish_free(w->publish);
        qs_image_close(w->replaced);
        pool_close(w->pool);
        space_fini(&w->space);
        if (!w->into)
                dedup_free(w->dedup);
        free(w->first);
        readback_shelf_fini(&w->readbacks);
        delta_free(w->delta);
        free(w->tables);
        free(w);
}

int writer_fd(const struct qs_writer *w)
{
        return w->pool ? w->pool->fd : publish_fd(w->publish);
}

const char *writer_path(const struct qs_writer *w)
{
        return w->pool ? w->pool->path : publish_path(w->publish);
}

int writer_write_error(const struct qs_writer *w, int rc, struct err *e)
{
        return w->pool ? pool_write_error(w->pool, rc, e) : publish_write_error(w->publish, rc, e);
}

int qs_writer_section(struct qs_writer *w, const char *name, const void *data, size_t bytes,
                      struct err *e)
{
        ASSERT(!w->published);
        ASSERT(sectoc_name_ok(name));
        ASSERT(strcmp(name, LAYOUT_CHECKSUMS) != 0 && strcmp(name, LAYOUT_HOSTSUMS) != 0);
        for (unsigned i = 0; i < w->sections; i++)
                ASSERT(strcmp(w->section[i].name, name) != 0);
        if (bytes > QS_SECTION_BYTES_MAX)
                return err_msg(e, EFBIG, "section '%s' is larger than %u MiB", name,
                               QS_SECTION_BYTES_MAX >> 20);
        if (w->sections + 2 >= QS_SECTIONS_MAX)
                return err_msg(e, E2BIG, "there are more than %d sections", QS_SECTIONS_MAX - 2);

        void *copy = malloc(bytes + 1);

        if (!copy)
                return err_set(e, ENOMEM, "keep section '%s'", name);
        if (bytes)
                memcpy(copy, data, bytes);

        struct section *s = &w->section[w->sections];

        strcpy(s->name, name);
        s->bytes = bytes;
        w->section_data[w->sections++] = copy;
        return 0;
}

void qs_writer_stats(const struct qs_writer *w, struct qs_writer_stats *ret)
{
        *ret = w->stats;
}
