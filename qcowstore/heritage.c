/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/heritage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "qcowstore/delta.h"
#include "qcowstore/l2entry.h"
#include "qcowstore/placer.h"
#include "qcowstore/pool.h"

/* what image_extent() says of a cluster, all of it */
struct survey {
        bool zero;
        bool whole;                     /* it is that one of the layer, and x is it */
        struct extent x;
};

/* The layer of top that is the very image, with all behind it; NULL = none. */
/* A layer above it that is shorter hides what the image has behind that one's end. */
static const struct qs_image *find_kin(const struct qs_image *top, const struct qs_image *image)
{
        for (; top && !qs_image_same(top, image); top = top->parent) {
                if (top->disk_bytes < image->disk_bytes)
                        return NULL;
        }
        return top;
}

static bool is_new_file(const struct qs_writer *w)
{
        return !w->pool && !w->into;
}

/* One of the pool's snapshots is the image. The descriptor keeps the inode from being
 * another file's, and who appends keeps others from taking the snapshot out. */
static bool is_in_pool(const struct qs_writer *w, const struct qs_image *image)
{
        const struct qs_image *m = w->pool && !w->into ? w->pool->latest : NULL;

        if (!m || m->dev != image->dev || m->ino != image->ino || image->parent ||
            !image->hdr.format_version || !image->snapshot ||
            memcmp(m->hdr.uuid, image->hdr.uuid, sizeof(m->hdr.uuid)) != 0 ||
            m->hdr.cluster_bits != image->hdr.cluster_bits)
                return false;
        for (uint32_t i = 0; i < m->hdr.snapshots; i++) {
                if (strcmp(m->snapshots[i].tag, image->snapshot->tag) == 0)
                        return m->snapshots[i].toc_sum == image->snapshot->toc_sum;
        }
        return false;
}

static bool is_alike(const struct qs_writer *w, const struct qs_image *layer)
{
        return layer->hdr.format_version && layer->checksums && layer->hdr.zstd &&
               w->options.compress == QS_COMPRESS_ZSTD &&
               layer->hdr.cluster_bits == w->cluster_bits;
}

static enum heritage_way choose(struct heritage *h)
{
        const struct qs_writer *w = h->w;

        if (!h->image)
                return HERITAGE_ZERO;
        if (w->delta) {
                h->kin = find_kin(delta_image(w->delta), h->image);
                return h->kin ? HERITAGE_SAME : HERITAGE_READ;
        }
        if (is_in_pool(w, h->image))
                return HERITAGE_LINK;
        return is_new_file(w) && is_alike(w, h->image) ? HERITAGE_COPY : HERITAGE_READ;
}

void heritage_init(struct heritage *h, struct qs_writer *w, struct qs_image *image, bool again)
{
        *h = (struct heritage){ .w = w, .image = image };
        h->way = again && image ? HERITAGE_READ : choose(h);
        if (h->way == HERITAGE_SAME || h->way == HERITAGE_COPY) {
                ASSERT(is_new_file(w) && !w->dedup);
                w->seed = image->hdr.hash_seed;
        }
}

bool heritage_is_base(const struct heritage *h)
{
        return h->way == HERITAGE_SAME && h->kin == delta_image(h->w->delta);
}

void heir_init(struct heir *r, const struct heritage *h)
{
        *r = (struct heir){ .of = h };
}

void heir_fini(struct heir *r)
{
        qs_reader_free(r->reader);
        free(r->window.bytes);
}

static int in_memory(const struct qs_image *m, int rc, uint64_t gpa, struct err *e)
{
        return rc < 0 ? err_in(e, rc, "image '%s', guest memory at %#llx", m->path,
                               (unsigned long long)gpa) : 0;
}

static int look_at(struct qs_image *m, uint64_t gpa, uint64_t bytes, struct survey *ret,
                   struct err *e)
{
        *ret = (struct survey){ .zero = true };
        for (uint64_t at = gpa; at < gpa + bytes;) {
                struct extent x;
                int rc = image_extent(m, at, gpa + bytes - at, &x, e);

                if (rc < 0)
                        return in_memory(m, rc, gpa, e);
                if (at == gpa)
                        ret->x = x;
                ret->zero = ret->zero && x.kind == L2_ZERO;
                at += x.bytes;
        }
        ret->whole = !ret->zero && ret->x.bytes == bytes && ret->x.skip == 0 &&
                     ret->x.layer->cluster_bytes == bytes;
        return 0;
}

static bool is_behind(const struct qs_image *layer, const struct qs_image *kin)
{
        while (kin && kin != layer)
                kin = kin->parent;
        return kin != NULL;
}

/* No layer above kin speaks of the cluster; behind the last one are zeros for both. */
static int is_inherited(const struct heritage *h, uint64_t gpa, bool *ret, struct err *e)
{
        struct qs_image *m = delta_image(h->w->delta);

        *ret = true;
        for (uint64_t at = gpa, end = gpa + h->w->cluster_bytes; *ret && at < end;) {
                struct extent x;
                int rc = image_extent(m, at, end - at, &x, e);

                if (rc < 0)
                        return in_memory(m, rc, gpa, e);
                *ret = !x.layer || is_behind(x.layer, h->kin);
                at += x.bytes;
        }
        return 0;
}

