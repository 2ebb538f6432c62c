/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: an image made anew holds what it held, with or without a parent, and
 *       nobody loses a file that he rests on.
 * Method: RAM against a flat model, sections and dates against those before. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "tests/unit/store-box.h"
#include "tests/unit/store-ram.h"
#include "tests/unit/suite.h"

/* parent <- child, whose RAM differs by some pages */
static void begin_family(struct box *b)
{
        uint64_t state = 8;

        box_begin(b);
        for (unsigned i = 0; i < BOX_PAGES; i += 37)
                store_ram_page(b->ram.bytes + i * BOX_PAGE, BOX_PAGE, i % 3, &state);
        memset(b->ram.bytes + 600 * BOX_PAGE, 0, 30 * BOX_PAGE);
        b->child_options.vm_clock_ns = 777;
        b->child_options.date_ns = 1234567890123456789;
        strcpy(b->child_options.tag, "lunch");
        CU_ASSERT_EQUAL_FATAL(box_make_child(b, NULL), 0);
}

static struct qs_image *open_image(const char *path)
{
        struct qs_image *image;

        CU_ASSERT_EQUAL_FATAL(qs_image_open_path(path, NULL, &image, NULL), 0);
        return image;
}

static int in_place(const char *path, const struct qs_writer_options *o,
                    struct qs_writer_stats *stats, struct err *e)
{
        struct qs_image *image = open_image(path);
        int rc = qs_rewrite_in_place(image, o, NULL, NULL, stats, e);

        qs_image_close(image);
        return rc;
}

static void same_beside_ram(const char *path, const struct box *b)
{
        struct qs_image *image = open_image(path);
        const struct qs_image_info *i = qs_image_info(image);
        struct qs_reader *r;
        void *data;
        size_t n;

        CU_ASSERT_STRING_EQUAL(i->tag, "lunch");
        CU_ASSERT_EQUAL(i->date_ns, 1234567890123456789);
        CU_ASSERT_EQUAL(i->vm_clock_ns, 777);
        CU_ASSERT_EQUAL_FATAL(qs_reader_new(image, &r, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(qs_section_read(r, "META", &data, &n, NULL), 0);
        CU_ASSERT_STRING_EQUAL((char *)data, kit_meta);
        free(data);
        CU_ASSERT_EQUAL_FATAL(qs_section_read(r, "DEVICES", &data, &n, NULL), 0);
        CU_ASSERT(n == 9000 && memcmp(data, b->ram.bytes, n) == 0);
        free(data);
        CU_ASSERT_EQUAL_FATAL(qs_section_read(r, "EMPTY", &data, &n, NULL), 0);
        CU_ASSERT_EQUAL(n, 0);
        free(data);
        qs_reader_free(r);
        qs_image_close(image);
}

static void another_file(void)
{
        static const unsigned bits[] = { 12, 14, 21 };

        for (size_t i = 0; i < ARRAY_SIZE(bits); i++) {
                struct box b;
                struct qs_writer_options o = box_options;
                char path[KIT_PATH_MAX];

                begin_family(&b);
                o.cluster_bits = bits[i];
                o.compress = i % 2 ? QS_COMPRESS_NONE : QS_COMPRESS_ZSTD;

                struct qs_image *child = open_image(b.child);

                CU_ASSERT_EQUAL(qs_rewrite(child, kit_path(b.folder, "new", path), &o, NULL, NULL,
                                           NULL, NULL), 0);
                qs_image_close(child);
                box_agrees(path, b.ram.bytes, 1);
                box_agrees(b.child, b.ram.bytes, 2);
                same_beside_ram(path, &b);
                unlink(path);
                box_end(&b);
        }
}

static void flatten(void)
{
        struct box b;
        uint8_t sector[LAYOUT_SECTOR_BYTES];

        begin_family(&b);

        struct imghdr before = box_header(b.child, sector);

        CU_ASSERT_EQUAL_FATAL(in_place(b.child, &box_options, NULL, NULL), 0);
        unlink(b.parent);
        box_agrees(b.child, b.ram.bytes, 1);
        same_beside_ram(b.child, &b);

        struct imghdr after = box_header(b.child, sector);

        CU_ASSERT(memcmp(before.uuid, after.uuid, sizeof(after.uuid)) != 0);
        CU_ASSERT_EQUAL(after.backing_bytes, 0);
        box_end(&b);
}

/* a standalone image onto a parent, then onto another one */
static void rebase(void)
{
        struct box b;
        struct qs_writer_options o = box_options;
        struct qs_writer_stats stats;
        char other[KIT_PATH_MAX];

        begin_family(&b);
        CU_ASSERT_EQUAL_FATAL(in_place(b.child, &o, NULL, NULL), 0);
        o.backing = b.parent;
        CU_ASSERT_EQUAL_FATAL(in_place(b.child, &o, &stats, NULL), 0);
        CU_ASSERT(stats.clusters_same > 0 && stats.clusters_raw < 40);
        box_agrees(b.child, b.ram.bytes, 2);

        struct kit_ram ram = box_ram(77);

        kit_path(b.folder, "other", other);
        o.backing = NULL;
        CU_ASSERT_EQUAL_FATAL(kit_save(other, &o, &ram, NULL), 0);
        o.backing = other;
        CU_ASSERT_EQUAL_FATAL(in_place(b.child, &o, NULL, NULL), 0);
        unlink(b.parent);
        box_agrees(b.child, b.ram.bytes, 2);
        same_beside_ram(b.child, &b);
        CU_ASSERT(box_is_marked(other));
        unlink(other);
        free(ram.bytes);
        box_end(&b);
}

static void parents_stay(void)
{
        struct box b;
        struct qs_writer_options o = box_options;
        struct err e = { 0 };

        begin_family(&b);
        CU_ASSERT_EQUAL(in_place(b.parent, &o, NULL, &e), -EBUSY);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "parent of deltas"));
        box_agrees(b.child, b.ram.bytes, 2);
        /* onto itself, and onto its own child */
        o.force = true;
        o.backing = b.parent;
        CU_ASSERT_EQUAL(in_place(b.parent, &o, NULL, &e), -EINVAL);
        o.backing = b.child;
        CU_ASSERT_EQUAL(in_place(b.parent, &o, NULL, &e), -EINVAL);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "rests on"));
        box_agrees(b.child, b.ram.bytes, 2);
        /* when nobody needs it any more */
        o.backing = NULL;
        CU_ASSERT_EQUAL(in_place(b.child, &o, NULL, NULL), 0);
        CU_ASSERT_EQUAL(in_place(b.parent, &o, NULL, NULL), 0);
        CU_ASSERT_FALSE(box_is_marked(b.parent));
        box_agrees(b.child, b.ram.bytes, 1);
        box_end(&b);
}

