/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/store-box.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "qcowstore/snaptable.h"
#include "qcowstore/sum.h"
#include "tests/unit/store-ram.h"
#include "tests/unit/suite.h"

const struct qs_writer_options box_options = {
        .cluster_bits = 12, .zstd_level = 1, .threads = 3, .disk_bytes = BOX_BYTES, .tag = "t",
};

struct kit_ram box_ram(uint64_t seed)
{
        struct kit_ram ram = { .bytes = calloc(1, BOX_BYTES), .ranges = 1,
                               .range = { { 0, BOX_BYTES } } };

        ASSERT(ram.bytes);
        if (seed)
                store_ram_fill(ram.bytes, BOX_BYTES, seed);
        return ram;
}

void box_begin(struct box *b)
{
        kit_folder(b->folder);
        kit_path(b->folder, "parent", b->parent);
        kit_path(b->folder, "child", b->child);
        b->ram = box_ram(3);
        CU_ASSERT_EQUAL_FATAL(kit_save(b->parent, &box_options, &b->ram, NULL), 0);
        b->child_options = box_options;
        b->child_options.backing = b->parent;
}

void box_end(struct box *b)
{
        unlink(b->child);
        unlink(b->parent);
        free(b->ram.bytes);
        CU_ASSERT(kit_gone(b->folder));
}

int box_make_child(struct box *b, struct err *e)
{
        return kit_save(b->child, &b->child_options, &b->ram, e);
}

void box_agrees(const char *path, const uint8_t *model, unsigned layers)
{
        struct qs_image *image;
        struct err e = { 0 };
        int rc = qs_image_open_path(path, NULL, &image, &e);
        AUTO_FD fd = kit_open(path);

        if (rc < 0)
                fprintf(stderr, "%s\n", e.text);
        CU_ASSERT_EQUAL_FATAL(rc, 0);
        CU_ASSERT_EQUAL(kit_compare(image, model), 0);
        CU_ASSERT_EQUAL(qs_image_info(image)->layers, layers);
        qs_image_close(image);
        CU_ASSERT_EQUAL(kit_check(fd, 1), 0);
}

struct qs_writer *box_writer(const char *path, const struct qs_writer_options *o)
{
        struct qs_writer *w = NULL;

        CU_ASSERT_EQUAL_FATAL(qs_writer_new(path, o, &w, NULL), 0);
        return w;
}

void box_publish(struct qs_writer *w, const char *path, const uint8_t *model,
                 struct qs_writer_stats *ret)
{
        struct err e = { 0 };
        int rc = qs_writer_publish(w, &e);

        if (rc < 0)
                fprintf(stderr, "%s\n", e.text);
        CU_ASSERT_EQUAL_FATAL(rc, 0);
        qs_writer_stats(w, ret);
        qs_writer_free(w);
        box_agrees(path, model, 1);
}

struct imghdr box_header(const char *path, uint8_t sector[LAYOUT_SECTOR_BYTES])
{
        AUTO_FD fd = kit_open(path);
        struct imghdr h;
        int rc = io_pread_full(fd, sector, LAYOUT_SECTOR_BYTES, 0);

        ASSERT(rc == 0);
        rc = imghdr_parse(sector, LAYOUT_SECTOR_BYTES, &h, NULL);
        ASSERT(rc == 0);
        return h;
}

bool box_is_marked(const char *path)
{
        uint8_t sector[LAYOUT_SECTOR_BYTES];

        return box_header(path, sector).is_parent;
}

void box_repeat_tag(const char *path, unsigned n, uint32_t date_more_ns)
{
        uint8_t sector[LAYOUT_SECTOR_BYTES];
        uint8_t table[4 * LAYOUT_SNAPSHOT_BYTES_MAX] = { 0 };
        struct imghdr h = box_header(path, sector);
        struct snapshot s;
        size_t at = 0;
        size_t bytes;
        AUTO_FD fd = open(path, O_RDWR | O_CLOEXEC);
        int rc = io_pread_full(fd, table, LAYOUT_SNAPSHOT_BYTES_MAX, h.snaptable_offset);

        ASSERT(rc == 0);
        rc = snaptable_parse(table, sizeof(table), h.cluster_bits, &s, &bytes, NULL);
        ASSERT(rc == 0);
        s.date_ns += date_more_ns;
        for (unsigned i = 0; i < n; i++)
                at += snaptable_encode(&s, table + at);
        h.snapshots = n;
        h.snaptable_sum = sum_bytes(table, at, h.hash_seed);
        imghdr_encode(&h, sector);
        rc = io_pwrite_full(fd, table, at, h.snaptable_offset);
        ASSERT(rc == 0);
        rc = io_pwrite_full(fd, sector, sizeof(sector), 0);
        ASSERT(rc == 0);
}

void box_make_parent_again(struct box *b)
{
        struct qs_writer_options o = box_options;

        o.force = o.force_parent = true;
        CU_ASSERT_EQUAL_FATAL(kit_save(b->parent, &o, &b->ram, NULL), 0);
}
