/* SPDX-License-Identifier: Apache-2.0 */
/* guest RAM and sections out of an open image
 *
 * Why nothing is mapped: a mapping shows what the file holds now, not what was
 * compared with its sum, and a file cut short kills the reader with SIGBUS; no
 * lock of a file system prevents either. ARCHITECTURE.md has what pread costs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "qcowstore/image-priv.h"
#include "qcowstore/legacy.h"
#include "qcowstore/sum.h"
#include "qcowstore/unpack.h"

/* Compressed neighbours are fetched together, up to so much. */
#define WINDOW_BYTES (256u << 10)

struct qs_reader {
        struct qs_image *image;
        struct unpack *unpack;
        /* compressed bytes of a layer's file, during one call */
        uint8_t *window;
        size_t window_room;             /* 2 clusters at least: no entry can ask for more */
        const struct qs_image *window_layer;    /* NULL = empty */
        uint64_t window_at;
        uint64_t window_end;
        /* the last cluster of which only a part was wanted */
        uint8_t *whole;
        const struct qs_image *whole_layer;     /* NULL = none */
        uint64_t whole_cluster;
};

int qs_reader_new(struct qs_image *m, struct qs_reader **ret, struct err *e)
{
        struct qs_reader *r = calloc(1, sizeof(*r));
        uint64_t largest = 0;

        if (!r)
                return err_set(e, ENOMEM, "image '%s'", m->path);
        for (const struct qs_image *layer = m; layer; layer = layer->parent)
                largest = MAX(largest, layer->cluster_bytes);
        r->image = m;
        r->unpack = unpack_new();
        r->window_room = MAX(2 * largest, WINDOW_BYTES);
        r->window = malloc(r->window_room);
        r->whole = malloc(largest + 1);
        if (!r->unpack || !r->window || !r->whole) {
                qs_reader_free(r);
                return err_set(e, ENOMEM, "image '%s'", m->path);
        }
        *ret = r;
        return 0;
}

void qs_reader_free(struct qs_reader *r)
{
        if (!r)
                return;
        unpack_free(r->unpack);
        free(r->window);
        free(r->whole);
        free(r);
}

struct qs_image *image_of_reader(const struct qs_reader *r)
{
        return r->image;
}

static int in_memory(const struct qs_reader *r, int rc, uint64_t at, struct err *e)
{
        if (rc < 0)
                err_in(e, rc, "image '%s', guest memory at %#llx", r->image->path,
                       (unsigned long long)ALIGN_DOWN(at, 1ull << r->image->unit_bits));
        return rc;
}

static int find(struct qs_reader *r, uint64_t at, uint64_t max, struct extent *ret,
                struct err *e)
{
        return in_memory(r, image_extent(r->image, at, max, ret, e), at, e);
}

/* *at goes on to the first byte that need not be zero, or to `end`. */
static int skip_zeros(struct qs_reader *r, uint64_t *at, uint64_t end, struct err *e)
{
        while (*at < end) {
                struct extent x;
                int rc = find(r, *at, end - *at, &x, e);

                if (rc < 0)
                        return rc;
                if (x.kind != L2_ZERO)
                        break;
                *at += x.bytes;
        }
        return 0;
}

int qs_cluster_kind(struct qs_reader *r, uint64_t cluster, enum qs_kind *ret, struct err *e)
{
        uint64_t n;

        return qs_extent_at(r, cluster, 1, ret, &n, e);
}

static enum qs_kind kind_of(enum l2_kind kind)
{
        return kind == L2_PACKED ? QS_PACKED : kind == L2_RAW ? QS_RAW : QS_ZERO;
}

/* A unit may be made of several stretches: it is what is most work of them. */
static int unit_kind(struct qs_reader *r, uint64_t unit, enum qs_kind *ret, uint64_t *ret_offset,
                     struct err *e)
{
        uint64_t at = unit << r->image->unit_bits;
        uint64_t end = at + (1ull << r->image->unit_bits);
        struct extent x;

        static_assert(QS_ZERO < QS_RAW && QS_RAW < QS_PACKED, "ordered by work");
        *ret = QS_ZERO;
        for (bool first = true; at < end; at += x.bytes, first = false) {
                int rc = find(r, at, end - at, &x, e);

                if (rc < 0)
                        return rc;
                *ret = MAX(*ret, kind_of(x.kind));
                if (first)
                        *ret_offset = x.kind == L2_ZERO ? 0 : x.offset;
        }
        return 0;
}