static void pools_stay(void)
{
        struct box b;
        struct err e = { 0 };

        begin_family(&b);
        unlink(b.child);
        box_repeat_tag(b.parent, 3, 0);
        CU_ASSERT_EQUAL(in_place(b.parent, &box_options, NULL, &e), -EINVAL);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "holds 3 snapshots"));
        box_end(&b);
}

/* While it is rewritten somebody makes a delta of it, which is refused, or saves
 * another state under the name, which stays. */
struct meddler {
        struct box *b;
        bool replaces;
        bool done;
};

static bool meddle(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
        struct meddler *m = ctx;

        (void)done_bytes;
        (void)total_bytes;
        if (!m->done && m->replaces)
                box_make_parent_again(m->b);
        else if (!m->done)
                CU_ASSERT_EQUAL(box_make_child(m->b, NULL), -EBUSY);
        m->done = true;
        return true;
}

static void changes_meanwhile(void)
{
        for (int how = 0; how < 2; how++) {
                struct box b;
                struct meddler m = { &b, how, false };
                struct qs_writer_options o = box_options;
                struct err e = { 0 };

                box_begin(&b);
                o.threads = 1;          /* CUnit's, which asserts */

                struct qs_image *image = open_image(b.parent);

                CU_ASSERT_EQUAL(qs_rewrite_in_place(image, &o, meddle, &m, NULL, &e),
                                m.replaces ? -ESTALE : 0);
                CU_ASSERT_EQUAL(strstr(e.text, "meanwhile") != NULL, m.replaces);
                CU_ASSERT(m.done);
                qs_image_close(image);
                box_agrees(b.parent, b.ram.bytes, 1);
                box_end(&b);
        }
}

static bool cancel(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
        (void)ctx;
        (void)total_bytes;
        return done_bytes == 0;
}

static void cancelled(void)
{
        struct box b;
        struct err e = { 0 };

        begin_family(&b);

        struct qs_image *child = open_image(b.child);

        CU_ASSERT_EQUAL(qs_rewrite_in_place(child, &box_options, cancel, NULL, NULL, &e),
                        -ECANCELED);
        qs_image_close(child);
        box_agrees(b.child, b.ram.bytes, 2);
        box_end(&b);
}

/* A change of the header as QEMU makes it: 'qemu-img rebase -u' is one. */
static void change_header(const char *path, bool forget_parent)
{
        static const uint8_t zeros[12];         /* place and length of its name */
        uint8_t lazy_refcounts = 1;
        AUTO_FD fd = open(path, O_RDWR | O_CLOEXEC);
        int rc = forget_parent ? io_pwrite_full(fd, zeros, sizeof(zeros), 8)
                               : io_pwrite_full(fd, &lazy_refcounts, 1, 87);

        ASSERT(rc == 0);
}

/* Made whole alone it would have zeros where its parent has data. */
static void changed_deltas_keep_their_parent(void)
{
        for (int how = 0; how < 4; how++) {
                struct box b;
                struct qs_writer_options o = box_options;
                struct qs_writer_stats stats;
                struct err e = { 0 };
                size_t n, m;

                begin_family(&b);
                change_header(b.child, how & 1);

                AUTO_FREE uint8_t *before = kit_load(b.child, &n);

                CU_ASSERT_EQUAL(how & 2 ? qs_optimize(b.child, &o, NULL, NULL, &stats, &e)
                                        : qs_compact(b.child, NULL, NULL, &stats, &e), -EINVAL);
                CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "it has a parent"));
                CU_ASSERT_PTR_NOT_NULL(strstr(e.text, b.child));

                AUTO_FREE uint8_t *after = kit_load(b.child, &m);

                CU_ASSERT(n == m && memcmp(before, after, n) == 0);
                box_end(&b);
        }
}

static const CU_TestInfo cases[] = {
        { "into another file", another_file },
        { "flatten", flatten },
        { "rebase", rebase },
        { "what deltas rest on stays", parents_stay },
        { "files with several tags stay", pools_stay },
        { "changed while it is rewritten", changes_meanwhile },
        { "cancelled", cancelled },
        { "changed by another program, with a parent", changed_deltas_keep_their_parent },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-rewrite", cases);
}
