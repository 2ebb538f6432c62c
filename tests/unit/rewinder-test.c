/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: RAM becomes what the target holds, whatever it is made of, by touching only the
 *       pages that differ; what cannot be done leaves it as it is.
 * Method: two images made of flat models that differ in a few pages; RAM that is anonymous,
 *         or a private mapping of a memfd with the parent's content, with some pages
 *         written; afterwards every page against the model. */
#include "vmm/rewinder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "tests/unit/expect.h"
#include "tests/unit/store-kit.h"
#include "tests/unit/suite.h"
#include "vmm/ownmap.h"

#define PAGE OWNMAP_PAGE_BYTES
#define BYTES RAM_BYTES_MIN
#define PAGES (BYTES / PAGE)

/* pages in which the parent is not zero: the first and every seventh, up to the last */
#define PARENT_STEP 7
/* of those the target has other bytes in every third, and zeros in every fifth */
static bool has_data(uint64_t page) { return page % PARENT_STEP == 0; }

/* pages that the guest writes */
static bool is_dirty(uint64_t page) { return page % 5 == 2 || page == PAGES - 1; }

struct place {
        char folder[KIT_PATH_MAX];
        char parent_path[KIT_PATH_MAX];
        char target_path[KIT_PATH_MAX];
        uint8_t *parent;                /* models */
        uint8_t *target;
};

static uint8_t *new_model(void)
{
        uint8_t *m = calloc(1, BYTES);

        ASSERT(m);
        return m;
}

static void save_model(const char *path, uint8_t *model, unsigned cluster_bits)
{
        struct kit_ram ram = { .bytes = model, .range = { { 0, BYTES } }, .ranges = 1 };
        const struct qs_writer_options o = {
                .cluster_bits = cluster_bits, .disk_bytes = BYTES, .compress = QS_COMPRESS_ZSTD,
                .zstd_level = 1,
        };
        struct err e;

        CU_ASSERT_EQUAL_FATAL(kit_save(path, &o, &ram, &e), 0);
}

static void place_new(struct place *p)
{
        kit_folder(p->folder);
        kit_path(p->folder, "parent", p->parent_path);
        kit_path(p->folder, "target", p->target_path);
        p->parent = new_model();
        p->target = new_model();
        for (uint64_t i = 0; i < PAGES; i++) {
                uint8_t *page = p->parent + i * PAGE;

                if (has_data(i))
                        memset(page, (int)(1 + i % 200), PAGE);
                memcpy(p->target + i * PAGE, page, PAGE);
                if (i % 3 == 0)
                        p->target[i * PAGE + i % PAGE] ^= 0xff;
                else if (i % 5 == 0)
                        memset(p->target + i * PAGE, 0, PAGE);
        }
        save_model(p->parent_path, p->parent, 14);
        save_model(p->target_path, p->target, 12);
}

static void place_fini(struct place *p)
{
        unlink(p->parent_path);
        unlink(p->target_path);
        CU_ASSERT(kit_gone(p->folder));
        free(p->parent);
        free(p->target);
}

static struct qs_image *open_image(const char *path)
{
        struct qs_image *image = NULL;
        struct err e;

        CU_ASSERT_EQUAL_FATAL(qs_image_open_path(path, NULL, &image, &e), 0);
        return image;
}

static struct ram new_ram(int cache_fd)
{
        struct ram ram;

        CU_ASSERT_EQUAL_FATAL(ram_init(&ram, BYTES, NULL), 0);
        if (cache_fd < 0) {
                CU_ASSERT_EQUAL_FATAL(ram_map_anonymous(&ram, false, RAM_SMALL, NULL), 0);
                (void)madvise(ram_at(&ram, 0, BYTES), BYTES, MADV_NOHUGEPAGE);
        } else {
                CU_ASSERT_EQUAL_FATAL(ram_map_cache(&ram, cache_fd, NULL), 0);
                CU_ASSERT_EQUAL_FATAL(ram_unlock(&ram, NULL), 0);
        }
        return ram;
}

static int new_cache(const uint8_t *model)
{
        int fd = memfd_create("cache", MFD_CLOEXEC);

        CU_ASSERT_FATAL(fd >= 0 && io_pwrite_full(fd, model, BYTES, 0) == 0);
        return fd;
}

static uint8_t *page_at(const struct ram *ram, uint64_t page)
{
        return ram_at(ram, page * PAGE, PAGE);
}

