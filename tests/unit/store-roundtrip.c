/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: what was saved is read back, whatever cluster size, compression, thread
 *       count and shape of the guest-physical map.
 * Method: random guest-like memory against a flat model, every image checked. */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "tests/unit/store-kit.h"
#include "tests/unit/store-ram.h"
#include "tests/unit/suite.h"

static struct kit_ram new_ram(uint64_t disk_bytes, uint64_t seed)
{
        struct kit_ram ram = { .bytes = calloc(1, disk_bytes), .ranges = 1,
                               .range = { { 0, disk_bytes } } };

        ASSERT(ram.bytes);
        store_ram_fill(ram.bytes, disk_bytes, seed);
        return ram;
}

/* what is not RAM is zero in the model */
static void punch(struct kit_ram *ram, uint64_t disk_bytes)
{
        uint64_t end = 0;

        for (size_t i = 0; i <= ram->ranges; i++) {
                uint64_t start = i < ram->ranges ? ram->range[i].gpa : disk_bytes;

                memset(ram->bytes + end, 0, start - end);
                if (i < ram->ranges)
                        end = start + ram->range[i].bytes;
        }
}

static void check_sections(struct qs_image *image, const struct kit_ram *ram)
{
        struct qs_reader *r;
        void *data;
        size_t n;
        struct err e;

        CU_ASSERT_EQUAL_FATAL(qs_reader_new(image, &r, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(qs_section_read(r, "META", &data, &n, NULL), 0);
        CU_ASSERT_STRING_EQUAL((char *)data, kit_meta);
        free(data);
        CU_ASSERT_EQUAL_FATAL(qs_section_read(r, "DEVICES", &data, &n, NULL), 0);
        CU_ASSERT(n == 9000 && memcmp(data, ram->bytes, n) == 0);
        free(data);
        CU_ASSERT_EQUAL_FATAL(qs_section_read(r, "EMPTY", &data, &n, NULL), 0);
        CU_ASSERT(n == 0 && *(char *)data == '\0');
        free(data);
        CU_ASSERT_EQUAL(qs_section_read(r, "NONE", &data, &n, &e), -ENOENT);
        CU_ASSERT_EQUAL(qs_section_read(r, "CHECKSUMS", &data, &n, &e), -ENOENT);
        qs_reader_free(r);
}

/* qs_cluster_kind and qs_zero_run against the model */
static void check_kinds(struct qs_image *image, const uint8_t *model, enum qs_compress compress)
{
        const struct qs_image_info *info = qs_image_info(image);
        uint64_t cluster = 1ull << info->cluster_bits;
        uint64_t n = DIV_ROUND_UP(info->disk_bytes, cluster);
        struct qs_reader *r;
        unsigned wrong = 0;

        CU_ASSERT_EQUAL_FATAL(qs_reader_new(image, &r, NULL), 0);
        for (uint64_t i = 0; i < n; i++) {
                uint64_t bytes = MIN(cluster, info->disk_bytes - i * cluster);
                bool zero = model[i * cluster] == 0 &&
                            memcmp(model + i * cluster, model + i * cluster + 1, bytes - 1) == 0;
                enum qs_kind kind = QS_RAW;
                uint64_t run = 99;

                wrong += qs_cluster_kind(r, i, &kind, NULL) != 0;
                wrong += (kind == QS_ZERO) != zero;
                wrong += kind == QS_PACKED && compress == QS_COMPRESS_NONE;
                wrong += qs_zero_run(r, i, 1, &run, NULL) != 0 || run != zero;
        }

        uint64_t run = 99;

        CU_ASSERT_EQUAL(qs_zero_run(r, n, 5, &run, NULL), 0);
        CU_ASSERT_EQUAL(run, 0);
        CU_ASSERT_EQUAL(wrong, 0);
        qs_reader_free(r);
}

/* qs_extent_at covers all clusters, each with its kind; qs_clusters_read gives
 * runs of any kind and length, also over their borders. */
static void check_runs(struct qs_image *image, const uint8_t *model)
{
        const struct qs_image_info *info = qs_image_info(image);
        uint64_t cluster = 1ull << info->cluster_bits;
        uint64_t n = DIV_ROUND_UP(info->disk_bytes, cluster);
        AUTO_FREE uint8_t *buf = malloc(n << info->cluster_bits);
        struct qs_reader *r;
        uint64_t state = 9, at = 0, longest = 0;
        unsigned wrong = 0;

        CU_ASSERT_EQUAL_FATAL(qs_reader_new(image, &r, NULL), 0);
        while (at < n && !wrong) {
                enum qs_kind kind, one;
                uint64_t run = 0;

                wrong += qs_extent_at(r, at, n - at, &kind, &run, NULL) != 0 || run == 0;
                for (uint64_t i = 0; i < run; i++)
                        wrong += qs_cluster_kind(r, at + i, &one, NULL) != 0 || one != kind;
                at += run;
                longest = MAX(longest, run);
        }
        CU_ASSERT_EQUAL(at, n);
        CU_ASSERT(n < 8 || longest > 1);
        for (unsigned i = 0; i < 200; i++) {
                uint64_t first = store_random(&state) % n;
                uint64_t many = i == 0 ? n - first : store_random(&state) % MIN(n - first + 1, 40);
                uint64_t from = first << info->cluster_bits;
                uint64_t bytes = MIN(many << info->cluster_bits, info->disk_bytes - from);

                wrong += qs_clusters_read(r, first, many, buf, NULL) != 0 ||
                         memcmp(buf, model + from, bytes) != 0;
        }
        CU_ASSERT_EQUAL(wrong, 0);
        qs_reader_free(r);
}

static void check_image(const char *path, struct kit_ram *ram, const struct qs_writer_options *o)
{
        AUTO_FD fd = kit_open(path);
        struct qs_image *image;
        struct err e = { 0 };

        CU_ASSERT_EQUAL_FATAL(qs_image_open(fd, path, NULL, &image, &e), 0);
        CU_ASSERT_EQUAL(qs_image_info(image)->cluster_bits, o->cluster_bits);
        CU_ASSERT_EQUAL(qs_image_info(image)->disk_bytes, o->disk_bytes);
        CU_ASSERT_EQUAL(qs_image_info(image)->vm_clock_ns, 12345);
        CU_ASSERT_EQUAL(kit_compare(image, ram->bytes), 0);
        check_kinds(image, ram->bytes, o->compress);
        check_runs(image, ram->bytes);
        check_sections(image, ram);
        qs_image_close(image);
        CU_ASSERT_EQUAL(kit_check(fd, 1), 0);
}

static const struct qs_writer_options base = {
        .cluster_bits = 12, .compress = QS_COMPRESS_ZSTD, .zstd_level = 1, .threads = 3,
        .vm_clock_ns = 12345, .tag = "t",
};

static void save_and_check(struct kit_ram *ram, const struct qs_writer_options *o)
{
        char folder[KIT_PATH_MAX];
        char path[KIT_PATH_MAX];
        struct err e = { 0 };

        kit_folder(folder);
        kit_path(folder, "image", path);

        int rc = kit_save(path, o, ram, &e);

        if (rc < 0)
                err_print("save", &e);
        CU_ASSERT_EQUAL_FATAL(rc, 0);
        check_image(path, ram, o);
        unlink(path);
        CU_ASSERT(kit_gone(folder));
}

static void all_cluster_sizes(void)
{
        for (unsigned bits = QS_CLUSTER_BITS_MIN; bits <= QS_CLUSTER_BITS_MAX; bits++) {
                struct qs_writer_options o = base;

                o.cluster_bits = bits;
                o.disk_bytes = 5 * (1u << 20) + 3 * 4096;       /* a partial last cluster */
                o.compress = QS_COMPRESS_NONE;

                struct kit_ram ram = new_ram(o.disk_bytes, bits);

                save_and_check(&ram, &o);
                o.compress = QS_COMPRESS_ZSTD;
                ram.copies = 1;
                save_and_check(&ram, &o);
                free(ram.bytes);
        }
}

/* ranges that share clusters and chunks, or leave holes within them */
static const struct {
        const char *name;
        unsigned bits;
        size_t n;
        struct qs_ram_range range[4];
} maps[] = {
        { "PC hole",        12, 2, { { 0, 3 << 20 }, { 5 << 20, 2 << 20 } } },
        { "below 1 MiB",    14, 3, { { 0, 640 << 10 }, { 768 << 10, 256 << 10 },
                                     { 1 << 20, 1 << 20 } } },
        { "pages apart",    16, 4, { { 4096, 4096 }, { 12288, 8192 }, { 65536, 4096 },
                                     { 7 << 20, 4096 } } },
        { "large clusters", 21, 3, { { 4096, 1 << 20 }, { 3 << 20, 2 << 20 },
                                     { 6 << 20, 8192 } } },
        { "no RAM at all",  13, 0, { { 0, 0 } } },
};

static void physical_maps(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(maps); i++) {
                struct qs_writer_options o = base;

                o.cluster_bits = maps[i].bits;
                o.disk_bytes = 8 << 20;

                struct kit_ram ram = new_ram(o.disk_bytes, 100 + i);

                ram.ranges = maps[i].n;
                memcpy(ram.range, maps[i].range, sizeof(maps[i].range));
                punch(&ram, o.disk_bytes);
                save_and_check(&ram, &o);
                free(ram.bytes);
        }
}

static void random_maps(void)
{
        uint64_t state = 4711;

        for (int round = 0; round < 40; round++) {
                struct qs_writer_options o = base;

                o.cluster_bits = 12 + (unsigned)(store_random(&state) % 6);
                o.compress = store_random(&state) % 3 ? QS_COMPRESS_ZSTD : QS_COMPRESS_NONE;
                o.threads = 1 + (unsigned)(store_random(&state) % 5);
                o.disk_bytes = 4096 * (16 + store_random(&state) % 1500);

                struct kit_ram ram = new_ram(o.disk_bytes, store_random(&state));
                uint64_t page = 0;

                ram.ranges = 0;
                ram.copies = (int)(store_random(&state) % 2);
                while (ram.ranges < QS_RAM_RANGES_MAX) {
                        uint64_t gap = store_random(&state) % 4 ? 0 : store_random(&state) % 40;
                        uint64_t n = 1 + store_random(&state) % 400;

                        page += gap;
                        if ((page + n) * 4096 > o.disk_bytes)
                                break;
                        ram.range[ram.ranges++] = (struct qs_ram_range){ page * 4096, n * 4096 };
                        page += n;
                }
                punch(&ram, o.disk_bytes);
                save_and_check(&ram, &o);
                free(ram.bytes);
        }
}

/* INV-ORDER: where things lie does not depend on timing. All of a file but the
 * sums is the same; the lengths and kinds are compared here. */
static void same_layout(void)
{
        char folder[KIT_PATH_MAX];
        char path[2][KIT_PATH_MAX];
        struct qs_writer_options o = base;
        size_t n[2];

        o.disk_bytes = 16 << 20;

        struct kit_ram ram = new_ram(o.disk_bytes, 9);
        uint8_t *bytes[2];
        size_t differ = 0;

        kit_folder(folder);
        for (int i = 0; i < 2; i++) {
                o.threads = i ? 7 : 1;
                CU_ASSERT_EQUAL_FATAL(kit_save(kit_path(folder, i ? "b" : "a", path[i]), &o,
                                               &ram, NULL), 0);
                bytes[i] = kit_load(path[i], &n[i]);
                unlink(path[i]);
        }
        CU_ASSERT_EQUAL_FATAL(n[0], n[1]);
        for (size_t at = 0; at < n[0]; at += 4096)
                differ += memcmp(bytes[0] + at, bytes[1] + at, 4096) != 0;
        /* header, 8 + 1 clusters of CHECKSUMS, HOSTSUMS of n clusters, table, snapshots */
        CU_ASSERT(differ <= 1 + 9 + 1 + DIV_ROUND_UP(n[0] / 4096, 512) + 2);
        free(bytes[0]);
        free(bytes[1]);
        free(ram.bytes);
        CU_ASSERT(kit_gone(folder));
}

/* 1 TiB of nothing with one page at its end: small, and quickly done. */
static const void *sparse_span(void *ctx, uint64_t gpa, size_t bytes, void *buf,
                               struct qs_span *ret, struct err *e)
{
        (void)gpa;
        (void)buf;
        (void)ret;
        (void)e;
        ASSERT(bytes <= 1u << 20);
        return ctx;
}

static void terabyte(void)
{
        char folder[KIT_PATH_MAX];
        char path[KIT_PATH_MAX];
        struct qs_writer_options o = base;
        struct qs_ram_range end = { (1ull << 40) - 4096, 4096 };
        AUTO_FREE uint8_t *page = calloc(1, 1 << 20);
        struct qs_ram_source source = { .span = sparse_span, .ctx = page };
        struct qs_writer *w;
        struct qs_image *image;
        struct qs_reader *r;
        struct stat st;
        uint64_t run = 0;

        page[5] = 1;
        o.disk_bytes = 1ull << 40;
        kit_folder(folder);
        kit_path(folder, "image", path);
        CU_ASSERT_EQUAL_FATAL(qs_writer_new(path, &o, &w, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(qs_writer_ram(w, &end, 1, &source, NULL, NULL, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(qs_writer_publish(w, NULL), 0);
        qs_writer_free(w);
        CU_ASSERT_EQUAL(stat(path, &st), 0);
        CU_ASSERT(st.st_size < 16 << 20);

        AUTO_FD fd = kit_open(path);

        CU_ASSERT_EQUAL_FATAL(qs_image_open(fd, path, "t", &image, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(qs_reader_new(image, &r, NULL), 0);
        CU_ASSERT_EQUAL(qs_zero_run(r, 0, 1 << 20, &run, NULL), 0);
        CU_ASSERT_EQUAL(run, 1 << 20);
        CU_ASSERT_EQUAL(qs_cluster_read(r, (1ull << 28) - 1, page + 4096, NULL), 0);
        CU_ASSERT_EQUAL(memcmp(page, page + 4096, 4096), 0);
        qs_reader_free(r);
        qs_image_close(image);
        CU_ASSERT_EQUAL(kit_check(fd, 0), 0);
        unlink(path);
        CU_ASSERT(kit_gone(folder));
}

static void flat_files(void)
{
        char folder[KIT_PATH_MAX];
        char raw[KIT_PATH_MAX];
        char path[KIT_PATH_MAX];
        char back[KIT_PATH_MAX];
        struct qs_writer_options o = base;
        size_t bytes = (3 << 20) + 1536;
        struct kit_ram ram = new_ram(bytes, 21);
        struct qs_image *image;
        struct qs_writer_stats stats = { 0 };
        size_t n;

        kit_folder(folder);
        FILE *f = fopen(kit_path(folder, "raw", raw), "wb");

        CU_ASSERT_PTR_NOT_NULL_FATAL(f);
        CU_ASSERT_EQUAL(fwrite(ram.bytes, 1, bytes, f), bytes);
        fclose(f);
        CU_ASSERT_EQUAL(truncate(raw, 64 << 20), 0);    /* a hole behind */
        kit_path(folder, "image", path);
        kit_path(folder, "back", back);
        CU_ASSERT_EQUAL_FATAL(qs_import(raw, path, &o, NULL, NULL, &stats, NULL), 0);
        CU_ASSERT_EQUAL(stats.ram_bytes, 64 << 20);
        CU_ASSERT_EQUAL(stats.clusters_zero + stats.clusters_raw + stats.clusters_packed +
                        stats.clusters_shared, (64 << 20) / 4096);

        AUTO_FD fd = kit_open(path);

        CU_ASSERT_EQUAL_FATAL(qs_image_open(fd, path, NULL, &image, NULL), 0);
        CU_ASSERT_EQUAL(qs_export(image, back, false, NULL, NULL, NULL), 0);
        CU_ASSERT_EQUAL(qs_export(image, back, false, NULL, NULL, NULL), -EEXIST);
        CU_ASSERT_EQUAL(qs_export(image, back, true, NULL, NULL, NULL), 0);
        qs_image_close(image);

        uint8_t *got = kit_load(back, &n);
        struct stat st;

        CU_ASSERT(n == 64 << 20 && memcmp(got, ram.bytes, bytes) == 0);
        CU_ASSERT_EQUAL(stat(back, &st), 0);
        CU_ASSERT(st.st_blocks * 512 < 4 << 20);
        free(got);
        free(ram.bytes);
        unlink(raw);
        unlink(path);
        unlink(back);
        CU_ASSERT(kit_gone(folder));
}

struct progress {
        _Atomic unsigned calls;
        _Atomic unsigned inside;
        _Atomic bool overlapped;
        uint64_t last;
        unsigned cancel_at;
};

static bool watch(void *ctx, uint64_t done, uint64_t total)
{
        struct progress *p = ctx;

        if (p->inside++ || done > total)
                p->overlapped = true;
        p->last = done;
        p->inside--;
        return ++p->calls != p->cancel_at;
}

static void progress_and_cancel(void)
{
        char folder[KIT_PATH_MAX];
        char path[KIT_PATH_MAX];
        struct qs_writer_options o = base;

        o.disk_bytes = 16 << 20;

        struct kit_ram ram = new_ram(o.disk_bytes, 5);
        struct qs_ram_source source = kit_source(&ram);

        kit_folder(folder);
        kit_path(folder, "image", path);
        for (unsigned cancel = 0; cancel < 4; cancel++) {
                struct progress p = { .cancel_at = cancel };
                struct qs_writer *w;
                int want = cancel ? -ECANCELED : 0;

                CU_ASSERT_EQUAL_FATAL(qs_writer_new(path, &o, &w, NULL), 0);
                CU_ASSERT_EQUAL(qs_writer_ram(w, ram.range, 1, &source, watch, &p, NULL), want);
                CU_ASSERT(cancel || p.last == o.disk_bytes);
                CU_ASSERT(!p.overlapped);
                qs_writer_free(w);
                CU_ASSERT_NOT_EQUAL(access(path, F_OK), 0);
        }
        free(ram.bytes);
        CU_ASSERT(kit_gone(folder));
}

static const CU_TestInfo cases[] = {
        { "all cluster sizes, raw and zstd", all_cluster_sizes },
        { "maps with holes and shared clusters", physical_maps },
        { "random maps", random_maps },
        { "the layout does not depend on threads", same_layout },
        { "a terabyte of nothing", terabyte },
        { "flat files in and out", flat_files },
        { "progress and cancel", progress_and_cancel },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-roundtrip", cases);
}
