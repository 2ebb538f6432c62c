/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/l2entry.h"

#include "common/check.h"
#include "qcowstore/layout.h"

#define OFFSET_MASK 0x00fffffffffffe00ull
#define L1_RESERVED 0x7f000000000001ffull
#define L2_RESERVED 0x3f000000000001feull

/* Bits of a packed entry's offset; the sector count has the rest up to 61. */
static unsigned offset_bits(unsigned cluster_bits)
{
        return 62 - (cluster_bits - 8);
}

static const char *decode_packed(uint64_t v, unsigned cluster_bits, uint64_t file_bytes,
                                 struct l2entry *ret)
{
        unsigned x = offset_bits(cluster_bits);
        uint64_t offset = v & ((1ull << x) - 1);
        uint64_t sectors = ((v & ~(L2ENTRY_PACKED | L2ENTRY_COPIED)) >> x) + 1;

        if (v & L2ENTRY_COPIED)
                return "a compressed cluster is marked COPIED";
        if (offset < layout_cluster_bytes(cluster_bits) || offset >= file_bytes)
                return "a compressed cluster lies outside the file";

        uint64_t end = ALIGN_DOWN(offset, LAYOUT_SECTOR_BYTES) + sectors * LAYOUT_SECTOR_BYTES;
        uint64_t last = ALIGN_UP(file_bytes, layout_cluster_bytes(cluster_bits));

        if (end > last)
                return "a compressed cluster ends outside the file";
        *ret = (struct l2entry){ L2_PACKED, false, offset, MIN(end, file_bytes) - offset };
        return NULL;
}

const char *l2entry_decode(uint64_t v, unsigned cluster_bits, uint64_t file_bytes,
                           struct l2entry *ret)
{
        uint64_t cluster = layout_cluster_bytes(cluster_bits);
        uint64_t offset = v & OFFSET_MASK;
        bool copied = v & L2ENTRY_COPIED;

        if (v & L2ENTRY_PACKED)
                return decode_packed(v, cluster_bits, file_bytes, ret);
        if (v & L2_RESERVED)
                return "an L2 entry has reserved bits set";
        if (offset == 0) {
                if (copied)
                        return "an L2 entry is marked COPIED without a cluster";
                *ret = (struct l2entry){ v & L2ENTRY_ZERO ? L2_ZERO : L2_NONE, false, 0, 0 };
                return NULL;
        }
        if (!IS_ALIGNED(offset, cluster))
                return "a data cluster is not aligned";
        if (offset > file_bytes || file_bytes - offset < cluster)
                return "a data cluster lies outside the file";
        *ret = (struct l2entry){ v & L2ENTRY_ZERO ? L2_ZERO : L2_RAW, copied, offset, cluster };
        return NULL;
}

const char *l2entry_decode_extended(uint64_t v, uint64_t bitmap, unsigned cluster_bits,
                                    uint64_t file_bytes, struct l2entry *ret)
{
        const char *wrong = l2entry_decode(v, cluster_bits, file_bytes, ret);

        if (wrong)
                return wrong;
        if (ret->kind == L2_PACKED)
                return bitmap ? "a compressed cluster has subclusters" : NULL;
        if (v & L2ENTRY_ZERO)
                return "an extended L2 entry has reserved bits set";
        if (bitmap >> L2SUB_COUNT & bitmap)
                return "a subcluster is both data and zeros";
        if (ret->kind == L2_NONE && (uint32_t)bitmap)
                return "a subcluster has data without a cluster";
        return NULL;
}

enum l2_kind l2entry_sub_kind(const struct l2entry *entry, uint64_t bitmap, unsigned i)
{
        ASSERT(i < L2SUB_COUNT);
        if (entry->kind == L2_PACKED)
                return L2_PACKED;
        if (bitmap >> (L2SUB_COUNT + i) & 1)
                return L2_ZERO;
        return bitmap >> i & 1 ? L2_RAW : L2_NONE;
}

uint64_t l2entry_packed(uint64_t offset, uint64_t bytes, unsigned cluster_bits)
{
        unsigned x = offset_bits(cluster_bits);
        uint64_t more = (offset + bytes - 1) / LAYOUT_SECTOR_BYTES -
                        offset / LAYOUT_SECTOR_BYTES;

        ASSERT(bytes > 0 && offset >> x == 0 && more >> (62 - x) == 0);
        return L2ENTRY_PACKED | more << x | offset;
}

const char *l1entry_decode(uint64_t v, unsigned cluster_bits, uint64_t file_bytes,
                           uint64_t *ret_offset)
{
        uint64_t cluster = layout_cluster_bytes(cluster_bits);
        uint64_t offset = v & OFFSET_MASK;

        if (v & L1_RESERVED)
                return "an L1 entry has reserved bits set";
        if (offset == 0 && v)
                return "an L1 entry is marked COPIED without a table";
        if (!IS_ALIGNED(offset, cluster))
                return "an L2 table is not aligned";
        if (offset && (offset > file_bytes || file_bytes - offset < cluster))
                return "an L2 table lies outside the file";
        *ret_offset = offset;
        return NULL;
}