static void write_some(const struct ram *ram)
{
        for (uint64_t i = 0; i < PAGES; i++) {
                if (is_dirty(i))
                        memset(page_at(ram, i), 0xaa, PAGE);
        }
}

static int rewind_to(const struct rewinder_options *o, struct rewinder_stats *stats,
                     struct err *e)
{
        struct rewinder *r = NULL;
        int rc = rewinder_new(o, &r, e);

        if (rc == 0)
                rc = rewinder_prepare(r, e);
        if (rc == 0)
                rc = rewinder_look(r, e);
        if (rc == 0)
                rc = rewinder_apply(r, stats, e);
        rewinder_free(r);
        return rc;
}

static struct ownmap *look_again(const struct ram *ram)
{
        struct ownmap *m = NULL;

        CU_ASSERT_EQUAL_FATAL(ownmap_new(ram, &m, NULL), 0);
        CU_ASSERT_EQUAL(ownmap_scan(m, 0, 0, BYTES, NULL), 0);
        return m;
}

static bool page_is(const uint8_t *page, const uint8_t *model, uint64_t i)
{
        return memcmp(page, model + i * PAGE, PAGE) == 0;
}

/* ---- cases ------------------------------------------------------------------ */

/* What RAM lacks is zero; twice, for it must not matter what was before. */
static void booted_here(void)
{
        struct rewinder_stats stats = { 0 };
        struct place p;
        uint64_t want = 0;

        place_new(&p);

        struct qs_image *target = open_image(p.target_path);
        struct ram ram = new_ram(-1);
        const struct rewinder_options o = { .flat_fd = -1, .ram = &ram, .target = target };

        write_some(&ram);
        for (uint64_t i = 0; i < PAGES; i++)
                want += !page_is(page_at(&ram, i), p.target, i);
        CU_ASSERT_EQUAL(rewind_to(&o, &stats, NULL), 0);
        EXPECT_EQUAL("written", stats.pages_written, want);
        EXPECT_EQUAL("given back", stats.pages_given_back, 0);
        CU_ASSERT(memcmp(ram_at(&ram, 0, BYTES), p.target, BYTES) == 0);

        write_some(&ram);
        CU_ASSERT_EQUAL(rewind_to(&o, &stats, NULL), 0);
        CU_ASSERT(memcmp(ram_at(&ram, 0, BYTES), p.target, BYTES) == 0);
        CU_ASSERT_EQUAL(rewind_to(&o, &stats, NULL), 0);
        EXPECT_EQUAL("written when nothing differs", stats.pages_written, 0);
        ram_unmap(&ram);
        qs_image_close(target);
        place_fini(&p);
}

/* What RAM lacks is still to come from the parent: it is not touched where the target has
 * the same there. */
static void another_than_it_came_from(void)
{
        struct rewinder_stats stats = { 0 };
        struct place p;

        place_new(&p);

        struct qs_image *parent = open_image(p.parent_path);
        struct qs_image *target = open_image(p.target_path);
        struct ram ram = new_ram(-1);
        const struct rewinder_options o = {
                .flat_fd = -1, .ram = &ram, .parent = parent, .target = target,
        };

        write_some(&ram);
        CU_ASSERT_EQUAL(rewind_to(&o, &stats, NULL), 0);

        struct ownmap *own = look_again(&ram);

        for (uint64_t i = 0; i < PAGES; i++) {
                bool same = page_is(p.parent + i * PAGE, p.target, i);

                if (!is_dirty(i) && same)
                        EXPECT_TRUE("untouched", !ownmap_page(own, i * PAGE));
                else
                        EXPECT_TRUE("as the target", page_is(page_at(&ram, i), p.target, i));
        }
        ownmap_free(own);
        ram_unmap(&ram);
        qs_image_close(target);
        qs_image_close(parent);
        place_fini(&p);
}

