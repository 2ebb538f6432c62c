/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a tag is not replaced under a reader's feet, whenever he comes (INV-TAG);
 *       nobody adds anything to a pool while another one does, and neither loses
 *       what was there.
 * Method: writers are stopped between their steps, and readers try to come in;
 *       with and without an index of contents, which makes the writer open all tags. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "qcowstore/imghdr.h"
#include "qcowstore/snaptable.h"
#include "qcowstore/sum.h"
#include "tests/unit/expect.h"
#include "tests/unit/store-tags.h"
#include "tests/unit/suite.h"

#define PAGES 40
#define BYTES (PAGES * 4096ull)

/* a pool of so many tags; the first change after the first tag makes the index */
static void make(struct tags *t, unsigned tags)
{
        static const char *const names[] = { "a", "b", "c" };

        tags_init(t, 12, BYTES, 5);
        for (unsigned i = 0; i < tags; i++) {
                uint8_t *ram = tags_ram(t, i ? "a" : NULL);

                tags_scribble(t, ram, i ? 5 : PAGES);

                int rc = tags_save(t, names[i], ram, NULL);

                ASSERT(rc == 0);
        }
}

static int open_tag(const struct tags *t, const char *tag, struct qs_image **ret)
{
        AUTO_FD fd = kit_open(t->path);

        return qs_image_open(fd, t->path, tag, ret, NULL);
}

static int can_open(const struct tags *t, const char *tag)
{
        struct qs_image *image = NULL;
        int rc = open_tag(t, tag, &image);

        qs_image_close(image);
        return rc;
}

static struct qs_writer *start(struct tags *t, const char *tag, struct err *e)
{
        struct qs_writer *w = NULL;

        snprintf(t->options.tag, sizeof(t->options.tag), "%s", tag);
        t->options.force = true;
        return qs_writer_new(t->path, &t->options, &w, e) < 0 ? NULL : w;
}

static int put_ram(const struct tags *t, struct qs_writer *w, uint8_t *bytes, struct err *e)
{
        struct kit_ram ram = { .bytes = bytes };
        struct qs_ram_source source = kit_source(&ram);

        return qs_writer_ram(w, t->range, t->ranges, &source, NULL, NULL, e);
}

static void nobody_comes_in(unsigned tags)
{
        struct tags t;
        struct err e = { 0 };

        make(&t, tags);

        AUTO_FREE uint8_t *ram = tags_ram(&t, NULL);
        struct qs_writer *w = start(&t, "a", &e);

        CU_ASSERT_PTR_NOT_NULL_FATAL(w);
        EXPECT_EQUAL("new", can_open(&t, "a"), -EBUSY);
        CU_ASSERT_EQUAL(put_ram(&t, w, ram, &e), 0);
        EXPECT_EQUAL("ram", can_open(&t, "a"), -EBUSY);
        if (tags > 1)
                EXPECT_EQUAL("another tag", can_open(&t, "b"), 0);
        CU_ASSERT_EQUAL(qs_writer_publish(w, &e), 0);
        qs_writer_free(w);
        EXPECT_EQUAL("done", can_open(&t, "a"), 0);
        CU_ASSERT(tags_fini(&t));
}

static void locked_out(void)
{
        nobody_comes_in(1);
        nobody_comes_in(2);
}

/* A reader who is there is in the way, and goes on reading. */
static void reader_first(void)
{
        struct tags t;
        struct qs_image *image = NULL;

        for (unsigned tags = 1; tags <= 3; tags++) {
                struct err e = { 0 };

                make(&t, tags);
                CU_ASSERT_EQUAL_FATAL(open_tag(&t, "a", &image), 0);
                CU_ASSERT_PTR_NULL(start(&t, "a", &e));
                CU_ASSERT_EQUAL(e.code, -EBUSY);
                CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "in use"));
                if (tags > 1)
                        CU_ASSERT_EQUAL(tags_delete(&t, "a", NULL), -EBUSY);
                CU_ASSERT_EQUAL(tags_wrong(&t, true), 0);
                CU_ASSERT_EQUAL(tags_differ(&t, &t.tag[0], image), 0);
                qs_image_close(image);
                CU_ASSERT(tags_fini(&t));
        }
}

