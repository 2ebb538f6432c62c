/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: RAM that is taken again leaves nothing behind in the file but what is in use; what
 *       goes wrong is said and nothing published; what the disk does not give back as it
 *       was written is not read back.
 * Method: noise in the place of noise, and what the file system says of the file; failing
 *       sources; bytes that change under a writer. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/check.h"
#include "common/io.h"
#include "qcowstore/writer-priv.h"
#include "tests/unit/expect.h"
#include "tests/unit/store-box.h"
#include "tests/unit/store-ram.h"
#include "tests/unit/suite.h"

#define PAGE 4096u
#define MIB (1u << 20)
/* ends within a chunk */
#define RAM_BYTES (5 * MIB + 3 * PAGE)

static struct kit_ram new_ram(uint64_t gpa, uint64_t bytes)
{
        struct kit_ram ram = { .bytes = calloc(1, gpa + bytes), .ranges = 1,
                               .range = { { gpa, bytes } } };

        ASSERT(ram.bytes);
        store_ram_fill(ram.bytes + gpa, bytes, 5);
        return ram;
}

static struct qs_writer_options options_for(const struct kit_ram *ram, unsigned bits,
                                            enum qs_compress compress)
{
        return (struct qs_writer_options){
                .cluster_bits = bits, .compress = compress, .zstd_level = 1, .threads = 3,
                .disk_bytes = ram->range[0].gpa + ram->range[0].bytes, .tag = "t",
        };
}

static void noise(struct kit_ram *ram, uint64_t seed)
{
        uint64_t state = seed * 2 + 1;

        for (uint64_t at = 0; at < ram->range[0].bytes; at += PAGE)
                store_ram_page(ram->bytes + at, PAGE, 2, &state);
}

/* However often all of it is taken, the file has room for two of it, and data of one. */
static void space_is_used_again(void)
{
        char folder[KIT_PATH_MAX], path[KIT_PATH_MAX];

        kit_folder(folder);
        kit_path(folder, "image", path);
        for (unsigned bits = 12; bits <= 18; bits += 3) {
                struct kit_ram ram = new_ram(0, RAM_BYTES);
                struct qs_writer_options o = options_for(&ram, bits, QS_COMPRESS_ZSTD);
                struct qs_ram_source source = kit_source(&ram);
                struct qs_writer *w = box_writer(path, &o);
                struct qs_writer_stats stats;
                struct stat st;

                noise(&ram, 0);
                CU_ASSERT_EQUAL(qs_writer_ram(w, ram.range, 1, &source, NULL, NULL, NULL), 0);
                for (unsigned i = 1; i < 9; i++) {
                        noise(&ram, i);
                        CU_ASSERT_EQUAL(qs_writer_again(w, ram.range, 1, &source, NULL, NULL,
                                                        NULL), 0);
                }
                box_publish(w, path, ram.bytes, &stats);
                CU_ASSERT(stats.file_bytes < 2 * o.disk_bytes + 2 * MIB + (20u << bits));
                CU_ASSERT_EQUAL_FATAL(stat(path, &st), 0);
                CU_ASSERT((uint64_t)st.st_blocks * 512 < o.disk_bytes + MIB + (20u << bits));
                CU_ASSERT_EQUAL(stats.clusters_raw + stats.clusters_packed,
                                DIV_ROUND_UP(o.disk_bytes, 1u << bits));
                unlink(path);
                free(ram.bytes);
        }
        CU_ASSERT(kit_gone(folder));
}

/* What comes back to what it was costs nothing; what becomes zero leaves no table. */
static void nothing_is_left(void)
{
        char folder[KIT_PATH_MAX], path[KIT_PATH_MAX];
        struct kit_ram ram = new_ram(0, RAM_BYTES);
        struct qs_writer_options o = options_for(&ram, 12, QS_COMPRESS_NONE);
        struct qs_ram_source source = kit_source(&ram);
        struct qs_writer_stats plain, stats;
        struct qs_writer *w;

        kit_folder(folder);
        kit_path(folder, "image", path);
        w = box_writer(path, &o);
        CU_ASSERT_EQUAL(qs_writer_ram(w, ram.range, 1, &source, NULL, NULL, NULL), 0);
        box_publish(w, path, ram.bytes, &plain);
        unlink(path);
        w = box_writer(path, &o);
        CU_ASSERT_EQUAL(qs_writer_ram(w, ram.range, 1, &source, NULL, NULL, NULL), 0);
        CU_ASSERT_EQUAL(qs_writer_again(w, ram.range, 1, &source, NULL, NULL, NULL), 0);
        box_publish(w, path, ram.bytes, &stats);
        CU_ASSERT_EQUAL(stats.file_bytes, plain.file_bytes);
        CU_ASSERT_EQUAL(stats.clusters_shared, plain.clusters_raw + plain.clusters_shared);
        unlink(path);
        w = box_writer(path, &o);
        CU_ASSERT_EQUAL(qs_writer_ram(w, ram.range, 1, &source, NULL, NULL, NULL), 0);
        memset(ram.bytes, 0, o.disk_bytes);
        CU_ASSERT_EQUAL(qs_writer_again(w, ram.range, 1, &source, NULL, NULL, NULL), 0);
        for (uint64_t i = 0; i < w->disk_l1; i++)
                CU_ASSERT_PTR_NULL(writer_table(w, i).entry);
        for (uint64_t i = 1; i < w->space.end; i++)
                CU_ASSERT(w->space.refs[i] == 0 && w->space.sums[i] == 0);
        CU_ASSERT_EQUAL(qs_writer_again(w, ram.range, 1, &source, NULL, NULL, NULL), 0);
        box_publish(w, path, ram.bytes, &stats);
        CU_ASSERT_EQUAL(stats.clusters_zero, o.disk_bytes / PAGE);
        CU_ASSERT_EQUAL(stats.clusters_raw + stats.clusters_shared, 0);
        unlink(path);
        free(ram.bytes);
        CU_ASSERT(kit_gone(folder));
}