static void given_back_to_the_cache(void)
{
        struct rewinder_stats stats = { 0 };
        struct place p;
        uint64_t dirty = 0;

        place_new(&p);

        AUTO_FD cache = new_cache(p.parent);
        struct qs_image *parent = open_image(p.parent_path);
        struct qs_image *target = open_image(p.parent_path);
        struct ram ram = new_ram(cache);
        const struct rewinder_options o = {
                .flat_fd = -1, .ram = &ram, .parent = parent, .target = target, .shared = true,
        };

        write_some(&ram);
        for (uint64_t i = 0; i < PAGES; i++)
                dirty += is_dirty(i);
        CU_ASSERT_EQUAL(rewind_to(&o, &stats, NULL), 0);
        EXPECT_EQUAL("given back", stats.pages_given_back, dirty);
        EXPECT_EQUAL("written", stats.pages_written, 0);

        struct ownmap *own = look_again(&ram);

        EXPECT_EQUAL("own pages that are left", ownmap_count(own).own_pages, 0);
        CU_ASSERT(memcmp(ram_at(&ram, 0, BYTES), p.parent, BYTES) == 0);
        ownmap_free(own);
        ram_unmap(&ram);
        qs_image_close(target);
        qs_image_close(parent);
        place_fini(&p);
}

static void another_over_the_cache(void)
{
        struct rewinder_stats stats = { 0 };
        struct place p;

        place_new(&p);

        AUTO_FD cache = new_cache(p.parent);
        struct qs_image *parent = open_image(p.parent_path);
        struct qs_image *target = open_image(p.target_path);
        struct ram ram = new_ram(cache);
        const struct rewinder_options o = {
                .flat_fd = -1, .ram = &ram, .parent = parent, .target = target, .shared = true,
        };

        write_some(&ram);
        CU_ASSERT_EQUAL(rewind_to(&o, &stats, NULL), 0);
        EXPECT_EQUAL("given back", stats.pages_given_back, 0);
        CU_ASSERT(memcmp(ram_at(&ram, 0, BYTES), p.target, BYTES) == 0);
        ram_unmap(&ram);
        qs_image_close(target);
        qs_image_close(parent);
        place_fini(&p);
}

/* Everything is looked at before anything is changed. INV-READ */
static void damage_is_said_before(void)
{
        struct rewinder *r = NULL;
        struct place p;
        struct err e;

        place_new(&p);

        size_t bytes;
        uint8_t *file = kit_load(p.target_path, &bytes);
        AUTO_FD fd = open(p.target_path, O_WRONLY | O_CLOEXEC);
        struct ram ram = new_ram(-1);

        for (size_t at = bytes / 4; at < bytes / 4 + 8 * PAGE; at += PAGE)
                file[at] ^= 0x10;
        CU_ASSERT_EQUAL_FATAL(io_pwrite_full(fd, file, bytes, 0), 0);
        free(file);

        struct qs_image *target = open_image(p.target_path);
        const struct rewinder_options o = { .flat_fd = -1, .ram = &ram, .target = target };

        write_some(&ram);
        CU_ASSERT_EQUAL_FATAL(rewinder_new(&o, &r, &e), 0);
        CU_ASSERT_EQUAL(rewinder_prepare(r, &e), -EBADMSG);
        for (uint64_t i = 0; i < PAGES; i++)
                EXPECT_EQUAL("as it was", *page_at(&ram, i), is_dirty(i) ? 0xaa : 0);
        rewinder_free(r);
        ram_unmap(&ram);
        qs_image_close(target);
        place_fini(&p);
}

static void cancelled_before(void)
{
        const _Atomic bool cancelled = true;
        struct rewinder *r = NULL;
        struct place p;
        struct err e;

        place_new(&p);

        struct qs_image *target = open_image(p.target_path);
        struct ram ram = new_ram(-1);
        const struct rewinder_options o = {
                .flat_fd = -1, .ram = &ram, .target = target, .cancelled = &cancelled,
        };

        CU_ASSERT_EQUAL_FATAL(rewinder_new(&o, &r, &e), 0);
        CU_ASSERT_EQUAL(rewinder_prepare(r, &e), -ECANCELED);
        CU_ASSERT_EQUAL(rewinder_look(r, &e), -ECANCELED);
        rewinder_free(r);
        ram_unmap(&ram);
        qs_image_close(target);
        place_fini(&p);
}

static const CU_TestInfo cases[] = {
        { "RAM of a machine that was booted here", booted_here },
        { "what is still to come and does not differ is not touched", another_than_it_came_from },
        { "own pages are given back to the cache", given_back_to_the_cache },
        { "another image's content over the cache", another_over_the_cache },
        { "damage is said before anything is changed", damage_is_said_before },
        { "it can be cancelled before", cancelled_before },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("rewinder", cases);
}
