/* SPDX-License-Identifier: Apache-2.0 */
#include "common/wire/fcregions.h"

#include <errno.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"

#define PAGE_BYTES 4096u
#define HUGE_PAGE_BYTES (2u << 20)
#define GIB (1ull << 30)

/* the section: version, count, page size, zero; then the extents */
#define SECTION_VERSION 1u
#define HEAD_BYTES 16u
#define EXTENT_BYTES 24u

static_assert(FC_REGIONS_BYTES_MAX == HEAD_BYTES + EXTENT_BYTES * FC_REGIONS_MAX,
              "the longest section");

/* ---- the table ----------------------------------------------------------- */

static int check_extent(const struct fc_extent *x, uint64_t end_before, struct err *e)
{
        if (x->bytes == 0)
                return err_msg(e, EBADMSG, "it is empty");
        if (!IS_ALIGNED(x->gpa, PAGE_BYTES) || !IS_ALIGNED(x->bytes, PAGE_BYTES))
                return err_msg(e, EBADMSG, "it is not of whole pages");
        if (x->gpa < end_before)
                return err_msg(e, EBADMSG, "it begins below the end of the one before it");
        if (x->gpa > FC_GPA_END || x->bytes > FC_GPA_END - x->gpa)
                return err_msg(e, EBADMSG, "it ends above 64 TiB");
        return 0;
}

int fc_regions_finish(struct fc_regions *r, struct err *e)
{
        uint64_t sum = 0, end = 0;

        if (r->n == 0 || r->n > FC_REGIONS_MAX)
                return err_msg(e, EBADMSG, "%u memory regions, not 1 to %u", r->n,
                               FC_REGIONS_MAX);
        if (r->page_bytes != 0 && r->page_bytes != PAGE_BYTES && r->page_bytes != HUGE_PAGE_BYTES)
                return err_msg(e, EBADMSG, "pages of %u bytes, not 4096 or 2097152",
                               r->page_bytes);
        for (uint32_t i = 0; i < r->n; i++) {
                struct fc_extent *x = &r->at[i];
                int rc = check_extent(x, end, e);

                if (rc < 0)
                        return err_in(e, rc, "memory region %u at %#llx", i,
                                      (unsigned long long)x->gpa);
                x->file_offset = sum;
                sum += x->bytes;
                end = x->gpa + x->bytes;
        }
        return 0;
}

uint64_t fc_regions_bytes(const struct fc_regions *r)
{
        const struct fc_extent *last = &r->at[r->n - 1];

        return last->file_offset + last->bytes;
}

int fc_regions_match(const struct fc_regions *r, const struct fc_region *hello, size_t n,
                     struct err *e)
{
        if (n != r->n)
                return err_msg(e, EINVAL, "the guest has %zu memory regions, the snapshot %u", n,
                               r->n);
        for (size_t i = 0; i < n; i++) {
                if (hello[i].bytes != r->at[i].bytes)
                        return err_msg(e, EINVAL, "memory region %zu of the guest has %llu "
                                       "bytes, that of the snapshot %llu", i,
                                       (unsigned long long)hello[i].bytes,
                                       (unsigned long long)r->at[i].bytes);
                if (hello[i].file_offset != r->at[i].file_offset)
                        return err_msg(e, EINVAL, "memory region %zu of the guest is at offset "
                                       "%llu of the memory file, that of the snapshot at %llu", i,
                                       (unsigned long long)hello[i].file_offset,
                                       (unsigned long long)r->at[i].file_offset);
        }
        return 0;
}

/* ---- the rule ------------------------------------------------------------ */

struct room {
        uint64_t gpa;
        uint64_t end;
};

#define ROOMS_MAX 3

/* filled in this order; a room without an end leaves the rest empty */
static const struct room rooms[][2][ROOMS_MAX] = {
        [FC_ARCH_X86_64] = {
                [FC_LAYOUT_V1_0] = { { 0, 0xd0000000 }, { 4 * GIB, FC_GPA_END } },
                [FC_LAYOUT_V1_13] = { { 0, 0xc0000000 }, { 4 * GIB, 256 * GIB },
                                      { 512 * GIB, FC_GPA_END } },
        },
        [FC_ARCH_AARCH64] = {
                [FC_LAYOUT_V1_0] = { { 2 * GIB, FC_GPA_END } },
                [FC_LAYOUT_V1_13] = { { 2 * GIB, 256 * GIB }, { 512 * GIB, FC_GPA_END } },
        },
};

