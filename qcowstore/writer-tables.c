/* SPDX-License-Identifier: Apache-2.0 */
/* publishing: what belongs to the tag, then what belongs to the file, header
 * last */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/clock.h"
#include "common/io.h"
#include "qcowstore/commit.h"
#include "qcowstore/crew.h"
#include "qcowstore/dedupindex.h"
#include "qcowstore/emit.h"
#include "qcowstore/plan.h"
#include "qcowstore/sum.h"
#include "qcowstore/sumtree.h"

static const uint64_t *disk_table(const struct qs_writer *w, uint64_t l1)
{
        return atomic_load_explicit(&w->tables[l1], memory_order_relaxed);
}

/* behind an L2 table: the sums of the same clusters */
static const uint64_t *checksums_block(const struct qs_writer *w, uint64_t i)
{
        const uint64_t *table = disk_table(w, i);

        return table ? table + layout_l2_entries(w->cluster_bits) : NULL;
}

static const uint64_t *hostsums_block(const struct qs_writer *w, uint64_t i)
{
        return w->space.sums + i * layout_l2_entries(w->cluster_bits);
}

/* Sums of the blocks of a sum tree as they are stored; NULL without memory.
 * block(w, i) gives a block or NULL where it is all zero. */
static uint64_t *make_first(const struct qs_writer *w, uint64_t blocks,
                            const uint64_t *(*block)(const struct qs_writer *w, uint64_t i))
{
        uint64_t n = layout_l2_entries(w->cluster_bits);
        AUTO_FREE uint64_t *stored = malloc(w->cluster_bytes);
        uint64_t *first = calloc(blocks, sizeof(*first));

        if (!stored || !first) {
                free(first);
                return NULL;
        }
        for (uint64_t i = 0; i < blocks; i++) {
                const uint64_t *sums = block(w, i);

                if (!sums)
                        continue;
                for (uint64_t k = 0; k < n; k++)
                        stored[k] = htole64(sums[k]);
                first[i] = htole64(sum_bytes(stored, w->cluster_bytes, w->seed));
        }
        return first;
}

/* The first level goes out; its sum goes into the section table. */
static int put_first(struct emit *s, const struct qs_writer *w, struct section *section,
                     uint64_t at, enum emit_guard guard,
                     const uint64_t *(*block)(const struct qs_writer *w, uint64_t i))
{
        uint64_t blocks = sumtree_blocks(section->bytes / 8, w->cluster_bits);
        AUTO_FREE uint64_t *first = make_first(w, blocks, block);

        if (!first)
                return -ENOMEM;
        section->sum = sum_bytes(first, blocks * 8, w->seed);
        emit_bytes(s, at, first, blocks * 8, guard);
        return 0;
}

static void put_sections(struct emit *s, const struct qs_writer *w, struct plan *p)
{
        for (unsigned i = 0; i < w->sections; i++) {
                struct section *section = &p->toc.section[i];

                section->sum = sum_bytes(w->section_data[i], section->bytes, w->seed);
                emit_bytes(s, p->section_at[i], w->section_data[i], section->bytes, GUARDED);
        }
}

static int put_disk(struct emit *s, const struct qs_writer *w, struct plan *p)
{
        uint64_t n = layout_l2_entries(w->cluster_bits);
        int rc = put_first(s, w, &p->toc.section[w->sections], p->checksums_at, GUARDED,
                           checksums_block);

        for (uint64_t i = 0; i < w->disk_l1; i++) {
                if (disk_table(w, i) && !p->shared[i])
                        emit_words(s, p->block_at[i], checksums_block(w, i), n,
                                   LITTLE_ENDIAN_WORDS, GUARDED);
        }
        for (uint64_t i = 0; i < w->disk_l1; i++) {
                if (disk_table(w, i) && !p->shared[i])
                        emit_words(s, p->l2_at[i], disk_table(w, i), n, BIG_ENDIAN_WORDS, GUARDED);
        }
        return rc;
}

/* L1 and the L2 tables of the VM state: with all places in them. */
static int put_state_tables(struct emit *s, const struct qs_writer *w, const struct plan *p)
{
        AUTO_FREE uint64_t *l1 = calloc(p->l1_entries, sizeof(*l1));

        if (!l1)
                return -ENOMEM;
        for (uint64_t i = 0; i < w->disk_l1; i++)
                l1[i] = p->l2_at[i] << w->cluster_bits;
        for (uint64_t i = 0; i < p->state_l1; i++) {
                if (!p->state_tables[i])
                        continue;
                l1[w->disk_l1 + i] = p->state_l2_at[i] << w->cluster_bits;
                emit_words(s, p->state_l2_at[i], p->state_tables[i],
                           layout_l2_entries(w->cluster_bits), BIG_ENDIAN_WORDS, GUARDED);
        }
        emit_words(s, p->l1_at, l1, p->l1_entries, BIG_ENDIAN_WORDS, GUARDED);
        return 0;
}

