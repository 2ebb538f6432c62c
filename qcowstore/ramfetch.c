/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/ramfetch.h"

#include <errno.h>
#include <string.h>

#include "qcowstore/l2entry.h"
#include "qcowstore/sum.h"

/* 0 with *ret NULL = all zero */
static int get_span(const struct ramfetch *f, uint64_t gpa, size_t bytes, void *buf,
                    const uint8_t **ret, struct err *e)
{
        bool zero = false;
        struct err why = { 0 };
        const void *p = f->source->span(f->source->ctx, gpa, bytes, buf, &zero, &why);

        if (!zero && !p) {
                if (why.code == 0)
                        return err_msg(e, EIO, "guest memory could not be read");
                *e = why;
                return why.code;
        }
        *ret = zero ? NULL : p;
        return 0;
}

/* The part of a range within [gpa, gpa + bytes); bytes 0 = none. */
static struct qs_ram_range overlap(const struct qs_ram_range *r, uint64_t gpa, uint64_t bytes)
{
        uint64_t lo = MAX(r->gpa, gpa);
        uint64_t hi = MIN(r->gpa + r->bytes, gpa + bytes);

        return (struct qs_ram_range){ lo, hi > lo ? hi - lo : 0 };
}

/* A part of a range into a buffer; *any = true: it may be other than zeros. */
static int put_part(const struct ramfetch *f, struct qs_ram_range part, uint8_t *to, bool *any,
                    struct err *e)
{
        const uint8_t *from = NULL;
        int rc = get_span(f, part.gpa, part.bytes, to, &from, e);

        if (rc < 0)
                return rc;
        *any |= from != NULL;
        if (!from)
                memset(to, 0, part.bytes);
        else if (from != to)
                memcpy(to, from, part.bytes);
        return 0;
}

/* Content of a piece that is not all of one range. */
static int compose(const struct ramfetch *f, struct chunk *c, const struct ram_piece *piece,
                   const uint8_t **ret, struct err *e)
{
        bool any = false;
        int rc = 0;

        memset(c->buf, 0, c->bytes);
        for (size_t i = 0; rc == 0 && i < f->n_ranges; i++) {
                struct qs_ram_range part = overlap(&f->ranges[i], piece->gpa, piece->bytes);

                if (part.bytes)
                        rc = put_part(f, part, c->buf + (part.gpa - piece->gpa), &any, e);
        }
        if (rc == 0)
                *ret = any ? c->buf : NULL;
        return rc;
}

/* Plain content of a piece of RAM, and what the parent has there. */
static int fetch_first(const struct ramfetch *f, struct delta_view *view, struct chunk *c,
                       const struct ram_piece *piece, struct err *e)
{
        struct qs_ram_range only = { 0 };
        const uint8_t *plain = NULL;
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
        if (view)
                end = MIN(gpa + piece->bytes, f->w->options.disk_bytes);

        size_t whole = ALIGN_UP(end - gpa, f->w->cluster_bytes);

        if (only.gpa == gpa && only.bytes == whole)
                rc = get_span(f, gpa, whole, c->buf, &plain, e);
        else
                rc = c->ram_bytes ? compose(f, c, piece, &plain, e) : 0;
        if (rc == 0 && view)
                rc = delta_view_at(view, gpa, whole, &c->base, e);
        if (rc < 0)
                return rc;
        chunk_fill(c, gpa >> c->cluster_bits,
                   (unsigned)layout_clusters(end - gpa, c->cluster_bits), plain);
        return 0;
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
                     struct err *e)
{
        uint64_t cluster = f->w->cluster_bytes;
        bool any = false;
        int rc = 0;

        for (uint64_t i = 0; rc == 0 && i < s->bytes / cluster; i++) {
                if (s->covered[i] > 0 && s->covered[i] < cluster)
                        rc = readback_cluster(f->w, s->gpa / cluster + i, c->buf + i * cluster, e);
        }
        for (size_t i = 0; rc == 0 && i < s->parts; i++) {
                struct qs_ram_range part = part_of(f, s, i);

                rc = put_part(f, part, c->buf + (part.gpa - s->gpa), &any, e);
        }
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

static int fetch_again(const struct ramfetch *f, struct delta_view *view, struct chunk *c,
                       const struct ram_piece *piece, struct err *e)
{
        struct share s;
        const uint8_t *plain = c->buf;

        share_init(&s, f, piece);

        unsigned n = (unsigned)(s.bytes >> c->cluster_bits);
        bool one = s.parts == 1 && s.asked == s.bytes;
        int rc = one ? get_span(f, s.gpa, s.bytes, c->buf, &plain, e) : recompose(f, &s, c, e);

        if (rc == 0 && view)
                rc = delta_view_at(view, s.gpa, s.bytes, &c->base, e);
        if (rc < 0)
                return rc;
        c->ram_bytes = s.asked;
        for (unsigned i = 0; i < n; i++)
                c->keep[i] = s.covered[i] == 0;
        chunk_fill(c, s.gpa >> c->cluster_bits, n, plain);
        for (unsigned i = 0; i < n; i++)
                c->cluster[i].was = former_kind(f->w, c, i);
        return 0;
}

int ramfetch(const struct ramfetch *f, struct delta_view *view, struct chunk *c,
             const struct ram_piece *piece, struct err *e)
{
        return f->again ? fetch_again(f, view, c, piece, e) : fetch_first(f, view, c, piece, e);
}
