/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/adapters/qemu/blocks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"

static_assert(QEMU_PAGE_MIN == 4096, "what the store's ranges are aligned to");

/* ---- making a table ------------------------------------------------------ */

int qemu_blocks_add(struct qemu_blocks *b, const char *name, size_t name_bytes, uint64_t bytes,
                    struct err *e)
{
        struct qemu_block block = { .bytes = bytes, .page_size = QEMU_PAGE_MIN };

        if (b->n == QEMU_BLOCKS_MAX)
                return err_msg(e, EBADMSG, "there are more than %u RAM blocks", QEMU_BLOCKS_MAX);
        if (!qemu_name_take((const uint8_t *)name, name_bytes, block.name))
                return err_msg(e, EBADMSG, "the name of RAM block %zu is no text of 1 to %u bytes",
                               b->n, QEMU_NAME_MAX);
        if (qemu_blocks_find(b, block.name) >= 0)
                return err_msg(e, EBADMSG, "there are two RAM blocks '%s'", block.name);
        if (!b->at)
                b->at = calloc(QEMU_BLOCKS_MAX, sizeof(*b->at));
        if (!b->at)
                return err_set(e, ENOMEM, "keep the table of RAM blocks");
        b->at[b->n++] = block;
        return 0;
}

void qemu_blocks_fini(struct qemu_blocks *b)
{
        free(b->at);
        free(b->places);
        *b = (struct qemu_blocks){ 0 };
}

/* ---- checking ------------------------------------------------------------ */

static bool is_page_size(uint64_t bytes, uint64_t min, uint64_t max)
{
        return bytes >= min && bytes <= max && (bytes & (bytes - 1)) == 0;
}

/* from: where the extent must begin in the block */
static int check_extent(const struct qemu_block *block, const struct qemu_extent *x,
                        uint64_t from, uint32_t page_size, uint64_t disk_bytes, struct err *e)
{
        if (x->at != from || x->bytes == 0 || x->bytes > block->bytes - from)
                return err_msg(e, EBADMSG, "its extents do not follow each other");
        if (!IS_ALIGNED(x->at, block->page_size))
                return err_msg(e, EBADMSG, "it is cut at %#llx, in the middle of a page of "
                               "%u bytes", (unsigned long long)x->at, block->page_size);
        if (!IS_ALIGNED(x->gpa | x->bytes, page_size))
                return err_msg(e, EBADMSG, "an extent is not of whole pages of %u bytes",
                               page_size);
        if (x->gpa > disk_bytes || x->bytes > disk_bytes - x->gpa)
                return err_msg(e, EBADMSG, "an extent ends behind the %llu bytes of the image",
                               (unsigned long long)disk_bytes);
        return 0;
}

static int check_block(const struct qemu_block *block, uint32_t page_size, uint64_t disk_bytes,
                       struct err *e)
{
        uint64_t end = 0;
        int rc = 0;

        if (!is_page_size(block->page_size, QEMU_PAGE_MIN, QEMU_HOST_PAGE_BYTES_MAX))
                return err_msg(e, EBADMSG, "its pages cannot be of %u bytes", block->page_size);
        if (!IS_ALIGNED(block->bytes, MAX(block->page_size, page_size)))
                return err_msg(e, EBADMSG, "its %llu bytes are not whole pages of %u",
                               (unsigned long long)block->bytes,
                               MAX(block->page_size, page_size));
        for (size_t i = 0; rc == 0 && i < block->n_extents; i++) {
                rc = check_extent(block, &block->extents[i], end, page_size, disk_bytes, e);
                end += block->extents[i].bytes;
        }
        if (rc == 0 && end != block->bytes)
                rc = err_msg(e, EBADMSG, "its extents have %llu of its %llu bytes",
                             (unsigned long long)end, (unsigned long long)block->bytes);
        return rc;
}

static int by_gpa(const void *a, const void *b)
{
        const struct qemu_place *p = a, *q = b;

        return p->gpa < q->gpa ? -1 : p->gpa > q->gpa;
}

static int make_places(struct qemu_blocks *b, struct err *e)
{
        size_t n = 0;

        free(b->places);
        b->n_places = 0;
        b->places = calloc(b->n * QEMU_EXTENTS_MAX, sizeof(*b->places));
        if (!b->places)
                return err_set(e, ENOMEM, "keep the table of RAM blocks");
        for (unsigned i = 0; i < b->n; i++) {
                for (size_t k = 0; k < b->at[i].n_extents; k++) {
                        const struct qemu_extent *x = &b->at[i].extents[k];

                        b->places[n++] = (struct qemu_place){ x->gpa, x->bytes, x->at, i };
                }
        }
        qsort(b->places, n, sizeof(*b->places), by_gpa);
        b->n_places = n;
        return 0;
}

