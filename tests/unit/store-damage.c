/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: no flipped bit of a file of ours goes unnoticed by qs_check, no wrong
 *       byte leaves the reader (INV-VERIFIED), no cut file opens.
 * Method: a small image with clusters of all kinds, changed as store-flip.h
 *       says (store-damage-pool.c has several tags). Files cut at every sector. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/check.h"
#include "common/io.h"
#include "qcowstore/imghdr.h"
#include "tests/unit/store-flip.h"
#include "tests/unit/store-kit.h"
#include "tests/unit/store-ram.h"
#include "tests/unit/suite.h"

#define PAGES 16

struct sample {
        uint8_t *model;
        uint8_t *bytes;
        size_t n;
};

/* text, noise and zeros; the last cluster of zstd images is cut by the disk */
static struct sample make_sample(enum qs_compress compress, unsigned bits)
{
        struct qs_writer_options o = {
                .cluster_bits = bits, .compress = compress, .zstd_level = 1, .threads = 1,
                .disk_bytes = PAGES * 4096,
        };
        struct kit_ram ram = { .bytes = calloc(PAGES, 4096), .ranges = 1,
                               .range = { { 0, PAGES * 4096 } } };
        uint64_t state = 77;
        char folder[KIT_PATH_MAX];
        char path[KIT_PATH_MAX];
        struct sample s;

        for (unsigned i = 0; i < PAGES; i++)
                store_ram_page(ram.bytes + i * 4096, 4096, i % 8 == 7 ? 2 : i % 4 ? 1 : 0,
                               &state);
        kit_folder(folder);

        int rc = kit_save(kit_path(folder, "image", path), &o, &ram, NULL);

        ASSERT(rc == 0);
        s.model = ram.bytes;
        s.bytes = kit_load(path, &s.n);
        unlink(path);
        kit_gone(folder);
        return s;
}

static void free_sample(struct sample *s)
{
        free(s->model);
        free(s->bytes);
}

/* Is a change seen, and does the reader stay right? */
static bool noticed(void *ctx, int fd, bool read)
{
        const struct sample *s = ctx;
        struct qs_image *image;
        bool ok = kit_check(fd, 1) != 0;

        if (read && qs_image_open(fd, "image", NULL, &image, NULL) == 0) {
                ok &= qs_image_info(image)->format_version == 2;
                ok &= kit_compare(image, s->model) <= 0;
                qs_image_close(image);
        }
        return ok;
}

static void flips_zstd(void)
{
        struct sample s = make_sample(QS_COMPRESS_ZSTD, 12);

        CU_ASSERT_EQUAL(flip_all(s.bytes, s.n, NULL, noticed, &s), 0);
        free_sample(&s);
}

static void flips_raw(void)
{
        struct sample s = make_sample(QS_COMPRESS_NONE, 13);

        CU_ASSERT_EQUAL(flip_all(s.bytes, s.n, NULL, noticed, &s), 0);
        free_sample(&s);
}

static void truncated(void)
{
        struct sample s = make_sample(QS_COMPRESS_ZSTD, 12);

        for (size_t n = 0; n < s.n; n += 512) {
                AUTO_FD fd = kit_file(s.bytes, n);
                struct qs_image *image;
                struct err e = { 0 };

                CU_ASSERT_EQUAL(qs_image_open(fd, "cut", NULL, &image, &e), -EBADMSG);
                CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "image 'cut': "));
                CU_ASSERT(kit_check(fd, 0) > 0);
        }
        free_sample(&s);
}

/* cut while it is open: an error, no signal */
static void truncated_while_open(void)
{
        struct sample s = make_sample(QS_COMPRESS_ZSTD, 12);
        AUTO_FD fd = kit_file(s.bytes, s.n);
        struct qs_image *image;

        CU_ASSERT_EQUAL_FATAL(qs_image_open(fd, "image", NULL, &image, NULL), 0);
        CU_ASSERT_EQUAL(ftruncate(fd, 4096), 0);
        CU_ASSERT_EQUAL(kit_compare(image, s.model), -EBADMSG);
        qs_image_close(image);
        free_sample(&s);
}

static void newer_version(void)
{
        struct sample s = make_sample(QS_COMPRESS_NONE, 12);
        struct qs_image *image;
        struct qs_check_report report;
        struct err e = { 0 };

        put_le32(s.bytes + 120, 9);
        imghdr_seal(s.bytes);

        AUTO_FD fd = kit_file(s.bytes, s.n);

        CU_ASSERT_EQUAL(qs_image_open(fd, "new", NULL, &image, &e), -ENOTSUP);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "image 'new': the file has format version 9"));
        CU_ASSERT_EQUAL(qs_check(fd, "new", false, NULL, NULL, NULL, NULL, &report, &e), -ENOTSUP);
        free_sample(&s);
}

