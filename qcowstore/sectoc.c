/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/sectoc.h"

#include <errno.h>
#include <string.h>

#include "common/bytes.h"
#include "qcowstore/layout.h"
#include "qcowstore/sum.h"
#include "qcowstore/sumtree.h"

#define TOC_VERSION 1
#define ENTRIES_AT 64u
#define ENTRY_BYTES 64u
#define ENTRY_USED 44u

static const char magic[8] = "SNAPBACK";

static_assert(ENTRIES_AT + QS_SECTIONS_MAX * ENTRY_BYTES <= SECTOC_BYTES, "all entries fit");

bool sectoc_magic(const uint8_t *bytes, size_t len)
{
        return len >= sizeof(magic) && memcmp(bytes, magic, sizeof(magic)) == 0;
}

bool sectoc_name_ok(const char *name)
{
        size_t n = strnlen(name, QS_SECTION_NAME_MAX + 1);

        for (size_t i = 0; i < n; i++) {
                if (name[i] <= ' ' || name[i] > '~')
                        return false;
        }
        return n > 0 && n <= QS_SECTION_NAME_MAX;
}

uint64_t sectoc_extent(const struct section *s, unsigned cluster_bits)
{
        if (s->flags & SECTION_TREE)
                return sumtree_extent(s->bytes / 8, cluster_bits);
        return ALIGN_UP(s->bytes, layout_cluster_bytes(cluster_bits));
}

const struct section *sectoc_find(const struct sectoc *toc, const char *name)
{
        for (unsigned i = 0; i < toc->count; i++) {
                if (strcmp(toc->section[i].name, name) == 0)
                        return &toc->section[i];
        }
        return NULL;
}

void sectoc_encode(const struct sectoc *toc, uint8_t buf[SECTOC_BYTES])
{
        ASSERT(toc->count <= QS_SECTIONS_MAX);
        memset(buf, 0, SECTOC_BYTES);
        memcpy(buf, magic, sizeof(magic));
        put_le32(buf + 8, TOC_VERSION);
        put_le32(buf + 12, toc->count);
        for (unsigned i = 0; i < toc->count; i++) {
                const struct section *s = &toc->section[i];
                uint8_t *p = buf + ENTRIES_AT + i * ENTRY_BYTES;

                memcpy(p, s->name, sizeof(s->name));
                put_le64(p + 16, s->offset);
                put_le64(p + 24, s->bytes);
                put_le64(p + 32, s->sum);
                put_le32(p + 40, s->flags);
        }
}

static int parse_entry(const uint8_t *p, struct section *ret, struct err *e)
{
        memcpy(ret->name, p, sizeof(ret->name));
        ret->offset = get_le64(p + 16);
        ret->bytes = get_le64(p + 24);
        ret->sum = get_le64(p + 32);
        ret->flags = get_le32(p + 40);
        if (!sectoc_name_ok(ret->name) ||
            !sum_all_zero(p + ENTRY_USED, ENTRY_BYTES - ENTRY_USED))
                return err_msg(e, EBADMSG, "the section table has a malformed entry");
        if (ret->flags & ~SECTION_TREE)
                return err_msg(e, ENOTSUP, "section '%s' has unknown flags 0x%x: use a newer "
                               "snapback", ret->name, ret->flags);
        return 0;
}

static bool size_ok(const struct section *s)
{
        if (s->flags & SECTION_TREE)
                return IS_ALIGNED(s->bytes, 8) && s->bytes <= SUMTREE_ENTRIES_MAX * 8;
        return s->bytes <= QS_SECTION_BYTES_MAX;
}

int sectoc_parse(const uint8_t buf[SECTOC_BYTES], unsigned cluster_bits, uint64_t state_bytes,
                 struct sectoc *ret, struct err *e)
{
        struct sectoc toc = { .count = get_le32(buf + 12) };
        uint64_t cluster = layout_cluster_bytes(cluster_bits);
        uint64_t end = cluster;

        if (!sectoc_magic(buf, SECTOC_BYTES) || toc.count > QS_SECTIONS_MAX)
                return err_msg(e, EBADMSG, "the section table is damaged");
        if (get_le32(buf + 8) != TOC_VERSION)
                return err_msg(e, ENOTSUP, "the section table has version %u and this program "
                               "reads %u: use a newer snapback", get_le32(buf + 8), TOC_VERSION);
        for (unsigned i = 0; i < toc.count; i++) {
                struct section *s = &toc.section[i];
                struct section found;
                int rc = parse_entry(buf + ENTRIES_AT + i * ENTRY_BYTES, &found, e);

                if (rc < 0)
                        return rc;
                if (!size_ok(&found) || sectoc_find(&toc, found.name) || found.offset < end ||
                    !IS_ALIGNED(found.offset, cluster) || found.offset > state_bytes ||
                    sectoc_extent(&found, cluster_bits) >
                            ALIGN_UP(state_bytes, cluster) - found.offset)
                        return err_msg(e, EBADMSG, "section '%s' has a wrong size or place",
                                       found.name);
                *s = found;
                end = found.offset + sectoc_extent(&found, cluster_bits);
        }
        *ret = toc;
        return 0;
}
