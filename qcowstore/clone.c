/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/clone.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "common/auto.h"
#include "qcowstore/l2entry.h"
#include "qcowstore/sum.h"

struct dedup_key clone_key(uint64_t entry)
{
        /* a bijection: the index looks at the upper bits */
        return (struct dedup_key){ { entry * 0x9e3779b97f4a7c15, entry } };
}

static int copy_raw(struct qs_image *m, struct chunk *c, unsigned i, const struct l2entry *at,
                    struct err *e)
{
        struct chunk_cluster *k = &c->cluster[i];
        uint8_t *to = c->buf + ((size_t)i << c->cluster_bits);
        int rc = image_pread(m, to, m->cluster_bytes, at->offset, "a cluster", e);

        if (rc == 0 && sum_bytes(to, m->cluster_bytes, c->seed) != k->sum)
                rc = err_msg(e, EBADMSG, "its data do not match their checksum");
        k->kind = CHUNK_RAW;
        return rc;
}

int clone_stream(struct qs_image *m, struct chunk *c, unsigned i, const struct l2entry *at,
                 struct clone_window *win, struct err *e)
{
        struct chunk_cluster *k = &c->cluster[i];
        uint64_t first = at->offset >> c->cluster_bits;
        uint64_t n = ((at->offset + at->bytes - 1) >> c->cluster_bits) - first + 1;

        ASSERT(n <= 2);
        if (win->of != m || first < win->at || first + n > win->at + win->n) {
                int rc = image_pread_verified(m, win->bytes, first << c->cluster_bits, n,
                                              "a compressed cluster", e);

                win->of = rc == 0 ? m : NULL;
                win->at = first;
                win->n = n;
                if (rc < 0)
                        return rc;
        }

        const uint8_t *stream = win->bytes + (at->offset - (win->at << c->cluster_bits));
        size_t bytes = ZSTD_findFrameCompressedSize(stream, at->bytes);

        if (ZSTD_isError(bytes) || bytes >= m->cluster_bytes)
                return err_msg(e, EBADMSG, "its data cannot be decompressed");
        k->kind = CHUNK_PACKED;
        k->at = (uint32_t)c->stream_bytes;
        k->bytes = (uint32_t)bytes;
        memcpy(c->streams + c->stream_bytes, stream, bytes);
        c->stream_bytes += bytes;
        return 0;
}

static int copy_one(struct qs_image *m, struct chunk *c, unsigned i, uint64_t v,
                    struct clone_window *win, struct err *e)
{
        struct chunk_cluster *k = &c->cluster[i];
        struct l2entry at;
        const char *wrong = l2entry_decode(v, c->cluster_bits, m->bound, &at);

        ASSERT(!wrong);                 /* the table was validated */
        *k = (struct chunk_cluster){ .kind = CHUNK_ZERO };
        if (at.kind != L2_RAW && at.kind != L2_PACKED)
                return 0;
        k->key = clone_key(v);

        int rc = sumtree_get(m->checksums, c->first + i, &k->sum, e);

        if (rc < 0)
                return rc;
        if (chunk_seen(c, i)) {
                k->kind = CHUNK_SHARED;
                return 0;
        }
        return at.kind == L2_RAW ? copy_raw(m, c, i, &at, e) : clone_stream(m, c, i, &at, win, e);
}

int clone_fill(struct qs_image *m, struct chunk *c, uint64_t first, unsigned n, struct err *e)
{
        AUTO_FREE uint8_t *bytes = malloc(2 * m->cluster_bytes);
        struct clone_window win = { .bytes = bytes };
        uint64_t per_table = layout_l2_entries(c->cluster_bits);
        const uint64_t *table;
        uint64_t offset;

        if (!bytes)
                return err_set(e, ENOMEM, "copy clusters");

        int rc = image_l2_table(m, first / per_table, &table, &offset, e);

        chunk_begin(c, first, n, c->buf);
        for (unsigned i = 0; rc == 0 && i < n; i++) {
                rc = copy_one(m, c, i, table ? table[first % per_table + i] : 0, &win, e);
                if (rc < 0)
                        rc = err_in(e, rc, "guest memory at 0x%llx",
                                    (unsigned long long)((first + i) << c->cluster_bits));
                chunk_count(c, i);
        }
        return rc < 0 ? err_in(e, rc, "image '%s'", m->path) : 0;
}
