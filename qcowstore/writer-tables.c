/* SPDX-License-Identifier: Apache-2.0 */
/* publishing: everything behind RAM in one ascending stream, header last */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/clock.h"
#include "common/io.h"
#include "qcowstore/imghdr.h"
#include "qcowstore/plan.h"
#include "qcowstore/snaptable.h"
#include "qcowstore/sum.h"
#include "qcowstore/sumtree.h"

#define SINK_BYTES (1u << 20)

/* Whole clusters, one after the other. INV-GUARD: the sum of a guarded cluster
 * is noted before HOSTSUMS is written, which comes behind all of them. */
struct sink {
        struct qs_writer *w;
        uint8_t *buf;
        size_t room;
        size_t used;
        uint64_t at;                    /* host cluster that buf starts with */
        int rc;                         /* of the first failed write */
};

enum guard { GUARDED, UNGUARDED };
enum order { BIG_ENDIAN_WORDS, LITTLE_ENDIAN_WORDS };

/* word i of a table */
typedef uint64_t word_fn(const void *ctx, uint64_t i);

static void sink_flush(struct sink *s)
{
        if (s->rc == 0)
                s->rc = io_pwrite_full(publish_fd(s->w->publish), s->buf, s->used,
                                       s->at << s->w->cluster_bits);
        s->at += s->used >> s->w->cluster_bits;
        s->used = 0;
}

/* Room for the next cluster, zeroed; to be closed by sink_end(). */
static uint8_t *sink_begin(struct sink *s)
{
        if (s->used == s->room)
                sink_flush(s);
        return memset(s->buf + s->used, 0, s->w->cluster_bytes);
}

static void sink_end(struct sink *s, enum guard guard)
{
        struct qs_writer *w = s->w;
        uint64_t host = s->at + (s->used >> w->cluster_bits);

        ASSERT(host < w->room);
        w->hostsums[host] = guard == UNGUARDED
                            ? 0 : sum_bytes(s->buf + s->used, w->cluster_bytes, w->seed);
        s->used += w->cluster_bytes;
}

static uint64_t sink_at(const struct sink *s)
{
        return s->at + (s->used >> s->w->cluster_bits);
}

static void put_bytes(struct sink *s, const void *data, uint64_t bytes, enum guard guard)
{
        const uint8_t *from = data;

        while (bytes > 0) {
                size_t part = MIN(bytes, s->w->cluster_bytes);

                memcpy(sink_begin(s), from, part);
                sink_end(s, guard);
                from += part;
                bytes -= part;
        }
}

static void put_words(struct sink *s, uint64_t n, word_fn *word, const void *ctx,
                      enum order order, enum guard guard)
{
        uint64_t per_cluster = s->w->cluster_bytes / 8;

        for (uint64_t i = 0; i < n; i += per_cluster) {
                uint8_t *to = sink_begin(s);

                for (uint64_t k = 0; k < MIN(per_cluster, n - i); k++) {
                        if (order == BIG_ENDIAN_WORDS)
                                put_be64(to + k * 8, word(ctx, i + k));
                        else
                                put_le64(to + k * 8, word(ctx, i + k));
                }
                sink_end(s, guard);
        }
}

static uint64_t word_of_array(const void *ctx, uint64_t i)
{
        return ((const uint64_t *)ctx)[i];
}

/* two 32-bit refcounts */
static uint64_t word_of_refs(const void *ctx, uint64_t i)
{
        const uint32_t *refs = ctx;

        return (uint64_t)refs[2 * i] << 32 | refs[2 * i + 1];
}

struct tables {
        const struct qs_writer *w;
        const struct plan *p;
};

static const uint64_t *disk_table(const struct qs_writer *w, uint64_t l1)
{
        return atomic_load_explicit(&w->tables[l1], memory_order_relaxed);
}

static uint64_t word_of_reftable(const void *ctx, uint64_t i)
{
        const struct tables *t = ctx;

        return (t->p->refblocks + i) << t->w->cluster_bits;
}

/* offsets[i] of the table that L1 entry i points to, 0 = none */
static uint64_t *make_l1(const struct qs_writer *w, const struct plan *p)
{
        uint64_t *l1 = calloc(p->l1_entries, sizeof(*l1));
        uint64_t next = p->disk_l2;

        for (uint64_t i = 0; l1 && i < w->disk_l1; i++) {
                if (disk_table(w, i))
                        l1[i] = next++ << w->cluster_bits;
        }
        next = p->state_l2;
        for (uint64_t i = 0; l1 && i < p->state_l1; i++) {
                if (p->state_tables[i])
                        l1[w->disk_l1 + i] = next++ << w->cluster_bits;
        }
        return l1;
}

/* Sums of the blocks of a sum tree as they are stored; NULL without memory.
 * block(ctx, i) gives a block or NULL where it is all zero. */
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

