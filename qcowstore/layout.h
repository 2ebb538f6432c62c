/* SPDX-License-Identifier: Apache-2.0 */
/* layout.h - what a file of ours looks like.
 *
 * QCOW2 version 3 (specs: QEMU docs/interop/qcow2.rst), all its integers
 * big-endian; our own parts are little-endian:
 *
 *   cluster 0      header, our header extension (imghdr.h) in its first 512
 *                  bytes, zeros
 *   of each tag    guest RAM: raw clusters in runs, compressed streams packed
 *                  into host clusters of their own, chunk by chunk in
 *                  the order of taking (placer.h); sections, CHECKSUMS, L2
 *                  tables, L1, HOSTSUMS, section table (plan.h)
 *   of the file    pool area, L1 of the active layer, snapshot table, refcount
 *                  table and blocks (commit.h)
 *
 * A tag is an internal snapshot. The active layer has the same L2 tables as the
 * disk part of the latest tag. QCOW2 counts every way from an L1 table to a
 * cluster: so RAM of a single tag has 2 per guest cluster that refers to it (a
 * host cluster of packed streams 2 per reference to each stream that touches
 * it): equal clusters are stored once (dedup.h). All-zero clusters are
 * unallocated. How tags are added and deleted: pool.h.
 *
 * A delta has a parent and one tag: behind our extension, in sector 0 too, that
 * it is QCOW2 and its name (imghdr.h). What its parent has in the same way is
 * unallocated, zeros where it has not are a ZERO entry without a cluster, written
 * nowhere else (delta.h).
 *
 * The snapshot's VM-state area lies in the guest address space behind the
 * disk, from the next L1 entry on; its clusters are raw:
 *
 *   0              section table (sectoc.h)
 *   cluster-aligned  sections, in the order of the table; CHECKSUMS and
 *                  HOSTSUMS are sum trees (sumtree.h)
 *
 * Who vouches for whom, so that every bit of a file has one guardian:
 *
 *   sector 0 (its own sum) -> snapshot table -> section table of each tag ->
 *   its sections; and meta_sum (metasum.h), pool_sum -> sections of the pool area
 *   CHECKSUMS  the plain content of every guest cluster, 0 = no data in this file
 *   HOSTSUMS   the stored bytes of every host cluster that the tag refers to, 0 =
 *              guarded otherwise: section table, HOSTSUMS itself. What it says
 *              of other clusters means nothing
 *   the rest of clusters that are guarded otherwise is zero (qs_check looks).
 *
 * A sum is XXH3-64 keyed with the file's random seed; see sum.h.
 */
#ifndef QCOWSTORE_LAYOUT_H
#define QCOWSTORE_LAYOUT_H

#include <stdint.h>

#include "common/check.h"

#define LAYOUT_FORMAT_VERSION 2
#define LAYOUT_REFCOUNT_ORDER 5
#define LAYOUT_SECTOR_BYTES 512
#define LAYOUT_PAGE_BYTES 4096

/* What QEMU refuses to open beyond. */
#define LAYOUT_L1_ENTRIES_MAX ((32u << 20) / 8)
#define LAYOUT_REFTABLE_BYTES_MAX (8u << 20)
#define LAYOUT_SNAPSHOTS_MAX 65536u
/* an entry with names of sane length; bounds what is read of a foreign table */
#define LAYOUT_SNAPSHOT_BYTES_MAX 2048u

#define LAYOUT_CHECKSUMS "CHECKSUMS"
#define LAYOUT_HOSTSUMS "HOSTSUMS"

static inline uint64_t layout_cluster_bytes(unsigned cluster_bits)
{
        return 1ull << cluster_bits;
}

/* of an L2 table; the same number of sums fill a block of a sum tree, so that
 * L2 table n and CHECKSUMS block n speak of the same guest clusters */
static inline uint64_t layout_l2_entries(unsigned cluster_bits)
{
        return 1ull << (cluster_bits - 3);
}

/* rounded up; bytes <= 2^63 */
static inline uint64_t layout_clusters(uint64_t bytes, unsigned cluster_bits)
{
        return (bytes + layout_cluster_bytes(cluster_bits) - 1) >> cluster_bits;
}

/* L1 entries that cover so many bytes, rounded up */
static inline uint64_t layout_l1_entries(uint64_t bytes, unsigned cluster_bits)
{
        return DIV_ROUND_UP(layout_clusters(bytes, cluster_bits),
                            layout_l2_entries(cluster_bits));
}

/* refcounts in a block of 2^order bits each */
static inline uint64_t layout_refblock_entries(unsigned cluster_bits, unsigned order)
{
        return 1ull << (cluster_bits + 3 - order);
}

#endif
