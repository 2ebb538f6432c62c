/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/snaptable.h"

#include <errno.h>
#include <string.h>

#include "common/bytes.h"
#include "common/clock.h"
#include "qcowstore/layout.h"

#define FIXED_BYTES 40u
#define EXTRA_COMPLETE 16u
#define EXTRA_OURS 40u
#define EXTRA_MAX 1024u
#define ICOUNT_NONE UINT64_MAX

size_t snaptable_encode(const struct snapshot *s, uint8_t *buf)
{
        size_t id_len = strlen(s->id);
        size_t tag_len = strlen(s->tag);
        size_t bytes = ALIGN_UP(FIXED_BYTES + EXTRA_OURS + id_len + tag_len, 8);
        uint8_t *p = buf;

        memset(p, 0, bytes);
        put_be64(p, s->l1_offset);
        put_be32(p + 8, s->l1_entries);
        put_be16(p + 12, (uint16_t)id_len);
        put_be16(p + 14, (uint16_t)tag_len);
        put_be32(p + 16, (uint32_t)(s->date_ns / NS_PER_SEC));
        put_be32(p + 20, (uint32_t)(s->date_ns % NS_PER_SEC));
        put_be64(p + 24, s->vm_clock_ns);
        put_be32(p + 32, s->state_bytes > UINT32_MAX ? 0 : (uint32_t)s->state_bytes);
        put_be32(p + 36, EXTRA_OURS);
        p += FIXED_BYTES;
        put_be64(p, s->state_bytes);
        put_be64(p + 8, s->disk_bytes);
        put_be64(p + 16, ICOUNT_NONE);
        put_le64(p + 24, s->toc_sum);
        p += EXTRA_OURS;
        memcpy(p, s->id, id_len);
        memcpy(p + id_len, s->tag, tag_len);
        return bytes;
}

static void copy_name(char *to, size_t room, const uint8_t *from, size_t len)
{
        size_t n = MIN(len, room - 1);

        memcpy(to, from, n);
        memset(to + n, 0, room - n);
}

int snaptable_parse(const uint8_t *bytes, size_t len, unsigned cluster_bits,
                    struct snapshot *ret, size_t *ret_bytes, struct err *e)
{
        const uint8_t *p = bytes;

        if (len < FIXED_BYTES)
                return err_msg(e, EBADMSG, "the snapshot table is cut short");

        size_t id_len = get_be16(p + 12);
        size_t tag_len = get_be16(p + 14);
        size_t extra = get_be32(p + 36);

        if (extra > EXTRA_MAX)
                return err_msg(e, EBADMSG, "a snapshot has extra data of a wrong size");

        size_t total = FIXED_BYTES + extra + id_len + tag_len;

        if (total > len)
                return err_msg(e, EBADMSG, "the snapshot table is cut short");

        struct snapshot s = {
                .l1_offset = get_be64(p),
                .l1_entries = get_be32(p + 8),
                .date_ns = get_be32(p + 16) * NS_PER_SEC + get_be32(p + 20),
                .vm_clock_ns = get_be64(p + 24),
                .state_bytes = get_be32(p + 32),
                .complete = extra >= EXTRA_COMPLETE,
                .ours = extra == EXTRA_OURS,
        };

        if (s.complete) {
                s.state_bytes = get_be64(p + FIXED_BYTES);
                s.disk_bytes = get_be64(p + FIXED_BYTES + 8);
        }
        if (s.ours)
                s.toc_sum = get_le64(p + FIXED_BYTES + 24);
        p += FIXED_BYTES + extra;
        copy_name(s.id, sizeof(s.id), p, id_len);
        copy_name(s.tag, sizeof(s.tag), p + id_len, tag_len);
        if (s.l1_entries > LAYOUT_L1_ENTRIES_MAX ||
            !IS_ALIGNED(s.l1_offset, layout_cluster_bytes(cluster_bits)))
                return err_msg(e, EBADMSG, "a snapshot's L1 table has a wrong size or place");
        *ret = s;
        *ret_bytes = MIN(ALIGN_UP(total, 8), len);
        return 0;
}
