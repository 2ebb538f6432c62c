/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: RAM that is taken again, as often as may be, ends as if it had been taken once:
 *       what is published holds the last content of each page and nothing else, its
 *       counts and sums are right, no byte of another tag changes (INV-GONE,
 *       INV-SHADOW); and meanwhile it reads back.
 * Method: random drafts (store-draft.h) in new files, deltas and pools, over cluster sizes
 *       and compressions, against flat models. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "qcowstore/sum.h"
#include "qcowstore/writer-priv.h"
#include "tests/unit/expect.h"
#include "tests/unit/store-box.h"
#include "tests/unit/store-draft.h"
#include "tests/unit/store-ram.h"
#include "tests/unit/store-tank.h"
#include "tests/unit/suite.h"

#define PAGE 4096u
#define MIB (1u << 20)

/* ends within a page of a cluster, and of a chunk */
static const struct kit_ram maps[] = {
        { .ranges = 1, .range = { { 0, 5 * MIB + 3 * PAGE } } },
        { .ranges = 3, .range = { { 0, 160 * PAGE }, { 192 * PAGE, 5 * PAGE },
                                  { 3 * MIB + 7 * PAGE, 700 * PAGE } } },
        { .ranges = 1, .range = { { 2 * MIB, PAGE } } },
        { .ranges = 2, .range = { { 0, 3 * PAGE }, { 3 * PAGE, 2 * MIB } } },
};

/* One of these maps, filled. */
static struct kit_ram new_ram(unsigned map, uint64_t seed)
{
        struct kit_ram ram = maps[map];
        const struct qs_ram_range *last = &ram.range[ram.ranges - 1];

        ram.bytes = calloc(1, last->gpa + last->bytes);
        ASSERT(ram.bytes);
        for (size_t i = 0; i < ram.ranges; i++)
                store_ram_fill(ram.bytes + ram.range[i].gpa, ram.range[i].bytes, seed + i);
        ram.seed = seed;
        return ram;
}

static struct qs_writer_options options_for(const struct kit_ram *ram, unsigned bits,
                                            enum qs_compress compress)
{
        const struct qs_ram_range *last = &ram->range[ram->ranges - 1];

        return (struct qs_writer_options){
                .cluster_bits = bits, .compress = compress, .zstd_level = 1, .threads = 3,
                .disk_bytes = last->gpa + last->bytes, .tag = "t",
        };
}

static void save(const char *row, const char *path, const struct qs_writer_options *o,
                 struct kit_ram *ram)
{
        struct err e = { 0 };
        int rc = kit_save(path, o, ram, &e);

        if (rc < 0)
                fprintf(stderr, "%s\n", e.text);
        EXPECT_EQUAL(row, rc, 0);
}

static void new_files(void)
{
        char folder[KIT_PATH_MAX], path[KIT_PATH_MAX], row[64];

        kit_folder(folder);
        kit_path(folder, "image", path);
        for (unsigned bits = 12; bits <= 21; bits++) {
                for (unsigned i = 0; i < 2 * ARRAY_SIZE(maps); i++) {
                        struct kit_ram ram = new_ram(i / 2, bits * 10 + i);
                        struct qs_writer_options o = options_for(&ram, bits, i % 2 ?
                                                                 QS_COMPRESS_ZSTD :
                                                                 QS_COMPRESS_NONE);

                        ram.drafts = 1 + (bits + i) % 4;
                        snprintf(row, sizeof(row), "bits %u, map %u, zstd %u", bits, i / 2, i % 2);
                        save(row, path, &o, &ram);
                        box_agrees(path, ram.bytes, 1);
                        unlink(path);
                        free(ram.bytes);
                }
        }
        CU_ASSERT(kit_gone(folder));
}

