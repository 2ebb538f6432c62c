/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/ramfetch.h"

#include <errno.h>
#include <string.h>

#include "qcowstore/l2entry.h"
#include "qcowstore/sum.h"

#define PAGE ((size_t)LAYOUT_PAGE_BYTES)

/* What a source has of a chunk, from its beginning on. */
struct content {
        const uint8_t *plain;           /* but for the parent's pages; NULL = zeros */
        bool any_parent;
        uint64_t parent[QS_SPAN_PAGES_MAX / 64];        /* its pages; behind the end: any */
};

static_assert(QS_SPAN_PAGES_MAX == (1u << QS_CLUSTER_BITS_MAX) / LAYOUT_PAGE_BYTES,
              "a span has at most a chunk's pages");

int ramfetch_tools_init(struct ramfetch_tools *t, const struct ramfetch *f, struct err *e)
{
        *t = (struct ramfetch_tools){ 0 };
        heir_init(&t->heir, &f->heritage);
        return f->w->delta ? delta_view_new(f->w->delta, chunk_bytes(f->w->cluster_bits),
                                            &t->view, e) : 0;
}

void ramfetch_tools_fini(struct ramfetch_tools *t)
{
        delta_view_free(t->view);
        heir_fini(&t->heir);
}

static bool is_parent(const struct content *x, size_t page)
{
        return x->parent[page / 64] >> page % 64 & 1;
}

static void mark_parent(struct content *x, size_t page)
{
        x->parent[page / 64] |= 1ull << page % 64;
        x->any_parent = true;
}

static int ask(const struct ramfetch *f, uint64_t gpa, size_t bytes, void *buf,
               struct content *ret, struct err *e)
{
        struct qs_span said = { 0 };
        struct err why = { 0 };
        const void *p = f->source->span(f->source->ctx, gpa, bytes, buf, &said, &why);

        *ret = (struct content){ 0 };
        if (said.kind == QS_SPAN_PARENT)
                memset(said.parent, 0xff, sizeof(said.parent));
        if (said.kind == QS_SPAN_ZERO)
                return 0;
        if (said.kind == QS_SPAN_DATA && !p) {
                if (why.code == 0)
                        return err_msg(e, EIO, "guest memory could not be read");
                *e = why;
                return why.code;
        }
        ret->plain = said.kind == QS_SPAN_DATA ? p : NULL;
        ret->any_parent = !sum_all_zero(said.parent, sizeof(said.parent));
        memcpy(ret->parent, said.parent, sizeof(ret->parent));
        return 0;
}

/* The part of a range within [gpa, gpa + bytes); bytes 0 = none. */
static struct qs_ram_range overlap(const struct qs_ram_range *r, uint64_t gpa, uint64_t bytes)
{
        uint64_t lo = MAX(r->gpa, gpa);
        uint64_t hi = MIN(r->gpa + r->bytes, gpa + bytes);

        return (struct qs_ram_range){ lo, hi > lo ? hi - lo : 0 };
}

/* A part of a range into the chunk's buffer, at such an offset. */
static int put_part(const struct ramfetch *f, struct qs_ram_range part, struct chunk *c,
                    size_t at, struct content *x, struct err *e)
{
        struct content y;
        int rc = ask(f, part.gpa, part.bytes, c->buf + at, &y, e);

        if (rc < 0)
                return rc;
        if (y.plain)
                x->plain = c->buf;
        for (size_t i = 0; i < part.bytes / PAGE; i++) {
                uint8_t *to = c->buf + at + i * PAGE;

                if (is_parent(&y, i))
                        mark_parent(x, at / PAGE + i);
                else if (!y.plain)
                        memset(to, 0, PAGE);
                else if (y.plain != c->buf + at)
                        memcpy(to, y.plain + i * PAGE, PAGE);
        }
        return 0;
}

/* Content of a piece that is not all of one range. */
static int compose(const struct ramfetch *f, struct chunk *c, const struct ram_piece *piece,
                   struct content *x, struct err *e)
{
        int rc = 0;

