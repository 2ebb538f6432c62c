/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: no flipped bit of a file with several tags goes unnoticed by qs_check(),
 *       whichever tag it belongs to or the file itself; the other tags are still
 *       looked at; a file that another program changed is told from a damaged one.
 * Method: a pool of three tags that share clusters, one of them added raw and one
 *       compressed, changed as store-flip.h says wherever a cluster is in use. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/check.h"
#include "common/io.h"
#include "qcowstore/imghdr.h"
#include "qcowstore/snaptable.h"
#include "tests/unit/store-flip.h"
#include "tests/unit/store-kit.h"
#include "tests/unit/store-ram.h"
#include "tests/unit/suite.h"

#define PAGES 16
#define TAGS 3
#define FINDINGS_MAX 200

static const char *const tags[TAGS] = { "one", "two", "three" };

struct pool_file {
        uint8_t *model[TAGS];
        uint8_t *bytes;
        size_t n;
        bool *in_use;                   /* per cluster of 4 KiB */
        struct imghdr h;
        struct snapshot tag[TAGS];
        size_t snaptable_bytes;
};

static uint8_t *ram_of_tag(unsigned tag)
{
        uint8_t *ram = calloc(PAGES, 4096);
        uint64_t state = 77;

        ASSERT(ram);
        for (unsigned i = 0; i < PAGES; i++)
                store_ram_page(ram + i * 4096, 4096, i % 8 == 7 ? 2 : i % 4 ? 1 : 0, &state);
        state += tag;
        for (unsigned i = 0; tag && i < 3; i++)         /* what is different */
                store_ram_page(ram + (5 * i + tag) * 4096, 4096, 1 + i % 2, &state);
        return ram;
}

/* with the counts of the file itself: the checker is on trial */
static void find_used(struct pool_file *p)
{
        uint64_t table = p->h.reftable_offset;

        p->in_use = calloc(p->n / 4096, sizeof(bool));
        ASSERT(p->in_use);
        for (size_t i = 0; i < p->n / 4096; i++) {
                uint64_t block = get_be64(p->bytes + table + i / 1024 * 8);

                p->in_use[i] = get_be32(p->bytes + block + i % 1024 * 4) > 0;
        }
}

static void parse(struct pool_file *p)
{
        size_t at = p->snaptable_bytes = 0;
        int rc = imghdr_parse(p->bytes, p->n, &p->h, NULL);

        ASSERT(rc == 0 && p->h.snapshots == TAGS && p->h.cluster_bits == 12);
        for (unsigned i = 0; i < TAGS; i++) {
                size_t bytes;

                at = p->h.snaptable_offset + p->snaptable_bytes;
                rc = snaptable_parse(p->bytes + at, p->n - at, 12, &p->tag[i], &bytes, NULL);
                ASSERT(rc == 0);
                p->snaptable_bytes += bytes;
        }
        find_used(p);
}

static void make_pool(struct pool_file *p)
{
        char folder[KIT_PATH_MAX];
        char path[KIT_PATH_MAX];

        kit_folder(folder);
        kit_path(folder, "pool", path);
        for (unsigned i = 0; i < TAGS; i++) {
                struct qs_writer_options o = {
                        .cluster_bits = 12, .zstd_level = 1, .threads = 1, .append = i > 0,
                        .compress = i == 1 ? QS_COMPRESS_NONE : QS_COMPRESS_ZSTD,
                        .disk_bytes = PAGES * 4096,
                };
                struct kit_ram ram = { .ranges = 1, .range = { { 0, PAGES * 4096 } } };
                struct err e = { 0 };

                strcpy(o.tag, tags[i]);
                ram.bytes = p->model[i] = ram_of_tag(i);

                int rc = kit_save(path, &o, &ram, &e);

                if (rc < 0)
                        fprintf(stderr, "%s\n", e.text);
                ASSERT(rc == 0);
        }
        p->bytes = kit_load(path, &p->n);
        unlink(path);
        kit_gone(folder);
        parse(p);
}

static void free_pool(struct pool_file *p)
{
        for (unsigned i = 0; i < TAGS; i++)
                free(p->model[i]);
        free(p->bytes);
        free(p->in_use);
}

static bool noticed(void *ctx, int fd, bool read)
{
        const struct pool_file *p = ctx;
        bool ok = kit_check(fd, 1) != 0;

        for (unsigned i = 0; read && i < TAGS; i++) {
                struct qs_image *image;

                if (qs_image_open(fd, "pool", tags[i], &image, NULL) < 0)
                        continue;
                ok &= kit_compare(image, p->model[i]) <= 0;
                qs_image_close(image);
        }
        return ok;
}

static void clean(void)
{
        struct pool_file p;

        make_pool(&p);

        AUTO_FD fd = kit_file(p.bytes, p.n);

        CU_ASSERT_EQUAL(kit_check(fd, 0), 0);
        CU_ASSERT_EQUAL(kit_check(fd, 1), 0);
        for (unsigned i = 0; i < TAGS; i++) {
                struct qs_image *image;

                CU_ASSERT_EQUAL_FATAL(qs_image_open(fd, "pool", tags[i], &image, NULL), 0);
                CU_ASSERT_EQUAL(kit_compare(image, p.model[i]), 0);
                qs_image_close(image);
        }
        free_pool(&p);
}