int fc_regions_layout(enum fc_arch arch, enum fc_layout layout, uint64_t bytes,
                      struct fc_regions *ret, struct err *e)
{
        const struct room *room = rooms[arch][layout];
        struct fc_regions r = { 0 };
        uint64_t left = bytes;

        if (bytes == 0)
                return err_msg(e, EBADMSG, "it is empty");
        for (int i = 0; i < ROOMS_MAX && left > 0; i++) {
                uint64_t n = MIN(left, room[i].end - room[i].gpa);

                if (n > 0)
                        r.at[r.n++] = (struct fc_extent){ .gpa = room[i].gpa, .bytes = n };
                left -= n;
        }
        if (left > 0)
                return err_msg(e, EFBIG, "it is more memory than ends below 64 TiB");

        int rc = fc_regions_finish(&r, e);

        if (rc == 0)
                *ret = r;
        return rc;
}

bool fc_regions_certain(enum fc_arch arch, uint64_t bytes)
{
        struct fc_regions old, new;

        if (fc_regions_layout(arch, FC_LAYOUT_V1_0, bytes, &old, NULL) < 0 ||
            fc_regions_layout(arch, FC_LAYOUT_V1_13, bytes, &new, NULL) < 0)
                return false;
        return old.n == new.n && !memcmp(old.at, new.at, old.n * sizeof(old.at[0]));
}

/* ---- the section --------------------------------------------------------- */

size_t fc_regions_encode(const struct fc_regions *r, uint8_t buf[FC_REGIONS_BYTES_MAX])
{
        uint8_t *p = buf + HEAD_BYTES;

        ASSERT(r->n >= 1 && r->n <= FC_REGIONS_MAX);
        put_le32(buf, SECTION_VERSION);
        put_le32(buf + 4, r->n);
        put_le32(buf + 8, r->page_bytes);
        put_le32(buf + 12, 0);
        for (uint32_t i = 0; i < r->n; i++, p += EXTENT_BYTES) {
                put_le64(p, r->at[i].gpa);
                put_le64(p + 8, r->at[i].bytes);
                put_le64(p + 16, r->at[i].file_offset);
        }
        return (size_t)(p - buf);
}

static int check_head(const uint8_t *p, size_t bytes, struct err *e)
{
        if (bytes < HEAD_BYTES)
                return err_msg(e, EBADMSG, "section %s of %zu bytes is too short",
                               FC_SECTION_REGIONS, bytes);
        if (get_le32(p) > SECTION_VERSION)
                return err_msg(e, ENOTSUP, "section %s has version %u, newer than %u",
                               FC_SECTION_REGIONS, get_le32(p), SECTION_VERSION);
        if (get_le32(p) != SECTION_VERSION || get_le32(p + 12) != 0)
                return err_msg(e, EBADMSG, "section %s has a bad head", FC_SECTION_REGIONS);
        if (get_le32(p + 4) != (bytes - HEAD_BYTES) / EXTENT_BYTES ||
            (bytes - HEAD_BYTES) % EXTENT_BYTES)
                return err_msg(e, EBADMSG, "section %s of %zu bytes cannot hold %u regions",
                               FC_SECTION_REGIONS, bytes, get_le32(p + 4));
        return 0;
}

int fc_regions_decode(const void *data, size_t bytes, struct fc_regions *ret, struct err *e)
{
        const uint8_t *p = data;
        struct fc_regions r = { 0 };
        int rc = check_head(p, bytes, e);

        if (rc < 0)
                return rc;
        r.page_bytes = get_le32(p + 8);
        r.n = get_le32(p + 4);
        for (uint32_t i = 0; i < MIN(r.n, FC_REGIONS_MAX); i++) {
                const uint8_t *x = p + HEAD_BYTES + i * EXTENT_BYTES;

                r.at[i] = (struct fc_extent){ .gpa = get_le64(x), .bytes = get_le64(x + 8) };
        }
        rc = fc_regions_finish(&r, e);
        for (uint32_t i = 0; rc == 0 && i < r.n; i++)
                if (get_le64(p + HEAD_BYTES + i * EXTENT_BYTES + 16) != r.at[i].file_offset)
                        rc = err_msg(e, EBADMSG, "memory region %u has a wrong file offset", i);
        if (rc < 0)
                return err_in(e, rc, "section %s", FC_SECTION_REGIONS);
        *ret = r;
        return 0;
}
