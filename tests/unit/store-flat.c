/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a flat file in parts becomes an image with memory where the parts say, and the
 *       same file again; a second file appears with it or neither does.
 * Method: parts with edges inside clusters, several cluster sizes, against the flat
 *         bytes; names that are taken before and during the work. */
#include <CUnit/CUnit.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "tests/unit/expect.h"
#include "tests/unit/store-kit.h"
#include "tests/unit/store-ram.h"
#include "tests/unit/suite.h"

#define FLAT_BYTES (5u << 20)

/* one page beyond a cluster's end, side by side, far away */
static const struct qs_flat_part parts[] = {
        { 0, (2 << 20) + 4096, 0 },
        { (2 << 20) + 4096, 4096, (2 << 20) + 4096 },
        { (4 << 20) - 4096, (1 << 20) - 4096, (2 << 20) + 8192 },
        { 1ull << 38, (2 << 20) - 4096, (3 << 20) + 4096 },
};
static const struct qs_blob sections[] = { { "ONE", "first", 5 }, { "TWO", "", 0 } };

struct box {
        char folder[KIT_PATH_MAX];
        char raw[KIT_PATH_MAX];
        char image[KIT_PATH_MAX];
        char back[KIT_PATH_MAX];
        char beside[KIT_PATH_MAX];
        uint8_t *bytes;
};

static void write_file(const char *path, const void *data, size_t n)
{
        AUTO_FD fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        ASSERT(fd >= 0 && io_write_full(fd, data, n) == 0);
}

static void open_box(struct box *b)
{
        kit_folder(b->folder);
        kit_path(b->folder, "raw", b->raw);
        kit_path(b->folder, "image", b->image);
        kit_path(b->folder, "back", b->back);
        kit_path(b->folder, "beside", b->beside);
        b->bytes = calloc(1, FLAT_BYTES);
        ASSERT(b->bytes);
        store_ram_fill(b->bytes, FLAT_BYTES, 5);
        write_file(b->raw, b->bytes, FLAT_BYTES);
}

/* all that it had must have been there */
static void close_box(struct box *b, bool has_image)
{
        unlink(b->raw);
        CU_ASSERT_EQUAL(unlink(b->image), has_image ? 0 : -1);
        CU_ASSERT(kit_gone(b->folder));
        free(b->bytes);
}

static int import(const struct box *b, const struct qs_flat_part *p, size_t n, unsigned bits,
                  struct err *e)
{
        const struct qs_flat flat = { b->raw, p, n };
        const struct qs_writer_options o = { .cluster_bits = bits, .threads = 2 };
        struct qs_writer_stats stats;
        int rc = qs_import_flat(&flat, sections, ARRAY_SIZE(sections), b->image, &o, NULL, NULL,
                                &stats, e);

        if (rc == 0)
                CU_ASSERT_EQUAL(stats.ram_bytes, FLAT_BYTES);
        return rc;
}

static void memory_is_where_the_parts_say(struct qs_image *image, const uint8_t *bytes)
{
        AUTO_FREE uint8_t *got = malloc(2 << 20);
        struct qs_reader *r;
        bool zero;

        ASSERT(got && qs_reader_new(image, &r, NULL) == 0);
        for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
                for (uint64_t at = 0; at < parts[i].bytes; at += 4096) {
                        memset(got, 0, 4096);
                        CU_ASSERT_EQUAL_FATAL(qs_span_read(r, parts[i].gpa + at, 4096, got, &zero,
                                                           NULL), 0);
                        CU_ASSERT_EQUAL(memcmp(got, bytes + parts[i].offset + at, 4096), 0);
                }
        /* the gap behind the second */
        memset(got, 0, 4096);
        CU_ASSERT_EQUAL(qs_span_read(r, (2 << 20) + 8192, 4096, got, &zero, NULL), 0);
        CU_ASSERT_EQUAL(got[0] | got[4095], 0);
        qs_reader_free(r);
}

static void section_is(struct qs_image *image, const struct qs_blob *want)
{
        AUTO_FREE void *data = NULL;
        struct qs_reader *r;
        size_t n;

        ASSERT(qs_reader_new(image, &r, NULL) == 0);
        CU_ASSERT_EQUAL(qs_section_read(r, want->name, &data, &n, NULL), 0);
        CU_ASSERT(n == want->bytes && !memcmp(data, want->data, n));
        qs_reader_free(r);
}

static void file_is(const char *path, const void *want, size_t bytes)
{
        size_t n;
        AUTO_FREE uint8_t *got = kit_load(path, &n);

        CU_ASSERT_EQUAL(n, bytes);
        CU_ASSERT(n == bytes && !memcmp(got, want, n));
}