        memset(c->buf, 0, c->bytes);
        for (size_t i = 0; rc == 0 && i < f->n_ranges; i++) {
                struct qs_ram_range part = overlap(&f->ranges[i], piece->gpa, piece->bytes);

                if (part.bytes)
                        rc = put_part(f, part, c, part.gpa - piece->gpa, x, e);
        }
        return rc;
}

static bool needs_bytes(enum heir_fate fate)
{
        return fate == HEIR_LOOK || fate == HEIR_DENSE;
}

/* What the delta's parent has it has read already, to compare. */
static int read_parent(const struct ramfetch *f, struct ramfetch_tools *t, struct chunk *c,
                       uint64_t gpa, size_t at, size_t bytes, struct err *e)
{
        if (!heritage_is_base(&f->heritage))
                return heir_read(&t->heir, gpa + at, bytes, c->buf + at, e);
        if (c->base)
                memcpy(c->buf + at, c->base + at, bytes);
        else
                memset(c->buf + at, 0, bytes);
        return 0;
}

/* All of the clusters that need their bytes into the chunk's buffer. */
static int complete(const struct ramfetch *f, struct ramfetch_tools *t, struct chunk *c,
                    uint64_t gpa, size_t pages, struct content *x, const enum heir_fate *fate,
                    struct err *e)
{
        unsigned shift = c->cluster_bits - QS_CLUSTER_BITS_MIN;
        int rc = 0;

        for (size_t i = 0, end; rc == 0 && i < pages; i = end) {
                bool parent = is_parent(x, i);
                bool needed = needs_bytes(fate[i >> shift]);
                size_t at = i * PAGE;

                for (end = i + 1; end < pages && is_parent(x, end) == parent &&
                                  needs_bytes(fate[end >> shift]) == needed; end++)
                        ;
                if (needed && parent)
                        rc = read_parent(f, t, c, gpa, at, (end - i) * PAGE, e);
                else if (needed && !x->plain)
                        memset(c->buf + at, 0, (end - i) * PAGE);
                else if (needed && x->plain != c->buf)
                        memcpy(c->buf + at, x->plain + at, (end - i) * PAGE);
        }
        x->plain = c->buf;
        return rc;
}

/* The fate of each of n clusters; *ret_lack: the bytes of some are not all there. */
static int decide(struct ramfetch_tools *t, const struct chunk *c, uint64_t gpa, unsigned n,
                  const struct content *x, enum heir_fate *fate, bool *ret_lack, struct err *e)
{
        size_t per_cluster = (size_t)1 << (c->cluster_bits - QS_CLUSTER_BITS_MIN);
        int rc = 0;

        *ret_lack = false;
        for (unsigned i = 0; rc == 0 && i < n; i++) {
                size_t parents = 0;

                for (size_t p = 0; p < per_cluster; p++)
                        parents += is_parent(x, i * per_cluster + p);
                fate[i] = HEIR_LOOK;
                if (parents == per_cluster)
                        rc = heir_fate(&t->heir, gpa + ((uint64_t)i << c->cluster_bits), &fate[i],
                                       e);
                *ret_lack |= parents > 0 && needs_bytes(fate[i]);
        }
        return rc;
}

/* What the file's parent has where clusters are looked at. */
static int compare_with(struct delta_view *view, struct chunk *c, uint64_t gpa, unsigned n,
                        const enum heir_fate *fate, struct err *e)
{
        int rc = 0;

        for (unsigned i = 0, end; rc == 0 && i < n; i = end) {
                size_t at = (size_t)i << c->cluster_bits;

                for (end = i + 1; end < n && needs_bytes(fate[end]) == needs_bytes(fate[i]); end++)
                        ;
                if (needs_bytes(fate[i]))
                        rc = delta_view_part(view, at, gpa + at,
                                             (size_t)(end - i) << c->cluster_bits, &c->base, e);
        }
        return rc;
}

