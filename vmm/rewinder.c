/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/rewinder.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/auto.h"
#include "common/check.h"
#include "vmm/ownmap.h"
#include "vmm/pager.h"
#include "vmm/ramcrew.h"
#include "vmm/ramwhole.h"

/* Theory of operation
 *
 * A page of RAM is the guest's own (ownmap.h), or it shows what the parent has there (an
 * image, or the memfd of a clone), zeros without a parent. Which of two ways is taken depends
 * on what the target is:
 *
 * give back  The target is the parent, and RAM a private mapping of its cache: own pages are
 *            given back to the kernel, and the parent's content shows again. Nothing is
 *            read. A page that was the guest's own had come from the cache, or is served
 *            anew; the ranges stay mapped and registered (INV-HOLE).
 * compare    Anything else. Own pages are compared with the target and written where they
 *            differ. Of the other pages those are written for which target and parent
 *            differ, found out from the two images while the guest runs (`differs`): so
 *            nothing is fetched that is not there yet. Such a page is put in place without
 *            asking the page server, which may be dead or have a bad cluster there.
 *
 * INV-OWN:    while we are at it no page ceases to be own but by us (INV-STAYS); one that did
 *             so before shows the parent's content (INV-GIVEBACK). So `differs` holds for what
 *             is not own at the look.
 * INV-READ:   before anything is changed, every unit that will be needed has been read once,
 *             checked. That apply reads it again is for want of memory to keep it in.
 */
#define PAGE_BYTES 4096u
/* what is read at a time, unless clusters are larger: small ones cost calls, large ones
 * bytes that nobody needs */
#define UNIT_BYTES_MIN (64u << 10)
/* own pages this near to each other are given back by one call; between them are pages
 * that come again by a fault */
#define GAP_PAGES 8

struct rewinder {
        struct rewinder_options options;
        bool gives_back;
        bool is_parent;                 /* the target is what RAM came from */
        uint64_t unit_bytes;
        uint64_t first_page[RAM_SLOTS_MAX];     /* of the slot, in the maps below */
        struct ownmap *own;
        uint8_t *differs;               /* a bit a page; written by the thread of its chunk */
        bool *checked;                  /* for each unit; likewise */
        _Atomic uint64_t written;
};

/* What one thread has. */
struct hand {
        struct qs_reader *target;
        struct qs_reader *parent;
        uint8_t *target_buf;
        uint8_t *parent_buf;
};

struct content {
        const uint8_t *bytes;           /* NULL = zeros */
};

static const uint8_t zero_page[PAGE_BYTES];

static const uint8_t *page_of(struct content c, uint64_t at)
{
        return c.bytes ? c.bytes + at : zero_page;
}

static bool page_is(const uint8_t *page, struct content c, uint64_t at)
{
        return memcmp(page, page_of(c, at), PAGE_BYTES) == 0;
}

/* ---- a thread's things ------------------------------------------------------ */

static void hand_end(void *own)
{
        struct hand *h = own;

        qs_reader_free(h->target);
        qs_reader_free(h->parent);
        free(h->target_buf);
        free(h->parent_buf);
        free(h);
}

static int hand_begin(void *ctx, void **ret_own, struct err *e)
{
        const struct rewinder *r = ctx;
        struct hand *h = calloc(1, sizeof(*h));
        int rc = 0;

        if (h) {
                h->target_buf = malloc(r->unit_bytes);
                h->parent_buf = malloc(r->unit_bytes);
        }
        if (!h || !h->target_buf || !h->parent_buf)
                rc = err_msg(e, ENOMEM, "no memory to compare guest RAM");
        if (rc == 0)
                rc = qs_reader_new(r->options.target, &h->target, e);
        if (rc == 0 && r->options.parent && !r->is_parent)
                rc = qs_reader_new(r->options.parent, &h->parent, e);
        if (rc < 0 && h)
                hand_end(h);
        if (rc == 0)
                *ret_own = h;
        return rc;
}

static int read_unit(struct qs_reader *reader, uint64_t gpa, uint64_t bytes, uint8_t *buf,
                     struct content *ret, struct err *e)
{
        bool zero;
        int rc = qs_span_read(reader, gpa, bytes, buf, &zero, e);

        if (rc == 0)
                ret->bytes = zero ? NULL : buf;
        return rc;
}

/* ---- prepare ---------------------------------------------------------------- */

static uint64_t page_index(const struct rewinder *r, unsigned slot, uint64_t offset)
{
        return r->first_page[slot] + offset / PAGE_BYTES;
}

static bool *checked_at(struct rewinder *r, unsigned slot, uint64_t offset)
{
        return &r->checked[page_index(r, slot, offset) / (r->unit_bytes / PAGE_BYTES)];
}

static bool differs_at(const struct rewinder *r, uint64_t page)
{
        return r->differs[page / 8] & (1u << page % 8);
}