/* INV-COUNT */
static bool may_link(const struct heritage *h, const struct extent *x)
{
        const struct pool *p = h->w->pool;
        unsigned bits = h->w->cluster_bits;
        uint64_t counted = p->reftable_entries *
                           layout_refblock_entries(bits, LAYOUT_REFCOUNT_ORDER);
        uint64_t bytes = x->kind == L2_RAW ? x->bytes : x->stream_bytes;

        for (uint64_t i = x->offset >> bits; i <= (x->offset + bytes - 1) >> bits; i++) {
                if (i >= counted || p->refs[i] == 0 ||
                    p->refs[i] / PLACER_REFS_PER_ENTRY >= h->w->refs_max)
                        return false;
        }
        return true;
}

/* What the tables say decides. */
static enum heir_fate judge(const struct heritage *h, const struct survey *s)
{
        if (s->zero && !h->w->delta)
                return HEIR_ZERO;
        if (!s->whole)
                return HEIR_LOOK;
        if (h->way == HERITAGE_LINK && s->x.layer == h->image && may_link(h, &s->x))
                return HEIR_LINK;
        if (!is_alike(h->w, s->x.layer))
                return HEIR_LOOK;
        if (s->x.kind == L2_RAW)
                return HEIR_DENSE;
        return h->way == HERITAGE_COPY && s->x.layer->hdr.hash_seed == h->w->seed ? HEIR_COPY
                                                                                  : HEIR_LOOK;
}

int heir_fate(struct heir *r, uint64_t gpa, enum heir_fate *ret, struct err *e)
{
        const struct heritage *h = r->of;
        struct survey s;
        bool inherited = heritage_is_base(h);
        int rc = 0;

        if (h->way == HERITAGE_ZERO) {
                *ret = h->w->delta ? HEIR_LOOK : HEIR_ZERO;
                return 0;
        }
        if (h->way == HERITAGE_SAME && !inherited)
                rc = is_inherited(h, gpa, &inherited, e);
        if (rc == 0 && inherited) {
                *ret = HEIR_SAME;
                return 0;
        }
        if (rc == 0)
                rc = look_at(h->image, gpa, h->w->cluster_bytes, &s, e);
        if (rc == 0)
                *ret = judge(h, &s);
        return rc;
}

static unsigned depth_of(const struct qs_image *top, const struct qs_image *layer)
{
        unsigned n = 0;

        for (; top != layer; top = top->parent)
                n++;
        return n;
}

static int copy(struct heir *r, struct chunk *c, unsigned i, const struct extent *x,
                struct err *e)
{
        const struct heritage *h = r->of;
        struct chunk_cluster *k = &c->cluster[i];
        struct l2entry at = { .kind = L2_PACKED, .offset = x->offset, .bytes = x->stream_bytes };

        if (!r->window.bytes)
                r->window.bytes = malloc(2 * h->w->cluster_bytes);
        if (!r->window.bytes)
                return err_set(e, ENOMEM, "copy clusters");
        k->origin = CHUNK_COPIED;
        k->key = clone_key(l2entry_packed(x->offset, x->stream_bytes, c->cluster_bits));
        k->key.word[1] = depth_of(h->image, x->layer);  /* word 0 alone says which entry */
        return clone_stream(x->layer, c, i, &at, &r->window, e);
}

static void link_to(struct chunk *c, unsigned i, const struct extent *x)
{
        struct chunk_cluster *k = &c->cluster[i];

        k->kind = CHUNK_SHARED;
        k->origin = CHUNK_LINKED;
        k->entry = x->kind == L2_RAW
                   ? x->offset : l2entry_packed(x->offset, x->stream_bytes, c->cluster_bits);
}

static int put_stored(struct heir *r, struct chunk *c, unsigned i, enum heir_fate fate,
                      struct err *e)
{
        struct qs_image *m = r->of->image;
        uint64_t gpa = (c->first + i) << c->cluster_bits;
        struct extent x;
        int rc = image_extent(m, gpa, 1ull << c->cluster_bits, &x, e);

        ASSERT(rc < 0 || x.kind == L2_RAW || x.kind == L2_PACKED);
        if (rc == 0)
                rc = sumtree_get(x.layer->checksums, x.cluster, &c->cluster[i].sum, e);
        if (rc == 0 && fate == HEIR_COPY)
                rc = copy(r, c, i, &x, e);
        else if (rc == 0)
                link_to(c, i, &x);
        return in_memory(m, rc, gpa, e);
}

int heir_put(struct heir *r, struct chunk *c, unsigned i, enum heir_fate fate, struct err *e)
{
        int rc = 0;

        ASSERT(fate != HEIR_LOOK && fate != HEIR_DENSE);
        c->cluster[i] = (struct chunk_cluster){
                .kind = fate == HEIR_SAME ? CHUNK_SAME : CHUNK_ZERO,
        };
        if (fate == HEIR_LINK || fate == HEIR_COPY)
                rc = put_stored(r, c, i, fate, e);
        if (rc == 0)
                chunk_count(c, i);
        return rc;
}

int heir_read(struct heir *r, uint64_t gpa, size_t bytes, void *to, struct err *e)
{
        struct qs_image *m = r->of->image;
        bool zero = true;
        int rc = m && !r->reader ? qs_reader_new(m, &r->reader, e) : 0;

        if (rc == 0 && m)
                rc = qs_span_read(r->reader, gpa, bytes, to, &zero, e);
        if (rc == 0 && zero)
                memset(to, 0, bytes);
        return rc;
}