static const void *failing(void *ctx, uint64_t gpa, size_t bytes, void *buf, struct qs_span *ret,
                           struct err *e)
{
        (void)bytes;
        (void)buf;
        if (gpa == *(uint64_t *)ctx)
                return err_msg(e, ENODATA, "the guest is gone"), NULL;
        ret->kind = QS_SPAN_ZERO;
        return NULL;
}

static bool stop(void *ctx, uint64_t done, uint64_t total)
{
        (void)ctx;
        return done < total;
}

static void failures(void)
{
        static const struct {
                const char *row;
                struct qs_ram_range range[2];
                size_t n;
                int want;
        } rows[] = {
                { "nothing", { { 0 } }, 0, 0 },
                { "no page", { { 4, PAGE } }, 1, -EINVAL },
                { "empty", { { PAGE, 0 } }, 1, -EINVAL },
                { "overlap", { { 0, 2 * PAGE }, { PAGE, PAGE } }, 2, -EINVAL },
                { "behind the disk", { { 2 * MIB, 2 * PAGE } }, 1, -EINVAL },
                { "wraps", { { 2 * MIB, UINT64_MAX - PAGE + 1 } }, 1, -EINVAL },
                { "no RAM", { { 0, 2 * MIB } }, 1, 0 },
                { "the source fails", { { 0, 2 * MIB + PAGE } }, 1, -ENODATA },
        };
        char folder[KIT_PATH_MAX], path[KIT_PATH_MAX];
        uint64_t at = 2 * MIB;
        struct kit_ram ram = new_ram(2 * MIB, PAGE);
        struct qs_writer_options o = options_for(&ram, 16, QS_COMPRESS_NONE);
        struct qs_ram_source source = kit_source(&ram);

        kit_folder(folder);
        kit_path(folder, "image", path);
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct qs_ram_source bad = { .span = failing, .ctx = &at };
                struct qs_writer *w = box_writer(path, &o);
                struct err e = { 0 };

                EXPECT_EQUAL(rows[i].row, qs_writer_ram(w, ram.range, 1, &source, NULL, NULL,
                                                        NULL), 0);
                EXPECT_EQUAL(rows[i].row, qs_writer_again(w, rows[i].range, rows[i].n, &bad, NULL,
                                                          NULL, &e), rows[i].want);
                EXPECT_EQUAL(rows[i].row, e.code, rows[i].want);
                EXPECT_TRUE(rows[i].row, rows[i].want != -ENODATA ||
                                         strcmp(e.text, "the guest is gone") == 0);
                qs_writer_free(w);
        }

        struct qs_writer *w = box_writer(path, &o);

        CU_ASSERT_EQUAL(qs_writer_ram(w, ram.range, 1, &source, NULL, NULL, NULL), 0);
        CU_ASSERT_EQUAL(qs_writer_again(w, ram.range, 1, &source, stop, NULL, NULL), -ECANCELED);
        qs_writer_free(w);
        free(ram.bytes);
        CU_ASSERT(kit_gone(folder));
}

/* What the disk does not give back as it was written is not read back, nor kept. */
static void damage(void)
{
        char folder[KIT_PATH_MAX], path[KIT_PATH_MAX];

        kit_folder(folder);
        kit_path(folder, "image", path);
        for (unsigned zstd = 0; zstd < 2; zstd++) {
                struct kit_ram ram = new_ram(0, RAM_BYTES);
                struct qs_writer_options o = options_for(&ram, 14, zstd ? QS_COMPRESS_ZSTD :
                                                         QS_COMPRESS_NONE);
                struct qs_ram_source source = kit_source(&ram);
                struct qs_ram_range range = { 0, PAGE };
                struct qs_writer *w = box_writer(path, &o);
                uint8_t page[PAGE];
                uint8_t torn[64];
                struct err e = { 0 };
                uint64_t state = 3;

                store_ram_page(ram.bytes, 4 * PAGE, zstd ? 1 : 2, &state);
                memset(torn, 0xee, sizeof(torn));
                CU_ASSERT_EQUAL(qs_writer_ram(w, ram.range, 1, &source, NULL, NULL, NULL), 0);
                CU_ASSERT_EQUAL(qs_writer_read_back(w, PAGE, PAGE, page, NULL), 0);
                CU_ASSERT_EQUAL(memcmp(page, ram.bytes + PAGE, PAGE), 0);
                CU_ASSERT_EQUAL(io_pwrite_full(writer_fd(w), torn, sizeof(torn), 1u << 14), 0);
                CU_ASSERT_EQUAL(qs_writer_read_back(w, PAGE, PAGE, page, &e), -EBADMSG);
                CU_ASSERT_PTR_NOT_NULL(strstr(e.text, path));
                CU_ASSERT_EQUAL(qs_writer_again(w, &range, 1, &source, NULL, NULL, NULL), -EBADMSG);
                qs_writer_free(w);
                free(ram.bytes);
        }
        CU_ASSERT(kit_gone(folder));
}

static const CU_TestInfo cases[] = {
        { "space is used again", space_is_used_again },
        { "nothing is left", nothing_is_left },
        { "failures", failures },
        { "damage of the disk", damage },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-again-odd", cases);
}
