/* SPDX-License-Identifier: Apache-2.0 */
/* A whole file: opened, read, checked.
 *
 * Input: u8 mode, then with MODE_PATCH patches for a good image, each u32
 * offset (modulo its size), u8 length, bytes; else the file itself. With
 * MODE_SEAL the sums of header, snapshot table and section table are made
 * right again, so that what lies behind them is reached. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/check.h"
#include "qcowstore/imghdr.h"
#include "qcowstore/sectoc.h"
#include "qcowstore/snaptable.h"
#include "qcowstore/sum.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/store-kit.h"
#include "tests/unit/store-ram.h"

#define MODE_PATCH 1
#define MODE_SEAL 2
#define RAM_BYTES (16u * 4096)

static uint8_t *make_base(size_t *ret_n)
{
        struct qs_writer_options o = {
                .cluster_bits = 12, .compress = QS_COMPRESS_ZSTD, .zstd_level = 1, .threads = 1,
                .disk_bytes = RAM_BYTES,
        };
        struct kit_ram ram = { .bytes = calloc(1, RAM_BYTES), .ranges = 1,
                               .range = { { 0, RAM_BYTES } } };
        char folder[KIT_PATH_MAX];
        char path[KIT_PATH_MAX];
        uint64_t state = 5;

        for (unsigned i = 0; i < RAM_BYTES; i += 4096)
                store_ram_page(ram.bytes + i, 4096, i / 4096 % 3, &state);
        kit_folder(folder);

        int rc = kit_save(kit_path(folder, "image", path), &o, &ram, NULL);

        ASSERT(rc == 0);

        uint8_t *bytes = kit_load(path, ret_n);

        unlink(path);
        kit_gone(folder);
        free(ram.bytes);
        return bytes;
}

/* the cluster that an entry of a table leads to; NULL when outside */
static uint8_t *follow(uint8_t *file, size_t size, uint64_t entry_at)
{
        if (entry_at + 8 > size)
                return NULL;

        uint64_t offset = get_be64(file + entry_at) & 0x00fffffffffffe00ull;

        return offset && offset <= size && size - offset >= 4096 ? file + offset : NULL;
}

static void seal_section_table(uint8_t *file, size_t size, const struct imghdr *h,
                               struct snapshot *s)
{
        uint64_t first = layout_l1_entries(h->disk_bytes, h->cluster_bits);
        uint8_t *l2 = s->l1_offset < size ? follow(file, size, s->l1_offset + first * 8) : NULL;
        uint8_t *toc = l2 ? follow(file, size, (uint64_t)(l2 - file)) : NULL;

        if (toc)
                s->toc_sum = sum_bytes(toc, SECTOC_BYTES, h->hash_seed);
}

static void seal(uint8_t *file, size_t size)
{
        struct imghdr h;
        struct snapshot s;
        size_t n;

        if (size < 4096)
                return;
        imghdr_seal(file);
        if (imghdr_parse(file, 4096, &h, NULL) < 0 || !h.format_version || h.snapshots != 1 ||
            h.snaptable_offset > size - 4096 ||
            snaptable_parse(file + h.snaptable_offset, 4096, h.cluster_bits, &s, &n, NULL) < 0)
                return;
        if (s.ours) {
                seal_section_table(file, size, &h, &s);
                put_le64(file + h.snaptable_offset + 64, s.toc_sum);
        }
        h.snaptable_sum = sum_bytes(file + h.snaptable_offset, n, h.hash_seed);
        put_le64(file + 168, h.snaptable_sum);
        imghdr_seal(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        static uint8_t *base;           /* made once per process */
        static size_t base_bytes;

        if (!base)
                base = make_base(&base_bytes);
        if (n < 1)
                return 0;

        bool patches = data[0] & MODE_PATCH;
        size_t size = patches ? base_bytes : n - 1;
        AUTO_FREE uint8_t *file = malloc(size + 1);

        ASSERT(file);
        memcpy(file, patches ? base : data + 1, size);
        if (patches)
                kit_patch(file, size, data + 1, n - 1);
        if (data[0] & MODE_SEAL)
                seal(file, size);

        AUTO_FD fd = kit_file(file, size);
        struct qs_image *image;
        struct err e = { 0 };

        if (qs_image_open(fd, "fuzz", NULL, &image, &e) == 0) {
                kit_touch(image);
                qs_image_close(image);
        } else {
                ASSERT(e.text[0]);
        }
        kit_check(fd, 1);
        return 0;
}