static void deltas(void)
{
        for (unsigned i = 0; i < 24; i++) {
                struct kit_ram ram = box_ram(i % 5 ? 3 : 0);
                struct box b;

                box_begin(&b);
                if (i % 2)
                        store_ram_fill(ram.bytes + i % 300 * PAGE, 200 * PAGE, i);
                memset(ram.bytes + 700 * PAGE, 0, i * PAGE);
                ram.drafts = 1 + i % 3;
                ram.seed = i;
                if (i % 3 == 1) {       /* the parent must not show through where no RAM is */
                        ram.ranges = 2;
                        ram.range[0].bytes = 500 * PAGE;
                        ram.range[1] = (struct qs_ram_range){ 501 * PAGE, BOX_BYTES - 501 * PAGE };
                        memset(ram.bytes + 500 * PAGE, 0, PAGE);
                }
                b.child_options.cluster_bits = 12 + i % 10;
                b.child_options.compress = i % 4 < 2 ? QS_COMPRESS_ZSTD : QS_COMPRESS_NONE;
                save("delta", b.child, &b.child_options, &ram);
                box_agrees(b.child, ram.bytes, 2);
                free(ram.bytes);
                box_end(&b);
        }
}

static void pools(void)
{
        static const struct qs_ram_range range[] = { { 0, 3 * MIB + 5 * PAGE },
                                                     { 5 * MIB, 40 * PAGE } };
        static const unsigned bits[] = { 12, 14, 16, 21 };

        for (unsigned i = 0; i < 2 * ARRAY_SIZE(bits); i++) {
                struct tank t;

                tank_begin(&t, bits[i / 2], i % 2 ? QS_COMPRESS_ZSTD : QS_COMPRESS_NONE, range, 2);
                for (unsigned n = 0; n < 12; n++) {
                        unsigned old = (n + 2) % 5;
                        bool there = t.tag[old].bytes;
                        struct err e = { 0 };

                        tank_evolve(&t, 300);
                        t.ram.drafts = n % 4;
                        t.ram.seed = n;
                        CU_ASSERT_EQUAL(tank_add(&t, n % 5, true, &e), 0);
                        if (e.code)
                                fprintf(stderr, "%s\n", e.text);
                        if (n % 4 == 3)
                                CU_ASSERT_EQUAL(tank_delete(&t, old, NULL), there ? 0 : -ENOENT);
                        tank_agrees(&t);
                }
                tank_end(&t);
        }
}

/* Contents that may be referred to a few times only. */
static void few_references(void)
{
        static const struct qs_ram_range range[] = { { 0, 2 * MIB } };
        struct tank t;

        tank_begin(&t, 12, QS_COMPRESS_ZSTD, range, 1);
        t.refs_max = 3;
        for (unsigned n = 0; n < 8; n++) {
                tank_evolve(&t, 300);
                t.ram.drafts = 3;
                t.ram.seed = n;
                CU_ASSERT_EQUAL(tank_add(&t, n % 3, true, NULL), 0);
                tank_agrees(&t);
        }
        tank_end(&t);
}

/* What was wanted first is placed, though nothing may refer to it at last. */
static void working_set_first(void)
{
        static const struct qs_ram_range first[] = {
                { 3 * MIB, 100 * PAGE }, { 0, 3 * PAGE }, { 3 * MIB + 50 * PAGE, 100 * PAGE },
        };
        char folder[KIT_PATH_MAX], path[KIT_PATH_MAX];

        kit_folder(folder);
        kit_path(folder, "image", path);
        for (unsigned i = 0; i < 8; i++) {
                struct kit_ram ram = new_ram(0, i);
                struct qs_writer_options o = options_for(&ram, 12 + i, i % 2 ? QS_COMPRESS_ZSTD :
                                                         QS_COMPRESS_NONE);
                struct qs_writer *w = box_writer(path, &o);
                struct qs_writer_stats stats;

                ram.drafts = 3;
                CU_ASSERT_EQUAL(qs_writer_first(w, first, ARRAY_SIZE(first), NULL), 0);
                CU_ASSERT_EQUAL(draft_take(w, &ram, NULL), 0);
                box_publish(w, path, ram.bytes, &stats);
                unlink(path);
                free(ram.bytes);
        }
        CU_ASSERT(kit_gone(folder));
}

/* ---- stats ---- */

/* Clusters that are zero, and, with a parent, those that are the same and not zero. */
static void count(const uint8_t *ram, const uint8_t *parent, unsigned bits,
                  struct qs_writer_stats *ret)
{
        size_t cluster = (size_t)1 << bits;

