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

/* one patch each, in the places of store-pool.c; two entries of a table */
static void pools(const char *folder)
{
        static const char *const places[] = { "header", "reftable", "refblock", "l1", "l2",
                                              "toc", "index", "snaptable" };
        char name[32];

        for (uint8_t mode = 4; mode < 8; mode++) {
                snprintf(name, sizeof(name), "mode%u", mode);
                put(folder, "store-pool", name, &mode, 1);
        }
        for (uint8_t i = 0; i < 8; i++) {
                uint8_t buf[] = { 7, i, i == 0 ? 24 : 0, 0, 8, 0, 0, 0, 0, 0, 0, 0x40, 0,
                                  i, 16, 0, 4, 0, 0, 0, 3 };

                put(folder, "store-pool", places[i], buf, sizeof(buf));
                buf[0] = 4;
                snprintf(name, sizeof(name), "read-%s", places[i]);
                put(folder, "store-pool", name, buf, sizeof(buf));
        }
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
        return 0;
}
