/* SPDX-License-Identifier: Apache-2.0 */
/* A file of another program, alone or with a parent: opened, read, checked.
 *
 * Input: u8 mode, then patches (kit_patch) for a file with clusters of all
 * kinds. It has no sums: whatever is patched is reached. The parent is of the
 * other compression, and the same for all inputs. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/check.h"
#include "common/io.h"
#include "qcowstore/imghdr.h"
#include "qcowstore/l2entry.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/store-kit.h"
#include "tests/unit/store-ram.h"

#define MODE_EXTENDED 1                 /* not with version 2 */
#define MODE_ZSTD 2
#define MODE_VERSION_2 4
#define MODE_PARENT 8

#define BITS_EXTENDED 14
#define BITS_PLAIN 12
#define DISK_CLUSTERS 9
#define FILE_CLUSTERS 10                /* header, counts, L1, L2, then data */
#define NAME_AT 400

struct base {
        uint8_t *bytes;
        size_t n;
        size_t cluster;
};

static size_t pack_zlib(const uint8_t *from, size_t n, uint8_t *to, size_t room)
{
        z_stream z = { .next_in = (z_const Bytef *)from, .avail_in = (uInt)n,
                       .next_out = to, .avail_out = (uInt)room };
        int rc = deflateInit2(&z, 1, Z_DEFLATED, -12, 8, Z_DEFAULT_STRATEGY);

        ASSERT(rc == Z_OK);
        rc = deflate(&z, Z_FINISH);
        ASSERT(rc == Z_STREAM_END);
        deflateEnd(&z);
        return room - z.avail_out;
}

static void put_header(struct base *b, unsigned mode, unsigned bits)
{
        uint8_t *p = b->bytes;
        bool zstd = mode & MODE_ZSTD && !(mode & MODE_VERSION_2);

        put_be32(p, 0x514649fb);
        put_be32(p + 4, mode & MODE_VERSION_2 ? 2 : 3);
        put_be32(p + 20, bits);
        put_be64(p + 24, DISK_CLUSTERS * b->cluster - 512);
        put_be32(p + 36, 1);
        put_be64(p + 40, 3 * b->cluster);
        put_be64(p + 48, b->cluster);
        put_be32(p + 56, 1);
        if (!(mode & MODE_VERSION_2)) {
                put_be64(p + 72, (zstd ? 8u : 0) | (mode & MODE_EXTENDED ? 16u : 0));
                put_be32(p + 96, 4);
                put_be32(p + 100, 112);
                p[104] = zstd;
        }
        if (mode & MODE_PARENT) {
                uint8_t *ext = p + (mode & MODE_VERSION_2 ? 72 : 112);

                put_be64(p + 8, NAME_AT);
                put_be32(p + 16, 1);
                p[NAME_AT] = 'p';
                put_be32(ext, 0xe2792aca);
                put_be32(ext + 4, 5);
                memcpy(ext + 8, "qcow2", 5);
        }
}

/* unallocated, raw, zero, zero with a cluster, three compressed, one of them
 * over the border of its host cluster; subclusters of all kinds */
static void put_entries(struct base *b, unsigned mode, unsigned bits, const uint64_t packed[3])
{
        bool extended = mode & MODE_EXTENDED;
        const uint64_t entries[DISK_CLUSTERS][2] = {
                { 0, 0xff00000000 },
                { 5 * b->cluster, 0x0ffff00000000fff },
                { extended ? 0 : 1, 0xffffffff00000000 },
                { 6 * b->cluster | (extended ? 0 : 1), 0x55555555aaaaaaaa },
                { packed[0], 0 }, { packed[1], 0 }, { packed[2], 0 },
                { 0, 0 }, { 6 * b->cluster, 0xffffffff },
        };
        uint8_t *p = b->bytes + 4 * b->cluster;

        (void)bits;
        put_be64(b->bytes + 3 * b->cluster, 4 * b->cluster);
        for (unsigned i = 0; i < DISK_CLUSTERS; i++) {
                put_be64(p, entries[i][0]);
                if (extended)
                        put_be64(p + 8, entries[i][1]);
                p += extended ? 16 : 8;
        }
}

