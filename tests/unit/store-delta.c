/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a delta reads as the RAM it was made of, whatever chain it rests on,
 *       and stores only what its parent has not.
 * Method: RAM that evolves at random against a flat model, every link checked. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "tests/unit/store-box.h"
#include "tests/unit/store-ram.h"
#include "tests/unit/suite.h"

#define CHAIN_MAX 65u                   /* files */

static void save_counted(const char *path, const struct qs_writer_options *o,
                         struct kit_ram *ram, struct qs_writer_stats *ret)
{
        struct qs_ram_source source = kit_source(ram);
        struct qs_writer *w;

        CU_ASSERT_EQUAL_FATAL(qs_writer_new(path, o, &w, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(qs_writer_ram(w, ram->range, ram->ranges, &source, NULL, NULL,
                                            NULL), 0);
        CU_ASSERT_EQUAL_FATAL(qs_writer_publish(w, NULL), 0);
        qs_writer_stats(w, ret);
        qs_writer_free(w);
}

static void nothing_changed(void)
{
        struct box b;
        struct qs_writer_stats stats, parent;
        struct qs_writer_options o = box_options;

        box_begin(&b);
        o.force = true;
        save_counted(b.parent, &o, &b.ram, &parent);
        save_counted(b.child, &b.child_options, &b.ram, &stats);
        CU_ASSERT_EQUAL(stats.clusters_same + stats.clusters_zero, BOX_PAGES);
        CU_ASSERT_EQUAL(stats.clusters_zero, parent.clusters_zero);
        CU_ASSERT_EQUAL(parent.clusters_same, 0);
        CU_ASSERT(stats.file_bytes < 30 * BOX_PAGE);
        box_agrees(b.child, b.ram.bytes, 2);
        box_end(&b);
}

/* pages: parent's content, child's content and what becomes of it */
static void each_kind(void)
{
        struct box b;
        struct qs_writer_stats stats;
        uint64_t state = 99;

        box_begin(&b);

        uint8_t *ram = b.ram.bytes;

        memset(ram, 0, BOX_BYTES);
        for (unsigned i = 0; i < 10; i++)
                store_ram_page(ram + i * BOX_PAGE, BOX_PAGE, 2, &state);
        b.child_options.force = true;
        b.child_options.backing = NULL;
        CU_ASSERT_EQUAL_FATAL(kit_save(b.parent, &b.child_options, &b.ram, NULL), 0);
        memset(ram, 0, 3 * BOX_PAGE);                                   /* 3 blank */
        ram[3 * BOX_PAGE + 77] ^= 1;                                    /* 1 raw, 6 same */
        store_ram_page(ram + 700 * BOX_PAGE, BOX_PAGE, 2, &state);      /* 1 raw over zeros */
        memcpy(ram + 701 * BOX_PAGE, ram + 700 * BOX_PAGE, BOX_PAGE);   /* 1 shared */
        /* equal to what the parent has elsewhere: stored */
        memcpy(ram + 702 * BOX_PAGE, ram + 5 * BOX_PAGE, BOX_PAGE);
        b.child_options.backing = b.parent;
        save_counted(b.child, &b.child_options, &b.ram, &stats);
        CU_ASSERT_EQUAL(stats.clusters_same, 6);
        CU_ASSERT_EQUAL(stats.clusters_raw, 3);
        CU_ASSERT_EQUAL(stats.clusters_shared, 1);
        CU_ASSERT_EQUAL(stats.clusters_packed, 0);
        CU_ASSERT_EQUAL(stats.clusters_zero, BOX_PAGES - 10);
        box_agrees(b.child, b.ram.bytes, 2);
        box_end(&b);
}

/* Some pages change, go, come, or are copies of others. */
static void evolve(struct kit_ram *ram, uint64_t *state)
{
        for (unsigned n = (unsigned)(store_random(state) % 40); n > 0; n--) {
                uint8_t *to = ram->bytes + store_random(state) % BOX_PAGES * BOX_PAGE;
                const uint8_t *from = ram->bytes + store_random(state) % BOX_PAGES * BOX_PAGE;

                switch (store_random(state) % 4) {
                case 0: memset(to, 0, BOX_PAGE); break;
                case 1: to[store_random(state) % BOX_PAGE] ^= 1; break;
                case 2: memmove(to, from, BOX_PAGE); break;
                default: store_ram_page(to, BOX_PAGE, 1 + store_random(state) % 2, state);
                }
        }
        /* a hole where there was RAM, or RAM again where there was a hole */
        ram->ranges = 1;
        ram->range[0] = (struct qs_ram_range){ 0, BOX_BYTES };
        if (store_random(state) % 3)
                return;

        uint64_t at = 1 + store_random(state) % (BOX_PAGES / 2);
        uint64_t n = 1 + store_random(state) % (BOX_PAGES / 2 - 2);

        memset(ram->bytes + at * BOX_PAGE, 0, n * BOX_PAGE);
        ram->range[0].bytes = at * BOX_PAGE;
        ram->range[1].gpa = (at + n) * BOX_PAGE;
        ram->range[1].bytes = (BOX_PAGES - at - n) * BOX_PAGE;
        ram->ranges = 2;
}

static void refuse_more(const char *folder, const char *last, struct kit_ram *ram)
{
        struct qs_writer_options o = box_options;
        struct err e = { 0 };
        char path[KIT_PATH_MAX];

        o.backing = last;
        CU_ASSERT_EQUAL(kit_save(kit_path(folder, "more", path), &o, ram, &e), -EMLINK);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "flatten that one with 'vmm image flatten'"));
}