/* From here on no guarded cluster is written any more (INV-GUARD). */
static int put_hostsums(struct emit *s, const struct qs_writer *w, struct plan *p)
{
        uint64_t n = layout_l2_entries(w->cluster_bits);
        struct section *section = &p->toc.section[p->toc.count - 1];
        int rc = put_first(s, w, section, p->hostsums_at, UNGUARDED, hostsums_block);

        for (uint64_t i = 0; i < sumtree_blocks(p->hostsums, w->cluster_bits); i++) {
                if (!p->hostsums_shared[i])
                        emit_words(s, p->hostsums_block_at[i], hostsums_block(w, i), n,
                                   LITTLE_ENDIAN_WORDS, UNGUARDED);
        }
        return rc;
}

static uint64_t next_id(const struct qs_writer *w)
{
        uint64_t max = 0;

        for (uint32_t i = 0; w->pool && i < w->pool->latest->hdr.snapshots; i++)
                max = MAX(max, strtoull(w->pool->latest->snapshots[i].id, NULL, 10));
        return max + 1;
}

static void put_toc(struct emit *s, const struct qs_writer *w, const struct plan *p,
                    struct snapshot *ret)
{
        uint8_t toc[SECTOC_BYTES];

        sectoc_encode(&p->toc, toc);
        emit_bytes(s, p->toc_at, toc, sizeof(toc), UNGUARDED);
        *ret = (struct snapshot){
                .l1_offset = p->l1_at << w->cluster_bits,
                .l1_entries = (uint32_t)p->l1_entries,
                .date_ns = w->options.date_ns ? w->options.date_ns : clock_wall_ns(),
                .vm_clock_ns = w->options.vm_clock_ns,
                .state_bytes = p->state_bytes,
                .disk_bytes = w->options.disk_bytes,
                .toc_sum = sum_bytes(toc, sizeof(toc), w->seed),
        };
        snprintf(ret->id, sizeof(ret->id), "%llu", (unsigned long long)next_id(w));
        strcpy(ret->tag, w->options.tag);
}

static int emit_tag(struct emit *s, struct qs_writer *w, struct plan *p, struct snapshot *ret)
{
        put_sections(s, w, p);

        int rc = put_disk(s, w, p);

        if (rc == 0)
                rc = put_state_tables(s, w, p);
        if (rc == 0)
                rc = put_hostsums(s, w, p);
        if (rc < 0)
                return rc;
        put_toc(s, w, p, ret);
        return emit_end(s);
}

/* The tag, all but its RAM, which is there. */
static int write_tag(struct qs_writer *w, struct plan *p, struct snapshot *ret, struct err *e)
{
        struct emit s;
        int rc = plan_init(p, w, e);

        if (rc == 0)
                rc = plan_sums(p, w, e);
        if (rc < 0)
                return rc;
        rc = emit_init(&s, writer_fd(w), &w->space, w->seed);
        if (rc == 0)
                rc = emit_tag(&s, w, p, ret);
        emit_fini(&s);
        return rc < 0 ? writer_write_error(w, rc, e) : 0;
}

static int make_uuid(uint8_t uuid[16], struct err *e)
{
        if (getrandom(uuid, 16, 0) != 16)
                return err_set(e, errno, "get random bytes");
        uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x40);           /* RFC 4122, version 4 */
        uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
        return 0;
}

static int start_header(const struct qs_writer *w, struct imghdr *h, struct err *e)
{
        int rc = 0;

        if (w->pool) {
                *h = w->pool->latest->hdr;
        } else {
                h->cluster_bits = w->cluster_bits;
                h->disk_bytes = w->options.disk_bytes;
                h->hash_seed = w->seed;
                rc = w->into ? 0 : make_uuid(h->uuid, e);
                if (w->into)
                        memcpy(h->uuid, w->into->uuid, sizeof(h->uuid));
        }
        if (w->delta)
                delta_describe(w->delta, h);
        h->zstd |= w->options.compress == QS_COMPRESS_ZSTD;
        return rc;
}

