/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/ramfetch.h"

#include <errno.h>
#include <string.h>

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

/* Content of a piece that is not all of one range. */
static int compose(const struct ramfetch *f, struct chunk *c, const struct ram_piece *piece,
                   const uint8_t **ret, struct err *e)
{
        bool any = false;

        memset(c->buf, 0, c->bytes);
        for (size_t i = 0; i < f->n_ranges; i++) {
                struct qs_ram_range part = overlap(&f->ranges[i], piece->gpa, piece->bytes);
                uint8_t *to = c->buf + (part.gpa - piece->gpa);
                const uint8_t *from = NULL;

                if (part.bytes == 0)
                        continue;

                int rc = get_span(f, part.gpa, part.bytes, to, &from, e);

                if (rc < 0)
                        return rc;
                any |= from != NULL;
                if (!from)
                        memset(to, 0, part.bytes);
                else if (from != to)
                        memcpy(to, from, part.bytes);
        }
        *ret = any ? c->buf : NULL;
        return 0;
}

/* Plain content of a piece of RAM, and what the parent has there. */
int ramfetch(const struct ramfetch *f, struct delta_view *view, struct chunk *c,
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
