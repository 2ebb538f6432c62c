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
/* under which the content at an L2 entry of the old file is known */
struct dedup_key clone_key(uint64_t entry);

#endif