/* The snapshot table: those that stay, then the new one (INV-LATEST). */
static struct snapshot *list_snapshots(const struct qs_writer *w, const struct snapshot *last,
                                       unsigned *ret_n)
{
        uint32_t old = w->pool ? w->pool->latest->hdr.snapshots : 0;
        struct snapshot *list = calloc(old + 1, sizeof(*list));

        *ret_n = 0;
        for (uint32_t i = 0; list && i < old; i++) {
                const struct snapshot *s = &w->pool->latest->snapshots[i];

                if (!w->replaced || strcmp(s->tag, w->options.tag) != 0)
                        list[(*ret_n)++] = *s;
        }
        if (list)
                list[(*ret_n)++] = *last;
        return list;
}

static int on_write_error(void *ctx, int rc, struct err *e)
{
        return writer_write_error(ctx, rc, e);
}

/* What the pool loses by the change, and the index of what it has then. */
static int supersede(struct qs_writer *w, struct dedupindex *index, struct err *e)
{
        int rc = pool_release_file(w->pool, &w->space, e);

        if (rc == 0 && w->replaced)
                rc = pool_count_tag(w->replaced, false, -1, &w->space, e);
        if (rc < 0 || w->into)          /* that one's index comes from who makes it */
                return rc;
        return dedupindex_next(w->pool, w->dedup, w->replaced ? &w->space : NULL,
                                             index, e);
}

/* What belongs to the file; c->header is ready then. */
static int write_file(struct qs_writer *w, const struct plan *p, const struct snapshot *last,
                      struct commit *c, struct err *e)
{
        struct dedupindex index = { 0 };
        AUTO_FREE struct snapshot *list = list_snapshots(w, last, &c->n_snapshots);
        AUTO_FREE uint64_t *l1 = calloc(w->disk_l1, sizeof(*l1));
        int rc = list && l1 ? start_header(w, &c->header, e) : err_set(e, ENOMEM, "place tables");

        if (rc == 0 && w->pool)
                rc = supersede(w, &index, e);
        if (rc == 0) {
                for (uint64_t i = 0; i < w->disk_l1; i++)
                        l1[i] = p->l2_at[i] << w->cluster_bits;
                c->fd = writer_fd(w);
                c->space = &w->space;
                c->pool = w->pool;
                c->snapshots = list;
                c->disk_l1 = l1;
                c->disk_l1_entries = w->disk_l1;
                c->area = w->into ? w->into->area : index.section;
                c->n_area = w->into ? w->into->n_area : index.n;
                c->write_error = on_write_error;
                c->ctx = w;
                rc = commit_write(c, e);
        }
        dedupindex_fini(&index);
        return rc;
}

/* What was written becomes what the file is. */
static int switch_over(struct qs_writer *w, const struct imghdr *h, struct err *e)
{
        uint8_t sector[LAYOUT_SECTOR_BYTES];

        imghdr_encode(h, sector);
        if (w->delta)
                delta_name(w->delta, sector);
        if (w->pool)
                return pool_switch(w->pool, sector, e);

        int rc = io_pwrite_full(publish_fd(w->publish), sector, sizeof(sector), 0);

        if (rc < 0)
                return writer_write_error(w, rc, e);
        if (w->into)                    /* who makes it gives it its name */
                return 0;
        rc = delta_check(w->delta, e);
        if (rc == 0)
                rc = publish_commit(w->publish, e);
        if (rc == 0)
                delta_mark(w->delta);
        return rc;
}

/* What RAM had that was taken again, and nothing came to lie in. A hint: it is not
 * counted, so that it may stay as well. */
static void punch_free(const struct qs_writer *w)
{
        const struct space *s = &w->space;

        for (size_t i = 0; w->again && i < s->free_runs; i++) {
                const struct space_run *run = &s->free[i];

                if (run->n && fallocate(writer_fd(w), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                        (off_t)(run->first << s->cluster_bits),
                                        (off_t)(run->n << s->cluster_bits)) < 0)
                        return;
        }
}

static int publish(void *ctx, struct err *e)
{
        struct qs_writer *w = ctx;
        struct plan p = { 0 };
        struct snapshot last;
        struct commit c = { 0 };

        if (!w->pool && !w->into)       /* else its fresh contents go into the index */
                dedup_free(ptr_take(&w->dedup));

        int rc = write_tag(w, &p, &last, e);

        if (rc == 0)
                rc = write_file(w, &p, &last, &c, e);
        if (rc == 0)
                punch_free(w);
        if (rc == 0)
                rc = switch_over(w, &c.header, e);
        if (rc == 0) {
                w->stats.file_bytes = c.header.file_bytes;
                if (w->into)
                        w->into->tags++;
                w->published = true;
        }
        plan_fini(&p);
        return rc;
}

int qs_writer_publish(struct qs_writer *w, struct err *e)
{
        ASSERT(!w->published && !w->torn);
        return crew_run(1, w->options.background, publish, w, e);
}
