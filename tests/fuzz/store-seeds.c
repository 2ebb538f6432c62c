/* SPDX-License-Identifier: Apache-2.0 */
/* store-seeds FOLDER - writes the seeds of the store's corpora: run it again
 * when the format changes. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/bytes.h"
#include "common/check.h"
#include "qcowstore/imghdr.h"
#include "qcowstore/l2entry.h"
#include "qcowstore/sectoc.h"
#include "qcowstore/snaptable.h"

static void put(const char *folder, const char *target, const char *name, const void *data,
                size_t n)
{
        char path[4096];

        snprintf(path, sizeof(path), "%s/%s", folder, target);
        mkdir(path, 0777);
        snprintf(path, sizeof(path), "%s/%s/%s", folder, target, name);

        FILE *f = fopen(path, "wb");

        ASSERT(f);

        size_t done = fwrite(data, 1, n, f);

        ASSERT(done == n);
        fclose(f);
}

static void headers(const char *folder)
{
        struct imghdr h = {
                .cluster_bits = 14, .refcount_order = 5, .zstd = true,
                .disk_bytes = 1ull << 30, .l1_offset = 5 << 14, .l1_entries = 32,
                .reftable_offset = 6 << 14, .reftable_clusters = 1,
                .snaptable_offset = 7 << 14, .snapshots = 1,
                .format_version = LAYOUT_FORMAT_VERSION,
                .uuid = { 1, 2, 3 }, .hash_seed = 0x1234, .snaptable_sum = 77,
        };
        uint8_t sector[LAYOUT_SECTOR_BYTES];

        imghdr_encode(&h, sector);
        put(folder, "store-header", "ours", sector, sizeof(sector));
        h.snapshots = 3;
        h.default_snapshot = 2;
        h.meta_sum = 88;
        h.pool_sum = 99;
        h.file_bytes = 40 << 14;
        h.is_parent = true;
        imghdr_encode(&h, sector);
        put(folder, "store-header", "pool", sector, sizeof(sector));
        memset(sector + 112, 0, sizeof(sector) - 112);
        put(folder, "store-header", "foreign", sector, sizeof(sector));
}

static void snapshots(const char *folder)
{
        struct snapshot s = {
                .l1_offset = 9 << 16, .l1_entries = 3, .date_ns = 1700000000000000123ull,
                .state_bytes = 6ull << 20, .disk_bytes = 1 << 30, .ours = true, .toc_sum = 99,
                .id = "1", .tag = "before upgrade",
        };
        uint8_t buf[2 * LAYOUT_SNAPSHOT_BYTES_MAX];
        size_t n = snaptable_encode(&s, buf);

        strcpy(s.tag, "t");
        put(folder, "store-snaptable", "two", buf, n + snaptable_encode(&s, buf + n));
}

static void entries(const char *folder)
{
        uint8_t buf[9 + 5 * 8] = { 16 - 9 };

        put_be64(buf + 1, 0x100000ull << 4);
        put_be64(buf + 9, 0x30000);
        put_be64(buf + 17, 0x30000 | L2ENTRY_COPIED);
        put_be64(buf + 25, l2entry_packed(0x31234, 5000, 16));
        put_be64(buf + 33, 1);
        put(folder, "store-l2entry", "kinds", buf, sizeof(buf));
}

static void sections(const char *folder)
{
        struct sectoc toc = { .count = 3, .section = {
                { "META", 4096, 100, 7, 0 },
                { "CHECKSUMS", 8192, 8ull * 600, 8, SECTION_TREE },
                { "HOSTSUMS", 8192 + 3 * 4096, 8ull * 600, 8, SECTION_TREE },
        } };
        uint8_t buf[9 + SECTOC_BYTES] = { 0 };

        put_le64(buf + 1, (8192 + 6 * 4096) << 2);
        sectoc_encode(&toc, buf + 9);
        put(folder, "store-toc", "three", buf, 9 + 64 + 3 * 64);
}

static void images(const char *folder)
{
        uint8_t tables[1 + 3 * 13] = { 3 };
        uint8_t one[] = { 3, 100, 0, 0, 0, 1, 0 };

        put(folder, "store-image", "untouched", "\3", 1);
        put(folder, "store-image", "header", one, sizeof(one));
        for (unsigned i = 0; i < 3; i++) {
                put_le32(tables + 1 + i * 13, 0x8000 + i * 0x3008);
                tables[1 + i * 13 + 4] = 8;
                put_be64(tables + 1 + i * 13 + 5, 0x4000);
        }
        put(folder, "store-image", "tables", tables, sizeof(tables));
        put(folder, "store-image", "empty", "\0QFI\xfb", 5);
}

/* one patch each: in the header, the L1, the L2, the compressed data */
static void foreign(const char *folder)
{
        static const uint32_t places[] = { 20, 3 << 12, (4 << 12) + 8, (8 << 12) - 300 };
        uint8_t buf[1 + 4 * 6];
        char name[16];

        for (unsigned mode = 0; mode < 16; mode++) {
                buf[0] = (uint8_t)mode;
                for (unsigned i = 0; i < 4; i++) {
                        /* extended files have larger clusters */
                        uint32_t at = mode & 1 && i ? places[i] << 2 : places[i];

                        put_le32(buf + 1 + i * 6, at);
                        buf[1 + i * 6 + 4] = 1;
                        buf[1 + i * 6 + 5] = 0;
                }
                snprintf(name, sizeof(name), "mode%u", mode);
                put(folder, "store-foreign", name, buf, 1);
                snprintf(name, sizeof(name), "patch%u", mode);
                put(folder, "store-foreign", name, buf, sizeof(buf));
        }
}