static void flips(void)
{
        struct pool_file p;

        make_pool(&p);
        CU_ASSERT_EQUAL(flip_all(p.bytes, p.n, p.in_use, noticed, &p), 0);
        free_pool(&p);
}

/* Metadata alone, without contents: whatever lies in a table is seen by check,
 * too. */
static bool check_sees(const struct pool_file *p, uint64_t at, uint8_t mask)
{
        AUTO_FD fd = kit_file(p->bytes, p->n);
        uint8_t bad = p->bytes[at] ^ mask;

        io_pwrite_full(fd, &bad, 1, at);
        return kit_check(fd, 0) != 0;
}

static void check_is_enough(void)
{
        struct pool_file p;

        make_pool(&p);

        uint64_t l2 = get_be64(p.bytes + p.tag[0].l1_offset);
        const uint64_t places[] = {
                p.h.l1_offset + 7, p.h.l1_offset + 4000, p.h.reftable_offset + 100,
                get_be64(p.bytes + p.h.reftable_offset) + 4095, p.h.snaptable_offset + 16,
                p.h.snaptable_offset + 4095, p.tag[0].l1_offset + 4095, l2 + 4095, 600,
        };

        for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
                CU_ASSERT(check_sees(&p, places[i], 1));
                if (!check_sees(&p, places[i], 1))
                        fprintf(stderr, "place %zu\n", i);
        }
        free_pool(&p);
}

struct texts {
        char text[FINDINGS_MAX][128];
        unsigned n;
};

static void keep_text(void *ctx, const char *text)
{
        struct texts *t = ctx;

        if (t->n < FINDINGS_MAX)
                snprintf(t->text[t->n++], sizeof(t->text[0]), "%s", text);
}

static bool has(const struct texts *t, const char *part)
{
        for (unsigned i = 0; i < t->n; i++) {
                if (strstr(t->text[i], part))
                        return true;
        }
        return false;
}

/* One tag's section table is gone: what is wrong with others is still said. */
static void others_are_looked_at(void)
{
        struct pool_file p;
        struct texts t = { .n = 0 };
        struct qs_check_report report;

        make_pool(&p);

        uint64_t l2 = get_be64(p.bytes + p.tag[0].l1_offset);
        uint64_t shared = get_be64(p.bytes + l2 + 13 * 8);      /* of all three */
        uint64_t state_l2 = get_be64(p.bytes + p.tag[1].l1_offset + 8);
        uint64_t toc = get_be64(p.bytes + state_l2);

        CU_ASSERT(shared >> 62 == 1);                   /* compressed */
        p.bytes[(shared & ((1ull << 58) - 1)) + 20] ^= 1;
        p.bytes[toc + 9] ^= 1;

        AUTO_FD fd = kit_file(p.bytes, p.n);

        CU_ASSERT_EQUAL(qs_check(fd, "p", true, keep_text, &t, NULL, NULL, &report, NULL), 0);
        CU_ASSERT(has(&t, "snapshot 'two': the section table does not match its checksum"));
        CU_ASSERT(has(&t, "snapshot 'one', guest memory at 0xd000: its data do not match"));
        CU_ASSERT(has(&t, "snapshot 'three', guest memory at 0xd000: its data do not match"));
        CU_ASSERT(!report.changed);
        free_pool(&p);
}

/* As QEMU leaves it: the header's sum wrong. */
static void changed(void)
{
        struct pool_file p;
        struct texts t = { .n = 0 };
        struct qs_check_report report;
        struct qs_snapshot_info *list;
        struct qs_image *image;
        size_t n;

        make_pool(&p);
        p.bytes[87] |= 1;
        p.bytes[p.h.snaptable_offset + 17] ^= 1;                /* a date */

        AUTO_FD fd = kit_file(p.bytes, p.n);

        CU_ASSERT_EQUAL(qs_check(fd, "p", true, keep_text, &t, NULL, NULL, &report, NULL), 0);
        CU_ASSERT(report.changed && report.corruptions + report.leaks == 0);
        CU_ASSERT_EQUAL_FATAL(qs_snapshot_list(fd, "p", &list, &n, NULL), 0);
        CU_ASSERT(n == TAGS && list[0].changed);
        free(list);
        CU_ASSERT_EQUAL_FATAL(qs_image_open(fd, "p", NULL, &image, NULL), 0);
        CU_ASSERT(qs_image_info(image)->changed);
        CU_ASSERT_EQUAL(kit_compare(image, p.model[TAGS - 1]), 0);
        qs_image_close(image);

        /* the tags are compared as ever */
        uint64_t l2 = get_be64(p.bytes + p.tag[2].l1_offset);
        uint8_t bad = p.bytes[l2 + 9] ^ 1;

        io_pwrite_full(fd, &bad, 1, l2 + 9);
        CU_ASSERT_EQUAL(qs_check(fd, "p", false, keep_text, &t, NULL, NULL, &report, NULL), 0);
        CU_ASSERT(report.changed && report.corruptions > 0);
        free_pool(&p);
}

static const CU_TestInfo cases[] = {
        { "a pool is clean", clean },
        { "no flipped bit goes unnoticed", flips },
        { "check sees damage of tables", check_is_enough },
        { "a damaged tag does not hide others", others_are_looked_at },
        { "changed by another program", changed },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-damage-pool", cases);
}