static const uint64_t *checksums_block(const struct qs_writer *w, uint64_t i)
{
        const uint64_t *table = disk_table(w, i);

        return table ? table + layout_l2_entries(w->cluster_bits) : NULL;
}

static const uint64_t *hostsums_block(const struct qs_writer *w, uint64_t i)
{
        return w->hostsums + i * layout_l2_entries(w->cluster_bits);
}

/* The first level goes out; its sum goes into the section table. */
static int put_first(struct sink *s, struct section *section, enum guard guard,
                     const uint64_t *(*block)(const struct qs_writer *w, uint64_t i))
{
        uint64_t blocks = sumtree_blocks(section->bytes / 8, s->w->cluster_bits);
        AUTO_FREE uint64_t *first = make_first(s->w, blocks, block);

        if (!first)
                return -ENOMEM;
        section->sum = sum_bytes(first, blocks * 8, s->w->seed);
        put_bytes(s, first, blocks * 8, guard);
        return 0;
}

static void put_sections(struct sink *s, struct plan *p)
{
        const struct qs_writer *w = s->w;

        ASSERT(sink_at(s) == p->sections);
        for (unsigned i = 0; i < w->sections; i++) {
                struct section *section = &p->toc.section[i];

                section->sum = sum_bytes(w->section_data[i], section->bytes, w->seed);
                put_bytes(s, w->section_data[i], section->bytes, GUARDED);
        }
}

static int put_checksums(struct sink *s, struct plan *p)
{
        const struct qs_writer *w = s->w;
        uint64_t n = layout_l2_entries(w->cluster_bits);

        ASSERT(sink_at(s) == p->checksums);

        int rc = put_first(s, &p->toc.section[p->toc.count - 2], GUARDED, checksums_block);

        for (uint64_t i = 0; i < w->disk_l1; i++) {
                if (disk_table(w, i))
                        put_words(s, n, word_of_array, checksums_block(w, i),
                                  LITTLE_ENDIAN_WORDS, GUARDED);
        }
        return rc;
}

static int put_tables(struct sink *s, struct plan *p)
{
        const struct qs_writer *w = s->w;
        uint64_t n = layout_l2_entries(w->cluster_bits);
        struct tables t = { w, p };
        AUTO_FREE uint64_t *l1 = make_l1(w, p);

        if (!l1)
                return -ENOMEM;
        ASSERT(sink_at(s) == p->disk_l2);
        for (uint64_t i = 0; i < w->disk_l1; i++) {
                if (disk_table(w, i))
                        put_words(s, n, word_of_array, disk_table(w, i), BIG_ENDIAN_WORDS,
                                  GUARDED);
        }
        ASSERT(sink_at(s) == p->state_l2);
        for (uint64_t i = 0; i < p->state_l1; i++) {
                if (p->state_tables[i])
                        put_words(s, n, word_of_array, p->state_tables[i], BIG_ENDIAN_WORDS,
                                  GUARDED);
        }
        ASSERT(sink_at(s) == p->snapshot_l1);
        put_words(s, p->l1_entries, word_of_array, l1, BIG_ENDIAN_WORDS, GUARDED);
        ASSERT(sink_at(s) == p->active_l1);
        put_words(s, w->disk_l1, word_of_array, l1, BIG_ENDIAN_WORDS, GUARDED);
        ASSERT(sink_at(s) == p->reftable);
        put_words(s, p->refblock_count, word_of_reftable, &t, BIG_ENDIAN_WORDS, GUARDED);
        ASSERT(sink_at(s) == p->refblocks);
        put_words(s, p->refblock_count * (w->cluster_bytes / 8), word_of_refs, w->refs,
                  BIG_ENDIAN_WORDS, GUARDED);
        return 0;
}

/* From here on no guarded cluster is written any more (INV-GUARD). */
static int put_hostsums(struct sink *s, struct plan *p)
{
        const struct qs_writer *w = s->w;
        struct section *section = &p->toc.section[p->toc.count - 1];
        uint64_t blocks = sumtree_blocks(p->total, w->cluster_bits);

        ASSERT(sink_at(s) == p->hostsums);

        int rc = put_first(s, section, UNGUARDED, hostsums_block);

        put_words(s, blocks * layout_l2_entries(w->cluster_bits), word_of_array, w->hostsums,
                  LITTLE_ENDIAN_WORDS, UNGUARDED);
        return rc;
}