/* A chain of so many files, each of another kind; all of them stay right. */
static void grow_chain(unsigned files, uint64_t seed)
{
        static const uint8_t bits[] = { 12, 12, 13, 14, 16, 21 };
        char folder[KIT_PATH_MAX];
        char path[CHAIN_MAX][KIT_PATH_MAX];
        uint8_t *model[CHAIN_MAX];
        struct kit_ram ram = box_ram(seed);
        uint64_t state = seed;

        kit_folder(folder);
        for (unsigned i = 0; i < files; i++) {
                struct qs_writer_options o = box_options;
                struct err e = { 0 };
                char name[24];

                snprintf(name, sizeof(name), "layer.%u", i);
                o.cluster_bits = bits[store_random(&state) % sizeof(bits)];
                o.compress = store_random(&state) % 2 ? QS_COMPRESS_ZSTD : QS_COMPRESS_NONE;
                o.backing = i ? path[i - 1] : NULL;
                ram.copies = store_random(&state) % 2;
                if (i)
                        evolve(&ram, &state);
                CU_ASSERT_EQUAL_FATAL(kit_save(kit_path(folder, name, path[i]), &o, &ram, &e), 0);
                model[i] = malloc(BOX_BYTES);
                ASSERT(model[i]);
                memcpy(model[i], ram.bytes, BOX_BYTES);
        }
        for (unsigned i = 0; i < files; i++) {
                box_agrees(path[i], model[i], i + 1);
                CU_ASSERT_EQUAL(box_is_marked(path[i]), i + 1 < files);
                free(model[i]);
        }
        if (files == CHAIN_MAX)
                refuse_more(folder, path[files - 1], &ram);
        for (unsigned i = 0; i < files; i++)
                unlink(path[i]);
        free(ram.bytes);
        CU_ASSERT(kit_gone(folder));
}

static void long_chains(void)
{
        grow_chain(17, 5);
        grow_chain(CHAIN_MAX, 6);
}

static void short_chains(void)
{
        for (uint64_t seed = 100; seed < 125; seed++)
                grow_chain(3, seed);
}

/* INV-GUARDIAN holds for the parent's name and for ZERO entries too. */
static void flips(void)
{
        struct box b;
        size_t n;
        unsigned silent = 0;

        box_begin(&b);
        memset(b.ram.bytes, 0, BOX_BYTES / 2);
        CU_ASSERT_EQUAL_FATAL(box_make_child(&b, NULL), 0);

        AUTO_FREE uint8_t *bytes = kit_load(b.child, &n);

        /* all of the header, then here and there */
        for (size_t at = 0; at < n; at += at < LAYOUT_SECTOR_BYTES ? 1 : 411) {
                bytes[at] ^= (uint8_t)(1 << at % 8);

                AUTO_FD fd = kit_file(bytes, n);

                silent += kit_check(fd, 1) == 0;
                bytes[at] ^= (uint8_t)(1 << at % 8);
        }
        CU_ASSERT_EQUAL(silent, 0);
        box_end(&b);
}

static const CU_TestInfo cases[] = {
        { "nothing changed", nothing_changed },
        { "each kind of cluster", each_kind },
        { "random RAM over chains of three", short_chains },
        { "chains of 16 and 32 parents", long_chains },
        { "no flipped bit goes unnoticed", flips },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-delta", cases);
}
