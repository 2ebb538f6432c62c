/* SPDX-License-Identifier: Apache-2.0 */
/* Working sets: u64 size of the disk, then bytes that are taken for a WORKING-SET and for
 * WORKING-SETS. What passes lies on the disk and comes to an end; what is put into
 * whatever there was is found again, and all that is there then is whole. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"
#include "qcowstore/workset.h"
#include "tests/fuzz/fuzz.h"

/* sums of the snapshots that there are */
#define SUM 7

static void parse(const uint8_t *data, size_t n, uint64_t disk_bytes)
{
        struct qs_ram_range *set = NULL;
        uint64_t total = 0;
        size_t extents = 0;

        if (qs_working_set_parse(data, n, disk_bytes, &set, &extents, NULL) < 0)
                return;
        ASSERT(extents <= n / WORKSET_EXTENT_BYTES);
        for (size_t i = 0; i < extents; i++) {
                ASSERT(set[i].bytes > 0 && set[i].gpa < disk_bytes);
                ASSERT(set[i].bytes <= disk_bytes - set[i].gpa);
                total += set[i].bytes;
        }
        ASSERT(total <= 2 * disk_bytes);
        free(set);
}

static void put(const uint8_t *data, size_t n)
{
        const struct snapshot snapshots[] = { { .toc_sum = 1 }, { .toc_sum = SUM } };
        const uint8_t set[WORKSET_EXTENT_BYTES] = { 0, 16, 0, 0, 0, 0, 0, 0, 0, 16 };
        const uint8_t *found;
        uint8_t *all = NULL;
        size_t bytes, found_bytes;
        int rc = worksets_put(data, n, snapshots, ARRAY_SIZE(snapshots), SUM, set, sizeof(set),
                              &all, &bytes, NULL);

        ASSERT(rc == 0);
        ASSERT(bytes <= n + 2 * sizeof(set));
        rc = worksets_find(all, bytes, SUM, &found, &found_bytes, NULL);
        ASSERT(rc == 0 && found_bytes == sizeof(set));
        ASSERT(memcmp(found, set, sizeof(set)) == 0);
        rc = worksets_find(all, bytes, 3, &found, &found_bytes, NULL);
        ASSERT(rc == -ENOENT);
        free(all);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        const uint8_t *set;
        size_t bytes;

        if (n < 8)
                return 0;

        uint64_t disk_bytes = ALIGN_DOWN(get_le64(data) % QS_DISK_BYTES_MAX, LAYOUT_PAGE_BYTES);

        data += 8;
        n -= 8;
        parse(data, n, disk_bytes);
        if (worksets_find(data, n, SUM, &set, &bytes, NULL) == 0) {
                ASSERT(set >= data && bytes <= n && set + bytes <= data + n);
                parse(set, bytes, disk_bytes);
        }
        put(data, n);
        return 0;
}