int qs_extent_at(struct qs_reader *r, uint64_t cluster, uint64_t max, enum qs_kind *ret_kind,
                 uint64_t *ret_n, struct err *e)
{
        const struct qs_image *m = r->image;
        enum qs_kind kind;
        uint64_t start;

        ASSERT(max > 0 && cluster < m->units);

        int rc = unit_kind(r, cluster, &kind, &start, e);
        uint64_t n = 1;

        if (rc == 0 && kind == QS_ZERO)
                rc = qs_zero_run(r, cluster, max, &n, e);
        for (; rc == 0 && kind != QS_ZERO && n < MIN(max, m->units - cluster); n++) {
                enum qs_kind next;
                uint64_t offset;

                rc = unit_kind(r, cluster + n, &next, &offset, e);
                if (rc < 0 || next != kind ||
                    (kind == QS_RAW && offset != start + (n << m->unit_bits)))
                        break;
        }
        if (rc < 0)
                return rc;
        *ret_kind = kind;
        *ret_n = n;
        return 0;
}

int qs_zero_run(struct qs_reader *r, uint64_t cluster, uint64_t max, uint64_t *ret,
                struct err *e)
{
        const struct qs_image *m = r->image;

        ASSERT(cluster <= m->units);

        uint64_t start = cluster << m->unit_bits;
        uint64_t end = start + (MIN(max, m->units - cluster) << m->unit_bits);
        uint64_t at = start;
        int rc = skip_zeros(r, &at, end, e);

        if (rc == 0)
                *ret = (at - start) >> m->unit_bits;
        return rc;
}

/* INV-VERIFIED */
static int verify(struct qs_image *layer, uint64_t cluster, const uint8_t *bytes, struct err *e)
{
        uint64_t sum;

        if (!layer->checksums)
                return 0;

        int rc = sumtree_get(layer->checksums, cluster, &sum, e);

        if (rc == 0 && sum_bytes(bytes, layer->cluster_bytes, layer->hdr.hash_seed) != sum)
                return err_msg(e, EBADMSG, "its data do not match their checksum: the file is "
                               "damaged");
        return rc;
}

static bool in_window(const struct qs_reader *r, const struct extent *x)
{
        return r->window_layer == x->layer && x->offset >= r->window_at &&
               x->offset + x->stream_bytes <= r->window_end;
}

/* How far the streams of the clusters that follow x lie behind its own. */
static uint64_t streams_end(struct qs_reader *r, const struct extent *x, uint64_t at,
                            uint64_t end)
{
        uint64_t until = x->offset + x->stream_bytes;
        struct extent next = *x;

        for (at += x->bytes; at < end; at += next.bytes) {
                if (image_extent(r->image, at, end - at, &next, NULL) < 0 ||
                    next.kind != L2_PACKED || next.layer != x->layer ||
                    next.offset < x->offset || next.offset > until ||
                    next.offset + next.stream_bytes > x->offset + r->window_room)
                        break;
                until = MAX(until, next.offset + next.stream_bytes);
        }
        return until;
}

static int fill_window(struct qs_reader *r, const struct extent *x, uint64_t end, struct err *e)
{
        r->window_layer = NULL;

        int rc = image_pread_data(x->layer, r->window, end - x->offset, x->offset, e);

        if (rc < 0)
                return rc;
        r->window_layer = x->layer;
        r->window_at = x->offset;
        r->window_end = end;
        return 0;
}

static int unpack(struct qs_reader *r, const struct extent *x, void *buf, struct err *e)
{
        const struct qs_image *m = x->layer;
        int rc = in_window(r, x) ? 0 : fill_window(r, x, x->offset + x->stream_bytes, e);

        if (rc < 0)
                return rc;

        const uint8_t *stream = r->window + (x->offset - r->window_at);

        rc = m->hdr.zstd ? unpack_zstd(r->unpack, stream, x->stream_bytes, buf, m->cluster_bytes)
                         : unpack_zlib(r->unpack, stream, x->stream_bytes, buf, m->cluster_bytes);
        if (rc == -EBADMSG)
                return err_msg(e, EBADMSG, "its data cannot be decompressed: the file is damaged");
        return rc < 0 ? err_set(e, -rc, "decompress its data") : 0;
}

static int read_whole(struct qs_reader *r, const struct extent *x, void *buf, struct err *e)
{
        int rc = x->kind == L2_PACKED
                 ? unpack(r, x, buf, e)
                 : image_pread_data(x->layer, buf, x->layer->cluster_bytes, x->offset - x->skip, e);

        return rc < 0 ? rc : verify(x->layer, x->cluster, buf, e);
}