/* what store-pool.c calls places: tables that belong to a pool's file */
static void pools(const char *folder)
{
        /* mode, then place, offset, length, bytes */
        static const struct {
                const char *name;
                uint8_t change[24];
                size_t n;
        } seeds[] = {
                { "read",          { 1 }, 1 },
                { "add",           { 3 }, 1 },
                { "delete",        { 5 }, 1 },
                { "replace",       { 7 }, 1 },
                { "not-sealed",    { 2, 3, 8, 0, 1, 9 }, 6 },
                { "header-sums",   { 1, 0, 192, 0, 4, 1, 2, 3, 4 }, 9 },
                { "header-count",  { 3, 3, 0, 0, 4, 0, 0, 0, 2 }, 9 },
                { "no-count",      { 5, 3, 16, 0, 4, 0, 0, 0, 0 }, 9 },
                { "high-count",    { 3, 3, 252, 15, 4, 255, 255, 255, 255 }, 9 },
                { "table-twice",   { 5, 2, 8, 0, 8, 0, 0, 0, 0, 0, 0, 48, 0 }, 13 },
                { "active-l1",     { 7, 4, 0, 0, 8, 0, 0, 0, 0, 0, 0, 32, 0 }, 13 },
                { "area-l1",       { 3, 4, 8, 0, 8, 128, 0, 0, 0, 0, 0, 32, 0 }, 13 },
                { "area-hole",     { 3, 5, 8, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0 }, 13 },
                { "area-packed",   { 3, 5, 8, 0, 1, 64 }, 6 },
                { "area-twice",    { 5, 5, 16, 0, 8, 128, 0, 0, 0, 0, 0, 16, 0 }, 13 },
                { "toc-count",     { 3, 6, 12, 0, 1, 2 }, 6 },
                { "other-name",    { 5, 6, 64, 0, 5, 'O', 'T', 'H', 'E', 'R' }, 10 },
                { "index-name",    { 5, 6, 70, 0, 1, '1' }, 6 },
                { "odd-bytes",     { 3, 6, 88, 0, 1, 47 }, 6 },
                { "many-bytes",    { 5, 6, 89, 0, 1, 15 }, 6 },
                { "tree",          { 7, 6, 104, 0, 1, 1 }, 6 },
                { "index-key",     { 3, 7, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0 }, 13 },
                { "index-entry",   { 3, 7, 16, 0, 8, 0, 16, 0, 0, 0, 0, 0, 0 }, 13 },
                { "index-far",     { 3, 7, 16, 0, 8, 0, 16, 0, 0, 1, 0, 0, 0 }, 13 },
                { "id",            { 3, 1, 48, 0, 8, '1', '1', '1', '1', '1', '1', '1', '1' }, 13 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(seeds); i++)
                put(folder, "store-pool", seeds[i].name, seeds[i].change, seeds[i].n);
        for (unsigned place = 0; place < 8; place++) {
                uint8_t change[] = { 1, (uint8_t)place, 56, 0, 4, 0, 0, 0, 3 };
                char name[16];

                snprintf(name, sizeof(name), "read-place%u", place);
                put(folder, "store-pool", name, change, sizeof(change));
        }
}

/* a disk of 1 MiB; a set, and two of them */
static void working_sets(const char *folder)
{
        uint8_t one[8 + 32], two[8 + 16 + 32 + 16 + 16];

        put_le64(one, 1 << 20);
        for (unsigned i = 0; i < 2; i++) {
                put_le64(one + 8 + i * 16, (200 - i * 90) * 4096);
                put_le64(one + 16 + i * 16, (i + 1) * 4096);
        }
        put(folder, "store-workset", "one", one, sizeof(one));
        put_le64(two, 1 << 20);
        put_le64(two + 8, 7);
        put_le64(two + 16, 32);
        memcpy(two + 24, one + 8, 32);
        put_le64(two + 56, 1);
        put_le64(two + 64, 16);
        memcpy(two + 72, one + 8, 16);
        put(folder, "store-workset", "two", two, sizeof(two));
}

int main(int argc, char **argv)
{
        if (argc != 2) {
                fprintf(stderr, "usage: store-seeds FOLDER\n");
                return 1;
        }
        headers(argv[1]);
        snapshots(argv[1]);
        entries(argv[1]);
        sections(argv[1]);
        images(argv[1]);
        foreign(argv[1]);
        pools(argv[1]);
        working_sets(argv[1]);
        return 0;
}