/* Two who add: the second one is told, and nothing of the first one's is lost. */
static void two_appenders(void)
{
        struct tags t;
        struct err e = { 0 };

        make(&t, 2);

        AUTO_FREE uint8_t *ram = tags_ram(&t, "a");
        struct qs_writer *w = start(&t, "x", &e);

        CU_ASSERT_PTR_NOT_NULL_FATAL(w);
        CU_ASSERT_PTR_NULL(start(&t, "y", &e));
        CU_ASSERT_EQUAL(e.code, -EBUSY);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, t.path));
        CU_ASSERT_EQUAL(tags_delete(&t, "a", NULL), -EBUSY);
        CU_ASSERT_EQUAL(put_ram(&t, w, ram, &e), 0);
        CU_ASSERT_EQUAL(qs_writer_publish(w, &e), 0);
        qs_writer_free(w);
        EXPECT_EQUAL("x", can_open(&t, "x"), 0);
        CU_ASSERT_EQUAL(tags_delete(&t, "a", NULL), 0);
        CU_ASSERT(tags_fini(&t));
}

/* Who adds to a file that gets another name meanwhile is told. */
static void moved_away(void)
{
        struct tags t;
        struct err e = { 0 };
        char other[KIT_PATH_MAX + 8];

        make(&t, 2);

        AUTO_FREE uint8_t *ram = tags_ram(&t, "a");
        struct qs_writer *w = start(&t, "x", &e);

        CU_ASSERT_PTR_NOT_NULL_FATAL(w);
        CU_ASSERT_EQUAL(put_ram(&t, w, ram, &e), 0);
        snprintf(other, sizeof(other), "%s.old", t.path);
        CU_ASSERT_EQUAL(rename(t.path, other), 0);
        CU_ASSERT_EQUAL(qs_writer_publish(w, &e), -ESTALE);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "was replaced meanwhile"));
        qs_writer_free(w);
        CU_ASSERT_EQUAL(rename(other, t.path), 0);
        CU_ASSERT_EQUAL(tags_wrong(&t, true), 0);
        CU_ASSERT(tags_fini(&t));
}

/* the last number there is */
static void set_last_id(const struct tags *t)
{
        size_t n;
        AUTO_FREE uint8_t *file = kit_load(t->path, &n);
        AUTO_FD fd = open(t->path, O_RDWR | O_CLOEXEC);
        struct imghdr h;
        struct snapshot s;
        uint8_t entry[LAYOUT_SNAPSHOT_BYTES_MAX];
        uint8_t sector[LAYOUT_SECTOR_BYTES];
        size_t bytes;
        int rc = imghdr_parse(file, n, &h, NULL);

        ASSERT(rc == 0 && h.snapshots == 1 && fd >= 0);
        rc = snaptable_parse(file + h.snaptable_offset, n - h.snaptable_offset, h.cluster_bits,
                             &s, &bytes, NULL);
        ASSERT(rc == 0);
        strcpy(s.id, "4294967295");
        bytes = snaptable_encode(&s, entry);
        h.snaptable_sum = sum_bytes(entry, bytes, h.hash_seed);
        imghdr_encode(&h, sector);
        rc = io_pwrite_full(fd, entry, bytes, h.snaptable_offset);
        ASSERT(rc == 0);
        rc = io_pwrite_full(fd, sector, sizeof(sector), 0);
        ASSERT(rc == 0);
}

/* No tag is published that nobody could open. */
static void last_id(void)
{
        struct tags t;
        struct err e = { 0 };
        struct qs_writer_stats stats;

        make(&t, 1);
        set_last_id(&t);
        CU_ASSERT_EQUAL(tags_wrong(&t, true), 0);
        CU_ASSERT_EQUAL(tags_save(&t, "b", tags_ram(&t, NULL), &e), -ENOSPC);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "compact"));
        CU_ASSERT_EQUAL(qs_compact(t.path, NULL, NULL, &stats, &e), 0);
        CU_ASSERT_EQUAL(tags_save(&t, "b", tags_ram(&t, NULL), &e), 0);
        CU_ASSERT_EQUAL(tags_wrong(&t, true), 0);
        CU_ASSERT(tags_fini(&t));
}

static const CU_TestInfo cases[] = {
        { "nobody opens a tag that is being replaced", locked_out },
        { "a tag that is read is not replaced", reader_first },
        { "two who add to one file", two_appenders },
        { "the numbers of snapshots are used up", last_id },
        { "a file that is moved away while it is added to", moved_away },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-replace", cases);
}
