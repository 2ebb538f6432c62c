/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/dedupindex.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/lock.h"
#include "qcowstore/clone.h"
#include "qcowstore/crew.h"
#include "qcowstore/l2entry.h"
#include "qcowstore/workset.h"

#define PREFIX "INDEX."

/* Section i of the pool area. What is none of ours, or not in its place, is not
 * read, and not there any more after the next change. */
static bool is_index(const struct pool *p, unsigned i)
{
        const struct section *s = &p->area_toc.section[i];
        char name[sizeof(s->name)];

        snprintf(name, sizeof(name), PREFIX "%u", i);
        return strcmp(s->name, name) == 0 && !(s->flags & SECTION_TREE) &&
               s->bytes % INDEX_ENTRY_BYTES == 0;
}

bool dedupindex_present(const struct pool *p)
{
        unsigned i = 0;

        while (i < p->area_toc.count && !is_index(p, i))
                i++;
        return i < p->area_toc.count;
}

/* Sections of the pool area before WORKING-SETS, which are the last one. */
static unsigned index_sections(const struct pool *p)
{
        unsigned n = p->area_toc.count;

        return n > 0 && strcmp(p->area_toc.section[n - 1].name, WORKSET_SECTIONS) == 0 ? n - 1 : n;
}

uint64_t dedupindex_size(const struct pool *p)
{
        uint64_t n = 0;

        if (!dedupindex_present(p))
                return p->latest->disk_clusters * p->latest->hdr.snapshots;
        for (unsigned i = 0; i < p->area_toc.count; i++)
                n += is_index(p, i)
                     ? p->area_toc.section[i].bytes / INDEX_ENTRY_BYTES : 0;
        return n;
}

/* The highest count of the clusters an entry refers to; 0 = it must not be used. */
static uint32_t references(const struct space *s, uint64_t v)
{
        struct l2entry entry;
        uint32_t most = 0;

        if (l2entry_decode(v, s->cluster_bits, s->end << s->cluster_bits, &entry) ||
            (entry.kind != L2_RAW && entry.kind != L2_PACKED))
                return 0;
        for (uint64_t i = entry.offset >> s->cluster_bits;
             i <= (entry.offset + entry.bytes - 1) >> s->cluster_bits; i++) {
                if (s->refs[i] == 0)
                        return 0;
                most = MAX(most, s->refs[i]);
        }
        return most;
}

static int load_section(const struct pool *p, const struct section *section,
                        const struct space *s, struct dedup *d, struct err *e)
{
        AUTO_FREE void *data = NULL;
        int rc = pool_section(p, section, &data, e);

        if (rc < 0)
                return err_in(e, rc, "image '%s'", p->path);
        for (size_t i = 0; i < section->bytes / INDEX_ENTRY_BYTES; i++) {
                const uint8_t *x = (uint8_t *)data + i * INDEX_ENTRY_BYTES;
                struct dedup_key key = { { get_le64(x), get_le64(x + 8) } };
                uint32_t refs = references(s, get_le64(x + 16));

                if (refs && key.word[0] &&
                    !dedup_preload(d, &key, get_le64(x + 16), DIV_ROUND_UP(refs, 2u)))
                        break;
        }
        return 0;
}

int dedupindex_load(const struct pool *p, const struct space *s, struct dedup *d, struct err *e)
{
        int rc = 0;

        /* newest first, for they count */
        for (unsigned i = p->area_toc.count; rc == 0 && i-- > 0;) {
                if (is_index(p, i))
                        rc = load_section(p, &p->area_toc.section[i], s, d, e);
        }
        return rc;
}

static uint64_t entry_of(const struct extent *x)
{
        return x->kind == L2_RAW ? x->offset
               : l2entry_packed(x->offset, x->stream_bytes, x->layer->hdr.cluster_bits);
}

/* A tag is read in stretches, by a crew. */
#define BUILD_CLUSTERS 64u

struct build {
        /* constant while threads run */
        struct qs_image *image;
        const struct space *space;
        struct dedup *dedup;            /* claims need the lock, keys do not */
        struct lock lock;
        /* any thread */
        _Atomic uint64_t next;
        _Atomic bool failed;
};

static void learn_locked(struct build *b, const struct dedup_key *key, const struct extent *x)
        REQUIRES(b->lock)
{
        struct dedup_slot *slot = dedup_claim(b->dedup, key);

        if (!slot || slot->refs > 0)
                return;
        slot->entry = entry_of(x);
        slot->refs = MAX(DIV_ROUND_UP(references(b->space, slot->entry), 2u), 1u);
        slot->fresh = true;
}

static void learn(struct build *b, const struct dedup_key *key, const struct extent *x)
{
        lock_acquire(&b->lock);
        learn_locked(b, key, x);
        lock_release(&b->lock);
}

