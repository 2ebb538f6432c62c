/* SPDX-License-Identifier: Apache-2.0 */
/* L1 and L2 entries: u8 cluster size, u64 file size, then u64 entries. What
 * passes lies in the file and fits the reader's buffer. */
#include "common/bytes.h"
#include "common/check.h"
#include "qcowstore/l2entry.h"
#include "qcowstore/layout.h"
#include "tests/fuzz/fuzz.h"

static void look(uint64_t v, uint64_t bitmap, unsigned bits, uint64_t file)
{
        struct l2entry entry;
        uint64_t table;

        if (!l2entry_decode(v, bits, file, &entry) && entry.offset) {
                ASSERT(entry.bytes > 0 && entry.bytes <= 2ull << bits);
                ASSERT(entry.offset < file && entry.bytes <= file - entry.offset);
        }
        if (!l2entry_decode_extended(v, bitmap, bits, file, &entry)) {
                for (unsigned i = 0; i < L2SUB_COUNT; i++)
                        ASSERT(l2entry_sub_kind(&entry, bitmap, i) != L2_RAW || entry.offset);
        }
        if (!l1entry_decode(v, bits, file, &table) && table)
                ASSERT(table < file && (1ull << bits) <= file - table);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        if (n < 9)
                return 0;

        unsigned bits = 9 + data[0] % 13;
        uint64_t file = get_be64(data + 1) >> 4;

        for (size_t at = 9; at + 8 <= n; at += 8)
                look(get_be64(data + at), at + 16 <= n ? get_be64(data + at + 8) : 0, bits, file);
        return 0;
}
