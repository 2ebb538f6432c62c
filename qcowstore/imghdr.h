/* SPDX-License-Identifier: Apache-2.0 */
/* imghdr.h - the QCOW2 header with our extension: bytes <-> struct.
 *
 * Versions 2 and 3 are read, 3 is written. Our extension is looked for in
 * version 3 only.
 *
 * Our extension, type 0x534e4150 ("SNAP"), 104 bytes, wholly in sector 0:
 *
 *     0  u32      format_version        8  u8[16]   uuid
 *     4  u32      flags                24  u8[16]   parent_uuid (zero: none)
 *    40  u64      hash_seed            56  u32      default_snapshot, an index
 *    48  u64      snaptable_sum        60  u32      reserved (0)
 *    64  u64      sector_sum: sector 0 with this field zero
 *    72  u64      meta_sum: the tables that belong to the file, not to a tag
 *    80  u64      pool_sum: the pool's section table; 0 = there is none
 *    88  u64      parent_state: the parent's snaptable_sum when the delta was
 *                 made, so that a parent that was changed since is noticed
 *    96  u64      bytes of the file, so that a truncated one is noticed
 *
 * format_version, hash_seed and sector_sum keep place and meaning in every
 * later version, so that an old program tells "newer" from "damaged".
 *
 * When the sector does not have its sum, another program changed the file, as
 * 'qemu-img snapshot -d' does, or it is damaged; which of them cannot be told
 * (`changed`). What the extension says of the file as a whole holds no longer,
 * but each snapshot has sums of its own. An autoclear bit would tell, and was
 * tried: 'qemu-img check -r' of a file with one that QEMU does not know deletes
 * all snapshots, because it writes the header anew before it has read them.
 *
 * Pure: no I/O. Errors: -EBADMSG damaged, -ENOTSUP a feature we do not have.
 */
#ifndef QCOWSTORE_IMGHDR_H
#define QCOWSTORE_IMGHDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "qcowstore/layout.h"

/* as much of the file as the parser wants to see, if there is as much */
#define IMGHDR_PARSE_BYTES 4096
/* what QEMU takes */
#define IMGHDR_BACKING_MAX 1023u
/* of what we write: a file in a folder */
#define IMGHDR_NAME_MAX 255u

struct imghdr {
        unsigned version;               /* of QCOW2; 0 is written as 3 */
        unsigned cluster_bits;
        unsigned l2_bits;               /* an L2 table has 1 << l2_bits entries */
        unsigned refcount_order;
        bool zstd;                      /* compressed clusters are zstd, else zlib */
        bool extended_l2;               /* entries of 16 bytes, with subclusters */
        bool aes;                       /* encrypted: not for the native reader */
        uint64_t disk_bytes;
        uint64_t l1_offset;             /* of the active layer */
        uint32_t l1_entries;
        uint64_t reftable_offset;
        uint32_t reftable_clusters;
        uint64_t snaptable_offset;
        uint32_t snapshots;
        uint64_t backing_offset;        /* of the parent's name; 0 = no parent */
        uint32_t backing_bytes;         /* 1..IMGHDR_BACKING_MAX, within cluster 0 */
        bool backing_qcow2;             /* the file says that the parent is QCOW2 */
        /* our extension; all zero in a foreign file */
        unsigned format_version;
        uint8_t uuid[16];
        uint8_t parent_uuid[16];
        uint64_t hash_seed;
        uint64_t snaptable_sum;
        uint64_t meta_sum;
        uint64_t pool_sum;
        uint64_t parent_state;
        uint64_t file_bytes;
        uint32_t default_snapshot;
        bool is_parent;                 /* a delta was made of it: no tags are added */
        bool changed;                   /* by another program; see above */
};

/* The result's numbers are in range and its offsets cluster-aligned; whether
 * they lie in the file is for the caller to see. */
int imghdr_parse(const uint8_t *bytes, size_t len, struct imghdr *ret, struct err *e);
/* L1 entries that cover so many bytes of the disk, rounded up */
uint64_t imghdr_l1_entries(const struct imghdr *h, uint64_t bytes);
/* writes no parent's name */
void imghdr_encode(const struct imghdr *h, uint8_t sector[LAYOUT_SECTOR_BYTES]);
/* gives an encoded sector a parent: its name, of 1 to IMGHDR_NAME_MAX bytes, and
 * that it is QCOW2 */
void imghdr_name_parent(uint8_t sector[LAYOUT_SECTOR_BYTES], const char *name);
/* is_parent := true in a sector that parses and is not `changed`, in place */
void imghdr_mark_parent(uint8_t sector[LAYOUT_SECTOR_BYTES]);
/* puts the right sector_sum into a sector that holds our extension at its
 * usual place (also for tests and fuzzers that change a header) */
void imghdr_seal(uint8_t sector[LAYOUT_SECTOR_BYTES]);

#endif
