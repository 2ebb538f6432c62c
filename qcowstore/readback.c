/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/readback.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/io.h"
#include "qcowstore/chunk.h"
#include "qcowstore/l2entry.h"
#include "qcowstore/sum.h"
#include "qcowstore/unpack.h"
#include "qcowstore/writer-priv.h"

/* The buffers of one call. */
struct readback {
        struct readback *next;
        struct unpack *unpack;
        uint8_t *stream;                /* two clusters: no entry can ask for more */
        uint8_t *whole;                 /* a cluster of which only a part is wanted */
        struct delta_view *view;        /* NULL = no parent */
};

static void readback_free(struct readback *r)
{
        if (!r)
                return;
        unpack_free(r->unpack);
        delta_view_free(r->view);
        free(r->stream);
        free(r->whole);
        free(r);
}

static int readback_new(const struct qs_writer *w, struct readback **ret, struct err *e)
{
        struct readback *r = calloc(1, sizeof(*r));
        int rc = 0;

        if (r) {
                r->unpack = unpack_new();
                r->stream = malloc(2 * w->cluster_bytes);
                r->whole = malloc(w->cluster_bytes);
        }
        if (!r || !r->unpack || !r->stream || !r->whole)
                rc = err_set(e, ENOMEM, "read back guest memory");
        if (rc == 0 && w->delta)
                rc = delta_view_new(w->delta, w->cluster_bytes, &r->view, e);
        if (rc < 0) {
                readback_free(r);
                return rc;
        }
        *ret = r;
        return 0;
}

void readback_shelf_init(struct readback_shelf *s)
{
        lock_init(&s->lock);
        s->unused = NULL;
}

void readback_shelf_fini(struct readback_shelf *s)
{
        while (s->unused) {
                struct readback *r = s->unused;

                s->unused = r->next;
                readback_free(r);
        }
        lock_fini(&s->lock);
}

static int take(struct qs_writer *w, struct readback **ret, struct err *e)
{
        struct readback_shelf *s = &w->readbacks;

        lock_acquire(&s->lock);

        struct readback *r = s->unused;

        if (r)
                s->unused = r->next;
        lock_release(&s->lock);
        if (!r)
                return readback_new(w, ret, e);
        *ret = r;
        return 0;
}

static void give(struct qs_writer *w, struct readback *r)
{
        struct readback_shelf *s = &w->readbacks;

        lock_acquire(&s->lock);
        r->next = s->unused;
        s->unused = r;
        lock_release(&s->lock);
}

static int read_error(int rc, struct err *e)
{
        if (rc == -EBADMSG)
                return err_msg(e, EBADMSG, "what was written there cannot be decompressed: is the "
                               "disk damaged?");
        return err_set(e, -rc, "read");
}

/* What the file has at an L2 entry, checked (INV-VERIFIED). */
static int read_stored(const struct qs_writer *w, struct readback *r, uint64_t entry, uint64_t sum,
                       void *to, struct err *e)
{
        struct l2entry at;
        const char *wrong = l2entry_decode(entry, w->cluster_bits,
                                           w->space.room << w->cluster_bits, &at);
        int rc;

        ASSERT(!wrong);                 /* the placer made it */
        ASSERT(at.bytes <= 2 * w->cluster_bytes);
        if (at.kind == L2_RAW) {
                rc = io_pread_full(writer_fd(w), to, w->cluster_bytes, at.offset);
        } else {
                rc = io_pread_full(writer_fd(w), r->stream, at.bytes, at.offset);
                if (rc == 0)
                        rc = unpack_zstd(r->unpack, r->stream, at.bytes, to, w->cluster_bytes);
        }
        if (rc < 0)
                return read_error(rc, e);
        if (sum_bytes(to, w->cluster_bytes, w->seed) != sum)
                return err_msg(e, EBADMSG, "what was written there does not match its checksum: is "
                               "the disk damaged?");
        return 0;
}

static int read_parent(const struct qs_writer *w, struct readback *r, uint64_t cluster, void *to,
                       struct err *e)
{
        const uint8_t *base = NULL;
        int rc = r->view ? delta_view_at(r->view, cluster << w->cluster_bits, w->cluster_bytes,
                                         &base, e) : 0;

        if (rc < 0)
                return rc;
        if (base)
                memcpy(to, base, w->cluster_bytes);
        else
                memset(to, 0, w->cluster_bytes);
        return 0;
}

static int read_cluster(const struct qs_writer *w, struct readback *r, uint64_t cluster, void *to,
                        struct err *e)
{
        uint64_t entries = layout_l2_entries(w->cluster_bits);
        struct writer_table t = writer_table(w, cluster / entries);
        uint64_t entry = t.entry ? t.entry[cluster % entries] : 0;
        int rc = 0;

        if (entry == 0)
                rc = read_parent(w, r, cluster, to, e);
        else if (entry == L2ENTRY_ZERO)
                memset(to, 0, w->cluster_bytes);
        else
                rc = read_stored(w, r, entry, t.sum[cluster % entries], to, e);
        return rc < 0 ? err_in(e, rc, "read back guest memory at %#llx from '%s'",
                               (unsigned long long)cluster << w->cluster_bits, writer_path(w)) : 0;
}

int readback_cluster(struct qs_writer *w, uint64_t cluster, void *to, struct err *e)
{
        struct readback *r;
        int rc = take(w, &r, e);

        if (rc < 0)
                return rc;
        rc = read_cluster(w, r, cluster, to, e);
        give(w, r);
        return rc;
}

int qs_writer_read_back(struct qs_writer *w, uint64_t gpa, size_t bytes, void *buf, struct err *e)
{
        uint8_t *to = buf;
        struct readback *r;
        int rc = take(w, &r, e);

        ASSERT(IS_ALIGNED(gpa | bytes, LAYOUT_PAGE_BYTES));
        ASSERT(gpa <= w->options.disk_bytes && bytes <= w->options.disk_bytes - gpa);
        if (rc < 0)
                return rc;
        for (uint64_t end = gpa + bytes; rc == 0 && gpa < end;) {
                uint64_t skip = gpa & (w->cluster_bytes - 1);
                uint64_t part = MIN(w->cluster_bytes - skip, end - gpa);
                bool whole = part == w->cluster_bytes;

                rc = read_cluster(w, r, gpa >> w->cluster_bits, whole ? to : r->whole, e);
                if (rc == 0 && !whole)
                        memcpy(to, r->whole + skip, part);
                gpa += part;
                to += part;
        }
        give(w, r);
        return rc;
}