static void put_data(struct base *b, unsigned mode, unsigned bits, uint64_t packed[3])
{
        bool zstd = mode & MODE_ZSTD && !(mode & MODE_VERSION_2);
        size_t at = 8 * b->cluster - 300;       /* the first one straddles */
        uint64_t state = mode;
        AUTO_FREE uint8_t *plain = malloc(b->cluster);

        ASSERT(plain);
        store_ram_page(b->bytes + 5 * b->cluster, b->cluster, 0, &state);
        store_ram_page(b->bytes + 6 * b->cluster, b->cluster, 1, &state);
        for (unsigned i = 0; i < 3; i++) {
                size_t room = FILE_CLUSTERS * b->cluster - at;
                size_t n;

                store_ram_page(plain, b->cluster, 1, &state);
                memset(plain + b->cluster / 4, (int)i, b->cluster / 2);
                n = zstd ? ZSTD_compress(b->bytes + at, room, plain, b->cluster, 1)
                         : pack_zlib(plain, b->cluster, b->bytes + at, room);
                ASSERT(n > 0 && n < room);
                packed[i] = l2entry_packed(at, n, bits);
                at += n;
        }
}

static struct base make_base(unsigned mode)
{
        unsigned bits = mode & MODE_EXTENDED ? BITS_EXTENDED : BITS_PLAIN;
        struct base b = { .cluster = (size_t)1 << bits };
        uint64_t packed[3];

        b.n = FILE_CLUSTERS * b.cluster - 700;          /* its last cluster is cut */
        b.bytes = calloc(1, FILE_CLUSTERS * b.cluster);
        ASSERT(b.bytes);
        put_header(&b, mode, bits);
        put_data(&b, mode, bits, packed);
        put_entries(&b, mode, bits, packed);
        put_be64(b.bytes + b.cluster, 2 * b.cluster);
        return b;
}

static void put_parent(const char *path, unsigned mode)
{
        struct base parent = make_base((mode ^ MODE_ZSTD) & ~(unsigned)MODE_PARENT);
        AUTO_FD fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        int rc = io_pwrite_full(fd, parent.bytes, parent.n, 0);

        ASSERT(rc == 0);
        free(parent.bytes);
}

/* What was not patched is good. */
static void all_readable(struct qs_image *image)
{
        struct qs_reader *r;
        uint8_t buf[1 << BITS_EXTENDED];
        struct err e = { 0 };
        int rc = qs_reader_new(image, &r, NULL);

        ASSERT(rc == 0);
        for (unsigned i = 0; i < DISK_CLUSTERS; i++) {
                rc = qs_cluster_read(r, i, buf, &e);
                ASSERT(rc == 0);
        }
        qs_reader_free(r);
}

static void try_file(int fd, int folder_fd, bool good)
{
        struct qs_image *image;
        struct err e = { 0 };

        if (qs_image_open_at(fd, "fuzz", NULL, folder_fd, -1, &image, &e) == 0) {
                if (good)
                        all_readable(image);
                kit_touch(image);
                qs_image_close(image);
        } else {
                ASSERT(!good && e.text[0]);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        if (n < 1)
                return 0;

        unsigned mode = data[0] & 15;

        if (mode & MODE_VERSION_2)
                mode &= ~(unsigned)MODE_EXTENDED;

        struct base b = make_base(mode);
        char folder[KIT_PATH_MAX];
        char path[KIT_PATH_MAX];

        kit_patch(b.bytes, b.n, data + 1, n - 1);

        AUTO_FD fd = kit_file(b.bytes, b.n);
        AUTO_FD folder_fd = -1;

        if (mode & MODE_PARENT) {
                kit_folder(folder);
                put_parent(kit_path(folder, "p", path), mode);
                folder_fd = open(folder, O_PATH | O_CLOEXEC);
        }
        try_file(fd, folder_fd, n == 1);
        kit_check(fd, 1);
        if (mode & MODE_PARENT) {
                unlink(path);
                kit_gone(folder);
        }
        free(b.bytes);
        return 0;
}