/* An L2 table is compared with HOSTSUMS before anything of it is believed. */
static void damaged_l2(void)
{
        struct sample s = make_sample(QS_COMPRESS_NONE, 12);
        struct imghdr h;
        struct qs_image *image;
        struct qs_reader *r;
        enum qs_kind kind;
        struct err e = { 0 };

        CU_ASSERT_EQUAL_FATAL(imghdr_parse(s.bytes, 4096, &h, NULL), 0);

        uint64_t l2 = get_be64(s.bytes + h.l1_offset);

        s.bytes[l2 + 8 + 6] ^= 0x10;            /* cluster 1 lies elsewhere, still aligned */

        AUTO_FD fd = kit_file(s.bytes, s.n);

        CU_ASSERT_EQUAL_FATAL(qs_image_open(fd, "image", NULL, &image, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(qs_reader_new(image, &r, NULL), 0);
        CU_ASSERT_EQUAL(qs_cluster_kind(r, 2, &kind, &e), -EBADMSG);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text,
                                      "image 'image', guest memory at 0x2000: an L2 table"));
        qs_reader_free(r);
        qs_image_close(image);
        free_sample(&s);
}

struct wanted {
        const char *text;
        bool seen;
};

static void look_for(void *ctx, const char *text)
{
        struct wanted *w = ctx;

        w->seen |= strstr(text, w->text) != NULL;
}

/* A user wants to know which memory is lost. */
static void names_guest_memory(void)
{
        struct sample s = make_sample(QS_COMPRESS_NONE, 12);
        struct imghdr h;
        struct wanted data = { .text = "guest memory at 0x5000: its data do not match" };
        struct wanted entry = { .text = "the active layer, guest memory at 0x5000: an L2 entry" };
        struct qs_check_report report;

        CU_ASSERT_EQUAL_FATAL(imghdr_parse(s.bytes, 4096, &h, NULL), 0);

        uint64_t l2 = get_be64(s.bytes + h.l1_offset) & ~(1ull << 63);
        uint64_t at = get_be64(s.bytes + l2 + 5 * 8);
        AUTO_FD fd = -1;

        s.bytes[at + 77] ^= 1;
        fd = kit_file(s.bytes, s.n);
        CU_ASSERT_EQUAL(qs_check(fd, "x", true, look_for, &data, NULL, NULL, &report, NULL), 0);
        CU_ASSERT(data.seen);
        fd_close(&fd);
        s.bytes[l2 + 5 * 8 + 7] ^= 2;           /* a reserved bit */
        fd = kit_file(s.bytes, s.n);
        CU_ASSERT_EQUAL(qs_check(fd, "x", false, look_for, &entry, NULL, NULL, &report, NULL), 0);
        CU_ASSERT(entry.seen);
        free_sample(&s);
}

struct seen {
        unsigned n;
        bool overflowed;
};

static void count_findings(void *ctx, const char *text)
{
        struct seen *seen = ctx;

        seen->n++;
        if (strstr(text, "only counted"))
                seen->overflowed = true;
}

/* A refcount block wiped out: one finding per cluster, few of them listed. */
static void many_findings(void)
{
        struct sample s = make_sample(QS_COMPRESS_NONE, 12);
        struct imghdr h;
        struct seen seen = { 0 };
        struct qs_check_report report;

        CU_ASSERT_EQUAL_FATAL(imghdr_parse(s.bytes, 4096, &h, NULL), 0);

        uint64_t block = get_be64(s.bytes + h.reftable_offset);

        for (unsigned i = 0; i < 1024; i++)
                put_be32(s.bytes + block + i * 4, 9);

        AUTO_FD fd = kit_file(s.bytes, s.n);

        CU_ASSERT_EQUAL(qs_check(fd, "x", true, count_findings, &seen, NULL, NULL, &report, NULL),
                        0);
        CU_ASSERT_EQUAL(report.leaks, 1024);
        CU_ASSERT_EQUAL(report.corruptions, 1);         /* the block's own sum */
        CU_ASSERT(seen.n == 101 && seen.overflowed);
        free_sample(&s);
}

static const CU_TestInfo cases[] = {
        { "no flipped bit goes unnoticed, zstd", flips_zstd },
        { "no flipped bit goes unnoticed, raw", flips_raw },
        { "a cut file does not open", truncated },
        { "a file cut while open gives errors", truncated_while_open },
        { "a newer version is named", newer_version },
        { "a damaged L2 table", damaged_l2 },
        { "guest memory is named", names_guest_memory },
        { "findings are bounded", many_findings },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-damage", cases);
}