static bool any_differs(const struct rewinder *r, uint64_t page, uint64_t n)
{
        static_assert(UNIT_BYTES_MIN / PAGE_BYTES % 8 == 0, "units have bytes of their own");
        for (uint64_t i = 0; i < n; i += 8) {
                if (r->differs[(page + i) / 8])
                        return true;
        }
        return false;
}

/* What pages that are not the guest's own show. */
static int read_parent(const struct rewinder *r, struct hand *h, uint64_t gpa,
                       struct content *ret, struct err *e)
{
        if (h->parent)
                return read_unit(h->parent, gpa, r->unit_bytes, h->parent_buf, ret, e);
        if (r->options.flat_fd < 0)
                return 0;

        bool zero;
        int rc = ramwhole_read_flat(r->options.flat_fd, gpa, r->unit_bytes, h->parent_buf, &zero,
                                    e);

        if (rc == 0)
                ret->bytes = zero ? NULL : h->parent_buf;
        return rc;
}

static int find_differences(struct rewinder *r, struct hand *h, unsigned slot, uint64_t offset,
                            struct content target, struct err *e)
{
        uint64_t first = page_index(r, slot, offset);
        struct content parent = { NULL };
        int rc = read_parent(r, h, r->options.ram->slots[slot].gpa + offset, &parent, e);

        if (rc < 0 || (!target.bytes && !parent.bytes))
                return rc;
        for (uint64_t at = 0; at < r->unit_bytes; at += PAGE_BYTES) {
                uint64_t page = first + at / PAGE_BYTES;

                if (!page_is(page_of(target, at), parent, at))
                        r->differs[page / 8] |= (uint8_t)(1u << page % 8);
        }
        return 0;
}

static int prepare_unit(struct rewinder *r, struct hand *h, unsigned slot, uint64_t offset,
                        struct err *e)
{
        uint64_t gpa = r->options.ram->slots[slot].gpa + offset;
        struct content target;
        int rc;

        if (r->is_parent && !ownmap_any(r->own, gpa, r->unit_bytes))
                return 0;
        rc = read_unit(h->target, gpa, r->unit_bytes, h->target_buf, &target, e);
        if (rc == 0 && !r->is_parent)
                rc = find_differences(r, h, slot, offset, target, e);
        if (rc == 0)
                *checked_at(r, slot, offset) = true;
        return rc;
}

/* What is own now is a hint: the guest runs. */
static int prepare_chunk(void *ctx, void *own, unsigned slot, uint64_t offset, struct err *e)
{
        struct rewinder *r = ctx;
        int rc = r->is_parent ? ownmap_scan(r->own, slot, offset, RAMCREW_CHUNK_BYTES, e) : 0;

        for (uint64_t at = 0; at < RAMCREW_CHUNK_BYTES && rc == 0; at += r->unit_bytes)
                rc = prepare_unit(r, own, slot, offset + at, e);
        return rc;
}

/* ---- look ------------------------------------------------------------------- */

static int look_at_unit(struct rewinder *r, struct hand *h, unsigned slot, uint64_t offset,
                        struct err *e)
{
        uint64_t gpa = r->options.ram->slots[slot].gpa + offset;
        bool *checked = checked_at(r, slot, offset);
        struct content target;

        if (*checked || !ownmap_any(r->own, gpa, r->unit_bytes))
                return 0;

        int rc = read_unit(h->target, gpa, r->unit_bytes, h->target_buf, &target, e);

        *checked = rc == 0;
        return rc;
}

static int look_at_chunk(void *ctx, void *own, unsigned slot, uint64_t offset, struct err *e)
{
        struct rewinder *r = ctx;
        int rc = ownmap_scan(r->own, slot, offset, RAMCREW_CHUNK_BYTES, e);

        for (uint64_t at = 0; own && at < RAMCREW_CHUNK_BYTES && rc == 0; at += r->unit_bytes)
                rc = look_at_unit(r, own, slot, offset + at, e);
        return rc;
}

/* ---- apply ------------------------------------------------------------------ */

static int give_back_chunk(void *ctx, void *own, unsigned slot, uint64_t offset, struct err *e)
{
        struct rewinder *r = ctx;
        const struct ram_slot *s = &r->options.ram->slots[slot];
        uint64_t gpa = s->gpa + offset;
        uint64_t end_gpa = gpa + RAMCREW_CHUNK_BYTES;
        struct ownmap_run run;

        (void)own;
        while (gpa < end_gpa && ownmap_run(r->own, gpa, end_gpa, GAP_PAGES, &run)) {
                if (madvise(s->hva + (run.gpa - s->gpa), run.bytes, MADV_DONTNEED) < 0)
                        return err_set(e, errno, "give back guest memory");
                gpa = run.gpa + run.bytes;
        }
        return 0;
}

static void put_page(struct rewinder *r, uint64_t gpa, uint8_t *hva, const uint8_t *page)
{
        struct pager *pager = r->options.pager;

        if (!pager || !pager_put(pager, gpa, page, PAGE_BYTES))
                memcpy(hva, page, PAGE_BYTES);
}