/* A chunk of which a part is the source's parent's. */
static int inherit(const struct ramfetch *f, struct ramfetch_tools *t, struct chunk *c,
                   uint64_t gpa, unsigned n, struct content *x, struct err *e)
{
        enum heir_fate fate[CHUNK_CLUSTERS_MAX];
        bool lack;
        int rc = decide(t, c, gpa, n, x, fate, &lack, e);

        c->base = NULL;
        if (rc == 0 && t->view)
                rc = compare_with(t->view, c, gpa, n, fate, e);
        if (rc == 0 && lack)
                rc = complete(f, t, c, gpa, ((size_t)n << c->cluster_bits) / PAGE, x, fate, e);
        if (rc < 0)
                return rc;
        chunk_begin(c, gpa >> c->cluster_bits, n, x->plain);
        for (unsigned i = 0; rc == 0 && i < n; i++) {
                if (needs_bytes(fate[i]))
                        chunk_look(c, i, fate[i] == HEIR_DENSE);
                else
                        rc = heir_put(&t->heir, c, i, fate[i], e);
        }
        return rc;
}

/* A piece of RAM, and what the file's parent has there. */
static int fetch_first(const struct ramfetch *f, struct ramfetch_tools *t, struct chunk *c,
                       const struct ram_piece *piece, struct err *e)
{
        struct qs_ram_range only = { 0 };
        struct content x = { 0 };
        uint64_t gpa = piece->gpa;
        uint64_t end = gpa;
        int rc;

        c->ram_bytes = 0;
        for (size_t i = 0; i < f->n_ranges; i++) {
                struct qs_ram_range part = overlap(&f->ranges[i], gpa, piece->bytes);

                if (part.bytes) {
                        c->ram_bytes += part.bytes;
                        end = part.gpa + part.bytes;
                        only = part;
                }
        }
        if (t->view)
                end = MIN(gpa + piece->bytes, f->w->options.disk_bytes);

        size_t whole = ALIGN_UP(end - gpa, f->w->cluster_bytes);
        unsigned n = (unsigned)(whole >> c->cluster_bits);

        if (only.gpa == gpa && only.bytes == whole)
                rc = ask(f, gpa, whole, c->buf, &x, e);
        else
                rc = c->ram_bytes ? compose(f, c, piece, &x, e) : 0;
        if (rc == 0 && x.any_parent)
                return inherit(f, t, c, gpa, n, &x, e);
        if (rc == 0 && t->view)
                rc = delta_view_at(t->view, gpa, whole, &c->base, e);
        if (rc == 0)
                chunk_fill(c, gpa >> c->cluster_bits, n, x.plain);
        return rc;
}

/* The first range that ends behind gpa. */
static size_t first_behind(const struct ramfetch *f, uint64_t gpa)
{
        size_t lo = 0;
        size_t hi = f->n_ranges;

        while (lo < hi) {
                size_t mid = lo + (hi - lo) / 2;

                if (f->ranges[mid].gpa + f->ranges[mid].bytes <= gpa)
                        lo = mid + 1;
                else
                        hi = mid;
        }
        return lo;
}

/* What of a piece is taken again. */
struct share {
        size_t first;                   /* range */
        size_t parts;                   /* ranges that have one */
        uint64_t gpa;                   /* of the first cluster that they touch */
        uint64_t bytes;                 /* up to the end of the last one */
        uint64_t asked;                 /* bytes of all parts */
        uint32_t covered[CHUNK_CLUSTERS_MAX];   /* of each cluster, bytes */
};

static struct qs_ram_range part_of(const struct ramfetch *f, const struct share *s, size_t i)
{
        return overlap(&f->ranges[s->first + i], s->gpa, s->bytes);
}

static void add_part(struct share *s, struct qs_ram_range part, uint64_t cluster)
{
        s->asked += part.bytes;
        while (part.bytes > 0) {
                uint64_t n = MIN(part.bytes, cluster - (part.gpa & (cluster - 1)));

                s->covered[(part.gpa - s->gpa) / cluster] += (uint32_t)n;
                part.gpa += n;
                part.bytes -= n;
        }
}