/* Where a cluster is needed as a whole to give a part. */
static int read_part(struct qs_reader *r, const struct extent *x, void *buf, struct err *e)
{
        if (r->whole_layer != x->layer || r->whole_cluster != x->cluster) {
                r->whole_layer = NULL;

                int rc = read_whole(r, x, r->whole, e);

                if (rc < 0)
                        return rc;
                r->whole_layer = x->layer;
                r->whole_cluster = x->cluster;
        }
        memcpy(buf, r->whole + x->skip, x->bytes);
        return 0;
}

/* The raw stretch x, grown by those that follow it in guest and file. */
static uint64_t raw_run(struct qs_reader *r, const struct extent *x, uint64_t at, uint64_t end)
{
        uint64_t bytes = x->bytes;

        while (at + bytes < end) {
                struct extent next;

                if (image_extent(r->image, at + bytes, end - at - bytes, &next, NULL) < 0 ||
                    next.kind != L2_RAW || next.layer != x->layer ||
                    next.offset != x->offset + bytes ||
                    (x->layer->checksums && next.bytes != x->layer->cluster_bytes))
                        break;
                bytes += next.bytes;
        }
        return bytes;
}

static int read_raw(const struct extent *x, uint64_t bytes, uint8_t *buf, struct err *e)
{
        struct qs_image *m = x->layer;
        int rc = image_pread_data(m, buf, bytes, x->offset, e);

        for (uint64_t i = 0; rc == 0 && m->checksums && i < bytes >> m->hdr.cluster_bits; i++)
                rc = verify(m, x->cluster + i, buf + (i << m->hdr.cluster_bits), e);
        return rc;
}

/* The stretch at `at`, or more, as long as it is of one kind; *ret_bytes is what
 * was read. */
static int read_stretch(struct qs_reader *r, uint64_t at, uint64_t end, uint8_t *buf,
                        uint64_t *ret_bytes, struct err *e)
{
        struct extent x;
        int rc = image_extent(r->image, at, end - at, &x, e);

        if (rc < 0)
                return rc;
        *ret_bytes = x.bytes;
        if (x.kind == L2_ZERO) {
                memset(buf, 0, x.bytes);
                return 0;
        }

        if (x.layer->legacy)
                return legacy_read(x.layer->legacy, at, buf, x.bytes, e);

        bool whole = x.bytes == x.layer->cluster_bytes;

        if (x.kind == L2_RAW && (whole || !x.layer->checksums)) {
                *ret_bytes = raw_run(r, &x, at, end);
                rc = read_raw(&x, *ret_bytes, buf, e);
        } else if (whole) {
                if (!in_window(r, &x))
                        rc = fill_window(r, &x, streams_end(r, &x, at, end), e);
                if (rc == 0)
                        rc = read_whole(r, &x, buf, e);
        } else {
                rc = read_part(r, &x, buf, e);
        }
        return rc < 0 && x.layer != r->image ? err_in(e, rc, "parent '%s'", x.layer->path) : rc;
}

static int read_range(struct qs_reader *r, uint64_t at, uint64_t end, uint8_t *to,
                      struct err *e)
{
        r->window_layer = NULL;         /* the file may have grown since */
        while (at < end) {
                uint64_t bytes;
                int rc = read_stretch(r, at, end, to, &bytes, e);

                if (rc < 0)
                        return in_memory(r, rc, at, e);
                at += bytes;
                to += bytes;
        }
        return 0;
}

int qs_clusters_read(struct qs_reader *r, uint64_t cluster, uint64_t n, void *buf,
                     struct err *e)
{
        const struct qs_image *m = r->image;
        uint64_t at = cluster << m->unit_bits;

        ASSERT(cluster <= m->units && n <= m->units - cluster);
        return read_range(r, at, at + (n << m->unit_bits), buf, e);
}

int qs_span_read(struct qs_reader *r, uint64_t gpa, uint64_t bytes, void *buf, bool *ret_zero,
                 struct err *e)
{
        uint64_t at = gpa;
        uint64_t end = gpa + bytes;

        ASSERT(IS_ALIGNED(gpa | bytes, LAYOUT_PAGE_BYTES));

        int rc = skip_zeros(r, &at, end, e);

        if (rc < 0)
                return rc;
        *ret_zero = at == end;
        return *ret_zero ? 0 : read_range(r, gpa, end, buf, e);
}

int qs_cluster_read(struct qs_reader *r, uint64_t cluster, void *buf, struct err *e)
{
        return qs_clusters_read(r, cluster, 1, buf, e);
}