/* How many pages were written. */
static uint64_t write_pages(struct rewinder *r, unsigned slot, uint64_t offset,
                            struct content target)
{
        const struct ram_slot *s = &r->options.ram->slots[slot];
        uint64_t first = page_index(r, slot, offset);
        uint64_t written = 0;

        for (uint64_t at = 0; at < r->unit_bytes; at += PAGE_BYTES) {
                uint64_t gpa = s->gpa + offset + at;
                uint8_t *hva = s->hva + offset + at;

                if (ownmap_page(r->own, gpa)) {
                        if (page_is(hva, target, at))
                                continue;
                        memcpy(hva, page_of(target, at), PAGE_BYTES);
                } else if (differs_at(r, first + at / PAGE_BYTES)) {
                        put_page(r, gpa, hva, page_of(target, at));
                } else {
                        continue;
                }
                written++;
        }
        return written;
}

static int write_unit(struct rewinder *r, struct hand *h, unsigned slot, uint64_t offset,
                      struct err *e)
{
        uint64_t gpa = r->options.ram->slots[slot].gpa + offset;
        struct content target;

        if (!ownmap_any(r->own, gpa, r->unit_bytes) &&
            !any_differs(r, page_index(r, slot, offset), r->unit_bytes / PAGE_BYTES))
                return 0;
        ASSERT(*checked_at(r, slot, offset));           /* INV-READ */

        int rc = read_unit(h->target, gpa, r->unit_bytes, h->target_buf, &target, e);

        if (rc == 0)
                atomic_fetch_add(&r->written, write_pages(r, slot, offset, target));
        return rc;
}

static int write_chunk(void *ctx, void *own, unsigned slot, uint64_t offset, struct err *e)
{
        struct rewinder *r = ctx;
        int rc = 0;

        for (uint64_t at = 0; at < RAMCREW_CHUNK_BYTES && rc == 0; at += r->unit_bytes)
                rc = write_unit(r, own, slot, offset + at, e);
        return rc;
}

/* ---- all -------------------------------------------------------------------- */

static int make_maps(struct rewinder *r, struct err *e)
{
        const struct ram *ram = r->options.ram;
        uint64_t pages = 0;

        for (unsigned i = 0; i < ram->nslots; i++) {
                r->first_page[i] = pages;
                pages += ram->slots[i].bytes / PAGE_BYTES;
        }
        r->differs = calloc(1, pages / 8);
        r->checked = calloc(pages / (r->unit_bytes / PAGE_BYTES), sizeof(*r->checked));
        if (!r->differs || !r->checked)
                return err_msg(e, ENOMEM, "no memory to compare guest RAM");
        return ownmap_new(ram, &r->own, e);
}

int rewinder_new(const struct rewinder_options *options, struct rewinder **ret, struct err *e)
{
        struct rewinder *r = calloc(1, sizeof(*r));
        const struct qs_image_info *info = qs_image_info(options->target);

        ASSERT(info->disk_bytes >= ram_end_gpa(options->ram));
        if (!r)
                return err_msg(e, ENOMEM, "no memory to compare guest RAM");
        r->options = *options;
        r->is_parent = options->parent && qs_image_same(options->parent, options->target);
        r->gives_back = r->is_parent && options->shared;
        r->unit_bytes = MAX(1ull << info->cluster_bits, UNIT_BYTES_MIN);
        ASSERT(RAMCREW_CHUNK_BYTES % r->unit_bytes == 0);

        int rc = make_maps(r, e);

        if (rc < 0) {
                rewinder_free(r);
                return rc;
        }
        *ret = r;
        return 0;
}

void rewinder_free(struct rewinder *r)
{
        if (!r)
                return;
        ownmap_free(r->own);
        free(r->differs);
        free(r->checked);
        free(r);
}

/* Giving back needs no readers. */
static int run(struct rewinder *r, int (*chunk)(void *, void *, unsigned, uint64_t, struct err *),
               const _Atomic bool *cancelled, struct err *e)
{
        const struct ramcrew_work work = {
                .begin = r->gives_back ? NULL : hand_begin,
                .end = r->gives_back ? NULL : hand_end,
                .chunk = chunk, .ctx = r, .cancelled = cancelled,
                .starter = r->options.starter,
        };

        return ramcrew_run(r->options.ram, &work, e);
}

int rewinder_prepare(struct rewinder *r, struct err *e)
{
        return r->gives_back ? 0 : run(r, prepare_chunk, r->options.cancelled, e);
}

int rewinder_look(struct rewinder *r, struct err *e)
{
        return run(r, look_at_chunk, r->options.cancelled, e);
}

int rewinder_apply(struct rewinder *r, struct rewinder_stats *ret, struct err *e)
{
        uint64_t own_pages = ownmap_count(r->own).own_pages;
        int rc = run(r, r->gives_back ? give_back_chunk : write_chunk, NULL, e);

        if (rc < 0)
                return rc;
        *ret = (struct rewinder_stats){
                .pages_written = r->written,
                .pages_given_back = r->gives_back ? own_pages : 0,
        };
        return 0;
}