static void share_init(struct share *s, const struct ramfetch *f, const struct ram_piece *piece)
{
        uint64_t cluster = f->w->cluster_bytes;
        uint64_t end = piece->gpa + piece->bytes;

        *s = (struct share){ .first = first_behind(f, piece->gpa) };
        while (s->first + s->parts < f->n_ranges && f->ranges[s->first + s->parts].gpa < end)
                s->parts++;
        ASSERT(s->parts > 0);           /* else the plan would not have it */

        const struct qs_ram_range *last = &f->ranges[s->first + s->parts - 1];

        s->gpa = ALIGN_DOWN(MAX(f->ranges[s->first].gpa, piece->gpa), cluster);
        s->bytes = ALIGN_UP(MIN(last->gpa + last->bytes, end), cluster) - s->gpa;
        for (size_t i = 0; i < s->parts; i++)
                add_part(s, part_of(f, s, i), cluster);
}

/* Clusters of which only a part is taken again, as they are; then the parts. */
static int recompose(const struct ramfetch *f, const struct share *s, struct chunk *c,
                     struct content *x, struct err *e)
{
        uint64_t cluster = f->w->cluster_bytes;
        int rc = 0;

        for (uint64_t i = 0; rc == 0 && i < s->bytes / cluster; i++) {
                if (s->covered[i] > 0 && s->covered[i] < cluster)
                        rc = readback_cluster(f->w, s->gpa / cluster + i, c->buf + i * cluster, e);
        }
        for (size_t i = 0; rc == 0 && i < s->parts; i++) {
                struct qs_ram_range part = part_of(f, s, i);

                rc = put_part(f, part, c, part.gpa - s->gpa, x, e);
        }
        x->plain = c->buf;
        return rc;
}

/* What the cluster was before. */
static enum chunk_kind former_kind(const struct qs_writer *w, const struct chunk *c, unsigned i)
{
        uint64_t entries = layout_l2_entries(c->cluster_bits);
        struct writer_table t = writer_table(w, c->first / entries);
        uint64_t at = c->first % entries + i;
        uint64_t entry = t.entry ? t.entry[at] : 0;
        const uint8_t *base = c->base ? c->base + ((size_t)i << c->cluster_bits) : NULL;

        if (entry == 0)
                return base && !sum_all_zero(base, w->cluster_bytes) ? CHUNK_SAME : CHUNK_ZERO;
        if (entry == L2ENTRY_ZERO)
                return CHUNK_BLANK;
        if (t.shared[at])
                return CHUNK_SHARED;
        return entry & L2ENTRY_PACKED ? CHUNK_PACKED : CHUNK_RAW;
}

static int fetch_again(const struct ramfetch *f, struct ramfetch_tools *t, struct chunk *c,
                       const struct ram_piece *piece, struct err *e)
{
        const enum heir_fate look[CHUNK_CLUSTERS_MAX] = { HEIR_LOOK };
        struct share s;
        struct content x = { 0 };

        share_init(&s, f, piece);

        unsigned n = (unsigned)(s.bytes >> c->cluster_bits);
        bool one = s.parts == 1 && s.asked == s.bytes;
        int rc = one ? ask(f, s.gpa, s.bytes, c->buf, &x, e) : recompose(f, &s, c, &x, e);

        if (rc == 0 && x.any_parent)
                rc = complete(f, t, c, s.gpa, s.bytes / PAGE, &x, look, e);
        if (rc == 0 && t->view)
                rc = delta_view_at(t->view, s.gpa, s.bytes, &c->base, e);
        if (rc < 0)
                return rc;
        c->ram_bytes = s.asked;
        for (unsigned i = 0; i < n; i++)
                c->keep[i] = s.covered[i] == 0;
        chunk_fill(c, s.gpa >> c->cluster_bits, n, x.plain);
        for (unsigned i = 0; i < n; i++)
                c->cluster[i].was = former_kind(f->w, c, i);
        return 0;
}

int ramfetch(const struct ramfetch *f, struct ramfetch_tools *t, struct chunk *c,
             const struct ram_piece *piece, struct err *e)
{
        return f->again ? fetch_again(f, t, c, piece, e) : fetch_first(f, t, c, piece, e);
}
