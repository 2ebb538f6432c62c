/* SPDX-License-Identifier: Apache-2.0 */
/* l2entry.h - entries of the L1 and L2 tables: numbers <-> meaning.
 *
 * Values are host-endian here. Pure: no I/O.
 * Errors: the decoders return NULL, or what is wrong in a few words.
 */
#ifndef QCOWSTORE_L2ENTRY_H
#define QCOWSTORE_L2ENTRY_H

#include <stdbool.h>
#include <stdint.h>

#define L2ENTRY_COPIED (1ull << 63)     /* the refcount is exactly 1; active layer only */
#define L2ENTRY_PACKED (1ull << 62)
#define L2ENTRY_ZERO (1ull << 0)        /* alone: zeros, whatever a parent has there */

enum l2_kind {
        L2_NONE,        /* unallocated                                      */
        L2_ZERO,        /* reads as zeros; may own a cluster (foreign only) */
        L2_RAW,         /* one host cluster                                 */
        L2_PACKED,      /* a compressed stream, not aligned                 */
};

struct l2entry {
        enum l2_kind kind;
        bool copied;
        uint64_t offset;        /* in the file; 0 = no cluster */
        uint64_t bytes;         /* there; of a stream up to the end of its last sector or file */
};

/* An entry that passes lies within file_bytes. */
const char *l2entry_decode(uint64_t v, unsigned cluster_bits, uint64_t file_bytes,
                           struct l2entry *ret);
/* bytes of the stream itself: what decode gives is rounded up to sectors */
uint64_t l2entry_packed(uint64_t offset, uint64_t bytes, unsigned cluster_bits);

/* ---- extended L2: the entry's second word, two bits a subcluster ---- */

#define L2SUB_COUNT 32u

/* l2entry_decode() of an extended entry, with its bitmap. The result speaks of
 * the whole cluster: a standard one with a host cluster is L2_RAW. */
const char *l2entry_decode_extended(uint64_t v, uint64_t bitmap, unsigned cluster_bits,
                                    uint64_t file_bytes, struct l2entry *ret);
/* What subcluster i of an entry that passed is. */
enum l2_kind l2entry_sub_kind(const struct l2entry *entry, uint64_t bitmap, unsigned i);

/* *ret_offset 0 = no L2 table */
const char *l1entry_decode(uint64_t v, unsigned cluster_bits, uint64_t file_bytes,
                           uint64_t *ret_offset);

#endif