static int check_overlap(const struct qemu_blocks *b, struct err *e)
{
        for (size_t i = 1; i < b->n_places; i++) {
                const struct qemu_place *p = &b->places[i - 1], *q = &b->places[i];

                if (q->gpa - p->gpa < p->bytes)
                        return err_msg(e, EBADMSG, "RAM blocks '%s' and '%s' overlap at %#llx",
                                       b->at[p->block].name, b->at[q->block].name,
                                       (unsigned long long)q->gpa);
        }
        return 0;
}

int qemu_blocks_seal(struct qemu_blocks *b, uint32_t page_size, struct err *e)
{
        int rc;

        if (!is_page_size(page_size, QEMU_PAGE_MIN, QEMU_PAGE_MAX))
                return err_msg(e, EBADMSG, "a machine with pages of %u bytes cannot be saved",
                               page_size);
        if (b->n == 0)
                return err_msg(e, EBADMSG, "there are no RAM blocks");
        if (b->disk_bytes > QS_DISK_BYTES_MAX)
                return err_msg(e, EBADMSG, "the RAM blocks end behind 64 TiB");
        for (size_t i = 0; i < b->n; i++) {
                rc = check_block(&b->at[i], page_size, b->disk_bytes, e);
                if (rc < 0)
                        return err_in(e, rc, "RAM block '%s'", b->at[i].name);
        }
        rc = make_places(b, e);
        if (rc == 0 && b->n_places == 0)
                rc = err_msg(e, EBADMSG, "all RAM blocks are empty");
        return rc < 0 ? rc : check_overlap(b, e);
}

/* ---- using it ------------------------------------------------------------ */

int qemu_blocks_find(const struct qemu_blocks *b, const char *name)
{
        for (size_t i = 0; i < b->n; i++) {
                if (strcmp(b->at[i].name, name) == 0)
                        return (int)i;
        }
        return -1;
}

bool qemu_blocks_gpa(const struct qemu_blocks *b, unsigned block, uint64_t offset,
                     uint64_t *ret_gpa, uint64_t *ret_run)
{
        ASSERT(block < b->n);

        const struct qemu_block *of = &b->at[block];

        for (size_t i = 0; i < of->n_extents; i++) {
                const struct qemu_extent *x = &of->extents[i];

                if (offset - x->at < x->bytes) {
                        *ret_gpa = x->gpa + (offset - x->at);
                        *ret_run = x->bytes - (offset - x->at);
                        return true;
                }
        }
        return false;
}

bool qemu_blocks_at(const struct qemu_blocks *b, uint64_t gpa, unsigned *ret_block,
                    uint64_t *ret_offset, uint64_t *ret_run)
{
        size_t lo = 0, hi = b->n_places;

        /* the last place that does not begin behind gpa is lo - 1 */
        while (lo < hi) {
                size_t mid = lo + (hi - lo) / 2;

                if (b->places[mid].gpa <= gpa)
                        lo = mid + 1;
                else
                        hi = mid;
        }
        if (lo == 0 || gpa - b->places[lo - 1].gpa >= b->places[lo - 1].bytes)
                return false;

        const struct qemu_place *p = &b->places[lo - 1];

        *ret_block = p->block;
        *ret_offset = p->at + (gpa - p->gpa);
        *ret_run = p->bytes - (gpa - p->gpa);
        return true;
}

static uint64_t end_of(const struct qs_ram_range *r)
{
        return r->gpa + r->bytes;
}

/* Closes the smallest of the n - 1 gaps. */
static void join_two(struct qs_ram_range *r, size_t n)
{
        size_t at = 0;

        for (size_t i = 1; i + 1 < n; i++) {
                if (r[i + 1].gpa - end_of(&r[i]) < r[at + 1].gpa - end_of(&r[at]))
                        at = i;
        }
        r[at].bytes = end_of(&r[at + 1]) - r[at].gpa;
        memmove(&r[at + 1], &r[at + 2], (n - at - 2) * sizeof(*r));
}

size_t qemu_blocks_ranges(const struct qemu_blocks *b,
                          struct qs_ram_range ret[QS_RAM_RANGES_MAX])
{
        struct qs_ram_range r[QS_RAM_RANGES_MAX + 1];
        size_t n = 0;

        for (size_t i = 0; i < b->n_places; i++) {
                const struct qemu_place *p = &b->places[i];

                if (n > 0 && end_of(&r[n - 1]) == p->gpa)
                        r[n - 1].bytes += p->bytes;
                else
                        r[n++] = (struct qs_ram_range){ p->gpa, p->bytes };
                if (n > QS_RAM_RANGES_MAX)
                        join_two(r, n--);
        }
        memcpy(ret, r, n * sizeof(*r));
        return n;
}