/* What is damaged must not be found: who saves the same stores it anew. */
static int learn_cluster(struct build *b, struct qs_reader *r, uint64_t i,
                         const struct extent *x, uint8_t *buf, struct err *e)
{
        struct err why = { 0 };
        int rc = qs_cluster_read(r, i, buf, &why);

        if (rc == 0) {
                struct dedup_key key = dedup_key(b->dedup, buf, b->image->cluster_bytes);

                learn(b, &key, x);
        }
        if (rc < 0 && rc != -EBADMSG && e)
                *e = why;
        return rc == -EBADMSG ? 0 : rc;
}

static int build_stretch(struct build *b, struct qs_reader *r, uint64_t i, uint64_t end,
                         uint8_t *buf, struct err *e)
{
        struct qs_image *m = b->image;
        int rc = 0;

        for (; rc == 0 && i < end; i++) {
                uint64_t at = i << m->hdr.cluster_bits;
                struct extent x;

                rc = image_extent(m, at, m->disk_bytes - at, &x, e);
                if (rc < 0)
                        break;
                if (x.kind == L2_ZERO) {
                        i += (x.bytes - 1) >> m->hdr.cluster_bits;
                        continue;
                }
                rc = learn_cluster(b, r, i, &x, buf, e);
        }
        return rc;
}

static int build_worker(void *ctx, struct err *e)
{
        struct build *b = ctx;
        uint64_t clusters = b->image->disk_clusters;
        AUTO_FREE uint8_t *buf = malloc(b->image->cluster_bytes);
        struct qs_reader *r = NULL;
        int rc = buf ? qs_reader_new(b->image, &r, e) : err_set(e, ENOMEM, "read clusters");

        while (rc == 0 && !b->failed) {
                uint64_t first = atomic_fetch_add(&b->next, BUILD_CLUSTERS);

                if (first >= clusters)
                        break;
                rc = build_stretch(b, r, first, MIN(first + BUILD_CLUSTERS, clusters), buf, e);
        }
        qs_reader_free(r);
        if (rc < 0)
                b->failed = true;
        return rc;
}

static int build_from(struct qs_image *m, const struct space *s, struct dedup *d, struct err *e)
{
        struct build b = { .image = m, .space = s, .dedup = d };

        lock_init(&b.lock);

        int rc = crew_run(crew_size(0), false, build_worker, &b, e);

        lock_fini(&b.lock);
        return rc;
}

int dedupindex_build(const struct pool *p, const struct space *s, struct dedup *d, struct err *e)
{
        int rc = 0;

        for (uint32_t i = p->latest->hdr.snapshots; rc == 0 && i-- > 0;) {
                struct qs_image *m = NULL;

                rc = image_open_layer(p->fd, p->path, p->latest->snapshots[i].tag, &m, e);
                if (rc == 0)
                        rc = build_from(m, s, d, e);
                qs_image_close(m);
        }
        return rc;
}

/* Fresh contents of d as bytes, with room for more behind them. */
static int encode_fresh(const struct dedup *d, uint64_t more, uint8_t **ret, uint64_t *ret_n,
                        struct err *e)
{
        const struct dedup_slot *slot;
        uint64_t cursor = 0;
        uint64_t n = 0;

        while (d && dedup_next_fresh(d, &cursor))
                n++;
        *ret = malloc((n + more) * INDEX_ENTRY_BYTES + 1);
        if (!*ret)
                return err_set(e, ENOMEM, "write the index of contents");
        cursor = n = 0;
        while (d && (slot = dedup_next_fresh(d, &cursor))) {
                uint8_t *x = *ret + n++ * INDEX_ENTRY_BYTES;

                put_le64(x, slot->word[0]);
                put_le64(x + 8, slot->word[1]);
                put_le64(x + 16, slot->entry);
        }
        *ret_n = n;
        return 0;
}

static uint64_t fresh_contents(const struct dedup *d)
{
        uint64_t cursor = 0;
        uint64_t n = 0;

        while (d && dedup_next_fresh(d, &cursor))
                n++;
        return n;
}

/* All entries must be looked at. */
static unsigned choose_none(const struct pool *p, uint64_t *ret_merged)
{
        *ret_merged = dedupindex_present(p) ? dedupindex_size(p) : 0;
        return 0;
}

/* How many sections of the pool stay as they are, the first ones; *ret_merged
 * counts the entries of the others. */
static unsigned choose_kept(const struct pool *p, uint64_t fresh, uint64_t *ret_merged)
{
        const uint64_t most = QS_SECTION_BYTES_MAX / INDEX_ENTRY_BYTES;
        unsigned kept = index_sections(p);

        for (unsigned i = 0; i < kept; i++) {
                if (!is_index(p, i))
                        return choose_none(p, ret_merged);
        }
        *ret_merged = 0;
        while (kept > 0) {
                uint64_t n = p->area_toc.section[kept - 1].bytes / INDEX_ENTRY_BYTES;

                if (kept <= INDEX_SEGMENTS_MAX &&
                    (n / 2 >= fresh + *ret_merged || n + fresh + *ret_merged > most))
                        break;
                *ret_merged += n;
                kept--;
        }
        return kept;
}

static void name_section(struct dedupindex *x, unsigned i)
{
        snprintf(x->section[i].name, sizeof(x->section[i].name), PREFIX "%u", i);
}