static void there_and_back(void)
{
        static const unsigned bits[] = { 12, 14, 21 };
        const struct qs_blob blob = { NULL, "beside", 6 };

        for (size_t i = 0; i < ARRAY_SIZE(bits); i++) {
                struct box b;
                struct qs_image *image;

                open_box(&b);
                CU_ASSERT_EQUAL_FATAL(import(&b, parts, ARRAY_SIZE(parts), bits[i], NULL), 0);
                CU_ASSERT_EQUAL_FATAL(qs_image_open_path(b.image, NULL, &image, NULL), 0);
                CU_ASSERT_EQUAL(qs_image_info(image)->disk_bytes,
                                parts[3].gpa + parts[3].bytes);
                memory_is_where_the_parts_say(image, b.bytes);
                section_is(image, &sections[0]);
                section_is(image, &sections[1]);

                const struct qs_flat back = { b.back, parts, ARRAY_SIZE(parts) };
                struct qs_blob beside = blob;

                beside.name = b.beside;
                CU_ASSERT_EQUAL(qs_export_flat(image, &back, &beside, false, NULL, NULL, NULL),
                                0);
                file_is(b.back, b.bytes, FLAT_BYTES);
                file_is(b.beside, "beside", 6);
                qs_image_close(image);
                unlink(b.back);
                unlink(b.beside);
                close_box(&b, true);
        }
}

static void lengths_must_agree(void)
{
        const struct qs_flat_part longer = { 0, FLAT_BYTES + 4096, 0 };
        const struct qs_flat_part shorter = { 0, FLAT_BYTES - 4096, 0 };
        struct qs_flat_part many[QS_RAM_RANGES_MAX + 1];
        struct box b;
        struct err e = { 0 };

        open_box(&b);
        CU_ASSERT_EQUAL(import(&b, &longer, 1, 14, &e), -EINVAL);
        EXPECT_TEXT("longer", strstr(e.text, "raw' has 5242880 bytes, not the 5246976 of") ?
                    "" : e.text, "");
        CU_ASSERT_EQUAL(import(&b, &shorter, 1, 14, NULL), -EINVAL);
        for (size_t i = 0; i < ARRAY_SIZE(many); i++)
                many[i] = (struct qs_flat_part){ i << 20, 4096, i * 4096 };
        many[QS_RAM_RANGES_MAX].bytes = FLAT_BYTES - QS_RAM_RANGES_MAX * 4096;
        CU_ASSERT_EQUAL(import(&b, many, ARRAY_SIZE(many), 14, &e), -EINVAL);
        EXPECT_TEXT("many", strstr(e.text, "more than 16 regions") ? "" : e.text, "");
        close_box(&b, false);
}

/* takes the name of the second file while the first is written */
static bool take_name(void *ctx, uint64_t done, uint64_t total)
{
        (void)done;
        (void)total;
        write_file(ctx, "other", 5);
        return true;
}

static void both_or_neither(void)
{
        struct box b;
        struct qs_image *image;

        open_box(&b);
        CU_ASSERT_EQUAL_FATAL(import(&b, parts, ARRAY_SIZE(parts), 14, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(qs_image_open_path(b.image, NULL, &image, NULL), 0);

        const struct qs_flat back = { b.back, parts, ARRAY_SIZE(parts) };
        const struct qs_blob beside = { b.beside, "beside", 6 };

        /* while it works */
        CU_ASSERT_EQUAL(qs_export_flat(image, &back, &beside, false, take_name, b.beside, NULL),
                        -EEXIST);
        CU_ASSERT_EQUAL(access(b.back, F_OK), -1);
        file_is(b.beside, "other", 5);
        /* from the beginning */
        CU_ASSERT_EQUAL(qs_export_flat(image, &back, &beside, false, NULL, NULL, NULL), -EEXIST);
        CU_ASSERT_EQUAL(access(b.back, F_OK), -1);
        CU_ASSERT_EQUAL(qs_export_blob(&beside, false, NULL), -EEXIST);
        file_is(b.beside, "other", 5);
        /* on purpose */
        CU_ASSERT_EQUAL(qs_export_flat(image, &back, &beside, true, NULL, NULL, NULL), 0);
        file_is(b.beside, "beside", 6);
        unlink(b.beside);
        /* the first */
        CU_ASSERT_EQUAL(qs_export_flat(image, &back, &beside, false, NULL, NULL, NULL), -EEXIST);
        CU_ASSERT_EQUAL(access(b.beside, F_OK), -1);
        CU_ASSERT_EQUAL(qs_export_blob(&beside, false, NULL), 0);
        file_is(b.beside, "beside", 6);
        qs_image_close(image);
        unlink(b.beside);
        unlink(b.back);
        close_box(&b, true);
}

static const CU_TestInfo cases[] = {
        { "a file in parts goes there and back", there_and_back },
        { "a file must be as long as its parts", lengths_must_agree },
        { "two files appear or none", both_or_neither },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("flat", cases);
}
