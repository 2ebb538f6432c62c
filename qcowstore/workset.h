/* SPDX-License-Identifier: Apache-2.0 */
/* workset.h - what a guest wants first: bytes <-> extents, and where a file has it.
 *
 * Theory of operation
 *
 * A snapshot's working set is recorded when a guest runs from it: later, while
 * others read the snapshot, and perhaps after deltas were made of its file. Nothing
 * that belongs to the snapshot may change then. So it is kept with what belongs
 * to the file and is made anew by each change: section WORKING-SETS of the pool
 * area, the last one, which has those of all snapshots. Identity of caches, a
 * delta's knowledge of its parent and all readers stay as they are.
 *
 * When a snapshot is written as a whole (optimize, compact, rewrite), its working set
 * goes into its own section WORKING-SET. That of WORKING-SETS counts first.
 *
 *      WORKING-SET     extents: u64 address, u64 length, in the order in which
 *                      they were wanted
 *      WORKING-SETS    of each snapshot: u64 sum of its section table, u64 bytes,
 *                      then so many bytes as in WORKING-SET; none: there is none,
 *                      whatever the snapshot has itself
 *
 * Little-endian. Whose snapshot is no more, is left out when the section is
 * written the next time.
 *
 * Threads: workset_load() any, with an image of others too.
 */
#ifndef QCOWSTORE_WORKSET_H
#define QCOWSTORE_WORKSET_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "qcowstore/image-priv.h"

#define WORKSET_SECTIONS "WORKING-SETS"
#define WORKSET_EXTENT_BYTES 16u

/* Bytes of n extents; the caller frees. NULL = no memory. */
uint8_t *workset_encode(const struct qs_ram_range *set, size_t n);

/* One snapshot's in WORKING-SETS, told by the sum of its section table. -ENOENT:
 * nothing is said of it. -EBADMSG: these are no WORKING-SETS. */
int worksets_find(const uint8_t *all, size_t bytes, uint64_t toc_sum, const uint8_t **ret,
                  size_t *ret_bytes, struct err *e);
/* A copy of WORKING-SETS with this one in it instead of what was there, and without
 * those of whom n snapshots are not; the caller frees. */
int worksets_put(const uint8_t *all, size_t bytes, const struct snapshot *snapshots, size_t n,
                 uint64_t toc_sum, const uint8_t *set, size_t set_bytes, uint8_t **ret,
                 size_t *ret_bytes, struct err *e);

/* A snapshot's, as bytes, as the file has it now; the caller frees. -ENOENT: none. */
int workset_load(struct qs_image *m, void **ret, size_t *ret_bytes, struct err *e);

#endif
