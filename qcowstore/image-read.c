/* SPDX-License-Identifier: Apache-2.0 */
/* tables and VM state of an open image */
#include "qcowstore/image-priv.h"

#include <errno.h>
#include <string.h>

#include "common/bytes.h"
#include "common/io.h"
#include "qcowstore/l2entry.h"

/* L2 entries read at once on the way to VM state */
#define STATE_BATCH 512u

int image_pread(const struct qs_image *m, void *buf, size_t bytes, uint64_t offset,
                const char *what, struct err *e)
{
        int rc = io_pread_full(m->fd, buf, bytes, offset);

        if (rc == -ENODATA)
                return err_msg(e, EBADMSG, "the file is truncated: it ends within %s", what);
        if (rc < 0)
                return err_set(e, -rc, "read %s at offset %llu", what,
                               (unsigned long long)offset);
        return 0;
}

int image_pread_data(const struct qs_image *m, void *buf, size_t bytes, uint64_t offset,
                     struct err *e)
{
        size_t there = bytes;

        if (!m->hdr.format_version)
                there = MIN(bytes, m->info.file_bytes - MIN(offset, m->info.file_bytes));
        memset((uint8_t *)buf + there, 0, bytes - there);
        return there ? image_pread(m, buf, there, offset, "its data", e) : 0;
}

/* File offsets of n clusters of the VM-state area that share an L2 table. */
static int locate_batch(const struct qs_image *m, uint64_t cluster, unsigned n, uint64_t *offsets,
                        struct err *e)
{
        uint64_t per_table = layout_l2_entries(m->hdr.cluster_bits);
        uint64_t l1 = cluster / per_table;
        uint64_t at = cluster % per_table;

        if (l1 >= m->state_l1_entries || m->state_l1[l1] == 0)
                return err_msg(e, EBADMSG, "the VM state has a hole");

        int rc = 0;

        if (l1 == 0 && at + n <= m->state_l2_kept)
                memcpy(offsets, m->state_l2 + at, n * 8ull);
        else
                rc = image_pread(m, offsets, n * 8ull, m->state_l1[l1] + at * 8, "an L2 table", e);

        for (unsigned i = 0; rc == 0 && i < n; i++) {
                struct l2entry entry;
                const char *wrong = l2entry_decode(be64toh(offsets[i]), m->hdr.cluster_bits,
                                                   m->bound, &entry);

                if (!wrong && entry.kind != L2_RAW)
                        wrong = "the VM state has a hole or is compressed";
                if (wrong)
                        return err_msg(e, EBADMSG, "%s", wrong);
                offsets[i] = entry.offset;
        }
        return rc;
}

int image_state_locate(const struct qs_image *m, uint64_t cluster, uint64_t *ret_offset,
                       struct err *e)
{
        return locate_batch(m, cluster, 1, ret_offset, e);
}

/* length of the run of neighbours in the file that offsets[0] starts */
static unsigned run_length(const uint64_t *offsets, unsigned n, uint64_t cluster_bytes)
{
        unsigned i = 1;

        while (i < n && offsets[i] == offsets[i - 1] + cluster_bytes)
                i++;
        return i;
}

int image_state_read(void *ctx, uint64_t offset, void *buf, size_t bytes, struct err *e)
{
        const struct qs_image *m = ctx;
        uint64_t per_table = layout_l2_entries(m->hdr.cluster_bits);
        uint8_t *to = buf;

        ASSERT(IS_ALIGNED(offset, m->cluster_bytes));
        while (bytes > 0) {
                uint64_t offsets[STATE_BATCH];
                uint64_t cluster = offset >> m->hdr.cluster_bits;
                uint64_t want = layout_clusters(bytes, m->hdr.cluster_bits);
                uint64_t table_left = per_table - cluster % per_table;
                unsigned n = (unsigned)MIN(MIN(want, table_left), STATE_BATCH);
                int rc = locate_batch(m, cluster, n, offsets, e);

                if (rc < 0)
                        return rc;
                for (unsigned i = 0; i < n;) {
                        unsigned run = run_length(offsets + i, n - i, m->cluster_bytes);
                        size_t part = MIN(bytes, run * m->cluster_bytes);

                        rc = image_pread(m, to, part, offsets[i], "the VM state", e);
                        if (rc < 0)
                                return rc;
                        to += part;
                        bytes -= part;
                        i += run;
                }
                offset += n * m->cluster_bytes;
        }
        return 0;
}