        *ret = (struct qs_writer_stats){ .ram_bytes = BOX_BYTES };
        for (size_t at = 0; at < BOX_BYTES; at += cluster) {
                size_t n = MIN(cluster, BOX_BYTES - at);

                if (sum_all_zero(ram + at, n))
                        ret->clusters_zero++;
                else if (parent && memcmp(ram + at, parent + at, n) == 0)
                        ret->clusters_same++;
        }
}

static void stats_are_true(void)
{
        for (unsigned i = 0; i < 12; i++) {
                struct qs_writer_stats stats, want;
                struct box b;
                struct kit_ram ram;

                box_begin(&b);
                ram = box_ram(3);
                store_ram_fill(ram.bytes + 400 * PAGE, 300 * PAGE, i);
                memset(ram.bytes + 20 * PAGE, 0, 40 * PAGE);
                ram.drafts = i % 4;
                ram.seed = i;
                b.child_options.cluster_bits = i % 2 ? 12 : 15;
                b.child_options.compress = i % 3 ? QS_COMPRESS_ZSTD : QS_COMPRESS_NONE;
                if (i < 6)
                        b.child_options.backing = NULL;
                count(ram.bytes, i < 6 ? NULL : b.ram.bytes, b.child_options.cluster_bits, &want);

                struct qs_writer *w = box_writer(b.child, &b.child_options);

                CU_ASSERT_EQUAL(draft_take(w, &ram, NULL), 0);
                qs_writer_stats(w, &stats);
                CU_ASSERT_EQUAL(stats.clusters_zero, want.clusters_zero);
                CU_ASSERT_EQUAL(stats.clusters_same, want.clusters_same);
                CU_ASSERT_EQUAL(stats.ram_bytes, want.ram_bytes);
                CU_ASSERT_EQUAL(stats.clusters_zero + stats.clusters_same + stats.clusters_raw +
                                stats.clusters_packed + stats.clusters_shared,
                                DIV_ROUND_UP(BOX_BYTES, 1u << b.child_options.cluster_bits));
                CU_ASSERT(i % 3 || stats.clusters_packed == 0);
                qs_writer_free(w);
                free(ram.bytes);
                box_end(&b);
        }
}

/* ---- threads ---- */

/* Where each cluster is, after some passes. */
static void places(unsigned threads, uint64_t *to, uint64_t n)
{
        char folder[KIT_PATH_MAX], path[KIT_PATH_MAX];
        struct kit_ram ram = new_ram(0, 7);
        struct qs_writer_options o = options_for(&ram, 12, QS_COMPRESS_ZSTD);
        struct qs_writer *w;

        kit_folder(folder);
        o.threads = threads;
        ram.drafts = 4;
        w = box_writer(kit_path(folder, "image", path), &o);
        CU_ASSERT_EQUAL(draft_take(w, &ram, NULL), 0);
        for (uint64_t i = 0; i < n; i++) {
                struct writer_table t = writer_table(w, i / layout_l2_entries(12));

                to[i] = t.entry ? t.entry[i % layout_l2_entries(12)] : 0;
        }
        qs_writer_free(w);
        free(ram.bytes);
        CU_ASSERT(kit_gone(folder));
}

static void same_layout(void)
{
        uint64_t n = maps[0].range[0].bytes / PAGE;
        AUTO_FREE uint64_t *one = calloc(n, sizeof(*one));
        AUTO_FREE uint64_t *many = calloc(n, sizeof(*many));

        places(1, one, n);
        for (unsigned i = 2; i < 8; i++) {
                places(i, many, n);
                CU_ASSERT_EQUAL(memcmp(one, many, n * sizeof(*one)), 0);
        }
}

static const CU_TestInfo cases[] = {
        { "new files", new_files },
        { "deltas", deltas },
        { "pools", pools },
        { "contents with few references", few_references },
        { "a working set before all else", working_set_first },
        { "stats are true", stats_are_true },
        { "the layout does not depend on threads", same_layout },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-again", cases);
}