static void put_snapshot(struct sink *s, struct plan *p, struct imghdr *h)
{
        const struct qs_writer *w = s->w;
        uint8_t toc[SECTOC_BYTES];
        uint8_t entry[LAYOUT_SNAPSHOT_BYTES_MAX];

        sectoc_encode(&p->toc, toc);
        ASSERT(sink_at(s) == p->toc_at);
        put_bytes(s, toc, sizeof(toc), UNGUARDED);

        struct snapshot snapshot = {
                .l1_offset = p->snapshot_l1 << w->cluster_bits,
                .l1_entries = (uint32_t)p->l1_entries,
                .date_ns = w->options.date_ns ? w->options.date_ns : clock_wall_ns(),
                .vm_clock_ns = w->options.vm_clock_ns,
                .state_bytes = p->state_bytes,
                .disk_bytes = w->options.disk_bytes,
                .toc_sum = sum_bytes(toc, sizeof(toc), w->seed),
                .id = "1",
        };

        strcpy(snapshot.tag, w->options.tag);

        size_t bytes = snaptable_encode(&snapshot, entry);

        ASSERT(sink_at(s) == p->snaptable);
        put_bytes(s, entry, bytes, UNGUARDED);
        h->snaptable_sum = sum_bytes(entry, bytes, w->seed);
}

static void count_tables(struct qs_writer *w, const struct plan *p)
{
        w->refs[0] = 1;
        for (uint64_t i = p->sections; i < p->total; i++)
                w->refs[i] = 1;
        for (uint64_t i = 0; i < p->disk_tables; i++)
                w->refs[p->disk_l2 + i] = 2;    /* active layer and snapshot */
}

static int put_header(struct qs_writer *w, const struct plan *p, struct imghdr *h)
{
        uint8_t sector[LAYOUT_SECTOR_BYTES];

        h->cluster_bits = w->cluster_bits;
        h->refcount_order = LAYOUT_REFCOUNT_ORDER;
        h->zstd = w->options.compress == QS_COMPRESS_ZSTD;
        h->disk_bytes = w->options.disk_bytes;
        h->l1_offset = p->active_l1 << w->cluster_bits;
        h->l1_entries = (uint32_t)w->disk_l1;
        h->reftable_offset = p->reftable << w->cluster_bits;
        h->reftable_clusters = (uint32_t)(p->refblocks - p->reftable);
        h->snaptable_offset = p->snaptable << w->cluster_bits;
        h->snapshots = 1;
        h->format_version = LAYOUT_FORMAT_VERSION;
        h->hash_seed = w->seed;
        if (getrandom(h->uuid, sizeof(h->uuid), 0) != sizeof(h->uuid))
                return -EIO;
        h->uuid[6] = (uint8_t)((h->uuid[6] & 0x0f) | 0x40);     /* RFC 4122, version 4 */
        h->uuid[8] = (uint8_t)((h->uuid[8] & 0x3f) | 0x80);
        if (w->delta)
                delta_describe(w->delta, h);
        imghdr_encode(h, sector);
        if (w->delta)
                delta_name(w->delta, sector);
        return io_pwrite_full(publish_fd(w->publish), sector, sizeof(sector), 0);
}

static int write_all(struct sink *s, struct plan *p)
{
        struct imghdr h = { 0 };

        put_sections(s, p);

        int rc = put_checksums(s, p);

        if (rc == 0)
                rc = put_tables(s, p);
        if (rc == 0)
                rc = put_hostsums(s, p);
        if (rc < 0)
                return rc;
        put_snapshot(s, p, &h);
        sink_flush(s);
        ASSERT(s->rc < 0 || sink_at(s) == p->total);
        return s->rc < 0 ? s->rc : put_header(s->w, p, &h);
}

/* Room for whole blocks, so that what pads the last one is there. */
static int write_planned(struct qs_writer *w, struct plan *p, struct err *e)
{
        uint64_t sums = sumtree_blocks(p->total, w->cluster_bits) *
                        layout_l2_entries(w->cluster_bits);
        uint64_t refs = p->refblock_count *
                        layout_refblock_entries(w->cluster_bits, LAYOUT_REFCOUNT_ORDER);
        int rc = writer_make_room(w, MAX(sums, refs), e);

        if (rc < 0)
                return rc;
        count_tables(w, p);

        size_t room = MAX(SINK_BYTES, w->cluster_bytes);
        AUTO_FREE uint8_t *buf = malloc(room);
        struct sink s = { .w = w, .buf = buf, .room = room, .at = p->sections };

        rc = buf ? write_all(&s, p) : -ENOMEM;
        return rc < 0 ? publish_write_error(w->publish, rc, e) : 0;
}

int qs_writer_publish(struct qs_writer *w, struct err *e)
{
        struct plan p;

        ASSERT(!w->published);

        int rc = plan_init(&p, w, e);

        if (rc == 0)
                rc = write_planned(w, &p, e);
        if (rc == 0)
                rc = delta_check(w->delta, e);
        if (rc == 0)
                rc = publish_commit(w->publish, e);
        if (rc == 0) {
                delta_mark(w->delta);
                w->stats.file_bytes = p.total << w->cluster_bits;
                w->published = true;
        }
        plan_fini(&p);
        return rc;
}
