/* SPDX-License-Identifier: Apache-2.0 */
/* pure: no I/O */
#include "qcowstore/workset.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/bytes.h"

/* before each set of WORKING-SETS */
#define HEAD_BYTES 16u

static int damaged(struct err *e)
{
        return err_msg(e, EBADMSG, "the working set is damaged: take it out with 'vmm image "
                       "workingset --clear'");
}

/* What lies behind the end of the disk is left out: the set may be of a larger machine. */
static bool clip(struct qs_ram_range *r, uint64_t disk_bytes)
{
        if (r->gpa >= disk_bytes)
                return false;
        r->bytes = MIN(r->bytes, disk_bytes - r->gpa);
        return true;
}

int qs_working_set_parse(const void *data, size_t bytes, uint64_t disk_bytes,
                         struct qs_ram_range **ret, size_t *ret_n, struct err *e)
{
        const uint8_t *at = data;
        size_t n = bytes / WORKSET_EXTENT_BYTES;
        uint64_t total = 0;
        size_t kept = 0;

        if (bytes % WORKSET_EXTENT_BYTES || n > QS_WORKING_SET_MAX)
                return damaged(e);

        AUTO_FREE struct qs_ram_range *set = calloc(n + 1, sizeof(*set));

        if (!set)
                return err_set(e, ENOMEM, "read the working set");
        for (size_t i = 0; i < n; i++, at += WORKSET_EXTENT_BYTES) {
                struct qs_ram_range r = { get_le64(at), get_le64(at + 8) };

                if (r.bytes == 0 || !IS_ALIGNED(r.gpa | r.bytes, LAYOUT_PAGE_BYTES) ||
                    r.bytes > QS_DISK_BYTES_MAX || r.gpa > QS_DISK_BYTES_MAX)
                        return damaged(e);
                if (!clip(&r, disk_bytes))
                        continue;
                total += r.bytes;
                set[kept++] = r;
        }
        /* some may overlap, but who replays them must come to an end */
        if (total > 2 * disk_bytes)
                return damaged(e);
        *ret = ptr_take(&set);
        *ret_n = kept;
        return 0;
}

uint8_t *workset_encode(const struct qs_ram_range *set, size_t n)
{
        uint8_t *bytes = malloc(n * WORKSET_EXTENT_BYTES + 1);

        for (size_t i = 0; bytes && i < n; i++) {
                put_le64(bytes + i * WORKSET_EXTENT_BYTES, set[i].gpa);
                put_le64(bytes + i * WORKSET_EXTENT_BYTES + 8, set[i].bytes);
        }
        return bytes;
}

/* One of WORKING-SETS; moves on. */
struct entry {
        uint64_t toc_sum;
        const uint8_t *set;
        size_t bytes;
};

/* false: there is no more, or, with *left > 0, it is damaged */
static bool next_entry(const uint8_t **at, size_t *left, struct entry *ret)
{
        if (*left < HEAD_BYTES)
                return false;

        uint64_t bytes = get_le64(*at + 8);

        if (bytes > *left - HEAD_BYTES || bytes % WORKSET_EXTENT_BYTES)
                return false;
        *ret = (struct entry){ get_le64(*at), *at + HEAD_BYTES, bytes };
        *at += HEAD_BYTES + bytes;
        *left -= HEAD_BYTES + bytes;
        return true;
}

int worksets_find(const uint8_t *all, size_t bytes, uint64_t toc_sum, const uint8_t **ret,
                  size_t *ret_bytes, struct err *e)
{
        struct entry x;

        while (next_entry(&all, &bytes, &x)) {
                if (x.toc_sum != toc_sum)
                        continue;
                *ret = x.set;
                *ret_bytes = x.bytes;
                return 0;
        }
        return bytes ? damaged(e) : err_msg(e, ENOENT, "there is no working set");
}

static bool is_there(const struct snapshot *snapshots, size_t n, uint64_t toc_sum)
{
        size_t i = 0;

        while (i < n && snapshots[i].toc_sum != toc_sum)
                i++;
        return i < n;
}

static uint8_t *put_entry(uint8_t *to, uint64_t toc_sum, const uint8_t *set, size_t bytes)
{
        put_le64(to, toc_sum);
        put_le64(to + 8, bytes);
        if (bytes)
                memcpy(to + HEAD_BYTES, set, bytes);
        return to + HEAD_BYTES + bytes;
}

/* A damaged rest is left out: it can be recorded again. */
int worksets_put(const uint8_t *all, size_t bytes, const struct snapshot *snapshots, size_t n,
                 uint64_t toc_sum, const uint8_t *set, size_t set_bytes, uint8_t **ret,
                 size_t *ret_bytes, struct err *e)
{
        uint8_t *data = malloc(bytes + HEAD_BYTES + set_bytes);
        struct entry x;

        if (!data)
                return err_set(e, ENOMEM, "write the working set");

        uint8_t *to = data;

        while (next_entry(&all, &bytes, &x)) {
                if (x.toc_sum != toc_sum && is_there(snapshots, n, x.toc_sum))
                        to = put_entry(to, x.toc_sum, x.set, x.bytes);
        }
        to = put_entry(to, toc_sum, set, set_bytes);
        *ret = data;
        *ret_bytes = (size_t)(to - data);
        return 0;
}
