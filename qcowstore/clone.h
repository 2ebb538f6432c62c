/* SPDX-License-Identifier: Apache-2.0 */
/* clone.h - chunks out of another file of ours, as they are stored there: raw
 * clusters and streams are copied, not decompressed and compressed again.
 *
 * Of what is stored once there, once is copied: the dedup key of a cluster is its
 * place in the old file, not its content. So one struct dedup serves all tags of
 * the old file, and nothing else.
 *
 * What is copied was compared with a sum: streams with HOSTSUMS, raw clusters with
 * CHECKSUMS; the new file has the same seed and so the same CHECKSUMS.
 *
 * Of streams heritage.h makes use too, among content that comes from elsewhere.
 *
 * Threads: any, on chunks of their own.
 */
#ifndef QCOWSTORE_CLONE_H
#define QCOWSTORE_CLONE_H

#include "common/err.h"
#include "qcowstore/chunk.h"
#include "qcowstore/image-priv.h"

/* n clusters from guest cluster `first` on; takes the place of chunk_fill() */
int clone_fill(struct qs_image *from, struct chunk *c, uint64_t first, unsigned n,
               struct err *e);
/* Host clusters of streams, read and verified; neighbours share them. */
struct clone_window {
        uint8_t *bytes;                 /* two clusters, the caller's: no stream needs more */
        const struct qs_image *of;      /* NULL = empty */
        uint64_t at;                    /* host cluster */
        uint64_t n;
};

/* The stream at a place of the old file into the chunk: cluster i is PACKED then. */
int clone_stream(struct qs_image *m, struct chunk *c, unsigned i, const struct l2entry *at,
                 struct clone_window *win, struct err *e);
/* under which the content at an L2 entry of the old file is known */
struct dedup_key clone_key(uint64_t entry);

#endif