/* Has it a host cluster for each of its own? */
static bool is_whole(const struct pool *p, const struct section *s)
{
        unsigned bits = p->latest->hdr.cluster_bits;
        uint64_t at = s->offset >> bits;
        uint64_t end = at + layout_clusters(s->bytes, bits);

        while (at < end && p->area[at])
                at++;
        return at == end && !(s->flags & SECTION_TREE);
}

static void keep_working_sets(const struct pool *p, struct dedupindex *ret)
{
        const struct section *s = sectoc_find(&p->area_toc, WORKSET_SECTIONS);

        if (s && is_whole(p, s))
                ret->section[ret->n++] = (struct area_section){ .kept = s };
}

/* newest first, so that what is loaded first counts */
static int merge(const struct pool *p, unsigned kept, uint8_t *to, struct err *e)
{
        for (unsigned i = p->area_toc.count; i-- > kept;) {
                const struct section *s = &p->area_toc.section[i];
                AUTO_FREE void *data = NULL;
                int rc = is_index(p, i) ? pool_section(p, s, &data, e) : 0;

                if (rc < 0)
                        return err_in(e, rc, "image '%s'", p->path);
                if (!data)
                        continue;
                memcpy(to, data, s->bytes);
                to += s->bytes;
        }
        return 0;
}

/* Entries of clusters that are not in use any more are dropped; returns how many
 * are left. */
static uint64_t drop_freed(uint8_t *data, uint64_t n, const struct space *s)
{
        uint64_t to = 0;

        for (uint64_t i = 0; i < n; i++) {
                const uint8_t *x = data + i * INDEX_ENTRY_BYTES;

                if (references(s, get_le64(x + 16)))
                        memmove(data + to++ * INDEX_ENTRY_BYTES, x, INDEX_ENTRY_BYTES);
        }
        return to;
}

int dedupindex_next(const struct pool *p, const struct dedup *d, const struct space *freed,
                    struct dedupindex *ret, struct err *e)
{
        uint64_t merged;
        uint64_t n = 0;
        unsigned kept = freed ? choose_none(p, &merged)
                              : choose_kept(p, fresh_contents(d), &merged);
        uint8_t *data = NULL;
        int rc = encode_fresh(d, merged, &data, &n, e);

        *ret = (struct dedupindex){ .fresh = data };
        for (unsigned i = 0; i < kept; i++)
                ret->section[ret->n++] = (struct area_section){ .kept = &p->area_toc.section[i] };
        if (rc == 0)
                rc = merge(p, kept, data + n * INDEX_ENTRY_BYTES, e);
        if (rc < 0)
                return rc;
        n += merged;
        if (freed)
                n = drop_freed(data, n, freed);
        n = MIN(n, QS_SECTION_BYTES_MAX / INDEX_ENTRY_BYTES);
        if (n > 0) {
                ret->section[ret->n] = (struct area_section){
                        .data = data, .bytes = n * INDEX_ENTRY_BYTES,
                };
                name_section(ret, ret->n++);
        }
        keep_working_sets(p, ret);
        return 0;
}

/* One section of n entries in ret->fresh. */
static void set_only(struct dedupindex *ret, uint64_t n)
{
        n = MIN(n, QS_SECTION_BYTES_MAX / INDEX_ENTRY_BYTES);
        if (n == 0)
                return;
        ret->section[0] = (struct area_section){
                .data = ret->fresh, .bytes = n * INDEX_ENTRY_BYTES,
        };
        name_section(ret, 0);
        ret->n = 1;
}

int dedupindex_of(const struct dedup *d, struct dedupindex *ret, struct err *e)
{
        uint8_t *data = NULL;
        uint64_t n = 0;
        int rc = encode_fresh(d, 0, &data, &n, e);

        *ret = (struct dedupindex){ .fresh = data };
        if (rc == 0)
                set_only(ret, n);
        return rc;
}

int dedupindex_moved(const struct pool *p, const struct dedup *d, struct dedupindex *ret,
                     struct err *e)
{
        uint64_t n;
        uint64_t to = 0;

        choose_none(p, &n);

        uint8_t *data = malloc(n * INDEX_ENTRY_BYTES + 1);

        *ret = (struct dedupindex){ .fresh = data };
        if (!data)
                return err_set(e, ENOMEM, "write the index of contents");

        int rc = merge(p, 0, data, e);

        for (uint64_t i = 0; rc == 0 && i < n; i++) {
                uint8_t *x = data + i * INDEX_ENTRY_BYTES;
                struct dedup_key key = clone_key(get_le64(x + 16));
                const struct dedup_slot *slot = dedup_find(d, &key);

                if (!slot)
                        continue;       /* no tag refers to it any more */
                put_le64(x + 16, slot->entry);
                memmove(data + to++ * INDEX_ENTRY_BYTES, x, INDEX_ENTRY_BYTES);
        }
        if (rc == 0)
                set_only(ret, to);
        return rc;
}

void dedupindex_fini(struct dedupindex *x)
{
        free(x->fresh);
}
