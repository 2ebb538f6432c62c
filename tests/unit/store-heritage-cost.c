/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: what RAM that is its parent's costs: nothing is read in a delta or in the file that
 *       has the parent; what is read is checked; streams are copied as they are.
 * Method: parents whose stored content is damaged where the guest wrote nothing, so that
 *       who reads it fails; streams compared byte by byte. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "qcowstore/image-priv.h"
#include "tests/unit/store-world.h"
#include "tests/unit/store-ram.h"
#include "tests/unit/suite.h"

/* Flips a byte of the stored content of every cluster that is wholly the parent's; again,
 * and all is as it was. Returns how many. */
static unsigned damage(struct world *w)
{
        unsigned bits = w->o.cluster_bits;
        unsigned per = 1u << (bits - 12);
        unsigned n = 0;
        AUTO_FD fd = open(w->path[A], O_RDWR | O_CLOEXEC);

        ASSERT(fd >= 0);
        for (unsigned p = 0; p + per <= BOX_PAGES; p += per) {
                struct extent x;
                uint8_t byte;
                bool any = false;

                for (unsigned i = 0; i < per; i++)
                        any |= w->guest.own[p + i];
                CU_ASSERT_EQUAL_FATAL(image_extent(w->parent, (uint64_t)p * BOX_PAGE,
                                                   1u << bits, &x, NULL), 0);
                if (any || x.kind == L2_ZERO)
                        continue;
                ASSERT(io_pread_full(fd, &byte, 1, x.offset + 7) == 0);
                byte ^= 0x20;
                ASSERT(io_pwrite_full(fd, &byte, 1, x.offset + 7) == 0);
                n++;
        }
        return n;
}

/* 1 % of the pages, and all else would not pass if it were read. */
static void nothing_is_read(void)
{
        struct world w;

        for (unsigned n = 0; n < 2 * WORLD_BITS; n++) {
                struct qs_writer_options o = box_options;
                struct qs_writer_stats stats;

                world_begin(&w, world_bits[n / 2], n % 2 ? QS_COMPRESS_ZSTD : QS_COMPRESS_NONE,
                            n + 1);
                o.cluster_bits = w.o.cluster_bits;
                o.backing = w.path[A];
                guest_runs(&w.guest, w.ram.bytes, false, o.cluster_bits < 16 ? 10 : 1);

                unsigned untouched = guest_untouched(&w.guest, o.cluster_bits);

                CU_ASSERT(damage(&w) > 0);
                world_save(&w, w.path[C], &o, &stats);
                damage(&w);
                CU_ASSERT(stats.clusters_same >= untouched);
                guest_agrees(&w.guest, w.path[C], NULL);
                world_end(&w);
        }
}

/* A delta of the delta looks at tables only. */
static void nothing_is_read_further(void)
{
        struct world w;
        struct qs_writer_options o;
        struct qs_writer_stats stats;

        world_begin(&w, 14, QS_COMPRESS_ZSTD, 5);
        o = w.o;
        o.backing = w.path[A];
        guest_runs(&w.guest, w.ram.bytes, false, 10);
        world_save(&w, w.path[C], &o, NULL);
        memset((void *)w.guest.asked, 0, sizeof(w.guest.asked));
        o.backing = w.path[C];
        CU_ASSERT(damage(&w) > 0);
        world_save(&w, w.path[D], &o, &stats);
        damage(&w);
        CU_ASSERT_EQUAL(stats.clusters_packed + stats.clusters_raw + stats.clusters_shared, 0);
        guest_agrees(&w.guest, w.path[D], NULL);
        world_end(&w);
}

/* What is damaged does not get a sum that says otherwise (INV-VERIFIED). */
static void damage_is_found(void)
{
        struct world w;

        for (unsigned n = 0; n < 8; n++) {
                struct qs_writer_options o = box_options;
                struct err e = { 0 };

                world_begin(&w, 14, n & 1 ? QS_COMPRESS_ZSTD : QS_COMPRESS_NONE, n + 1);
                o.cluster_bits = n & 2 ? 14 : 12;
                o.compress = n & 4 ? QS_COMPRESS_ZSTD : QS_COMPRESS_NONE;
                guest_runs(&w.guest, w.ram.bytes, false, 20);
                CU_ASSERT(damage(&w) > 0);
                CU_ASSERT_EQUAL(guest_save(&w.guest, w.path[C], &o, NULL, &e), -EBADMSG);
                CU_ASSERT_PTR_NOT_NULL(strstr(e.text, w.path[A]));
                CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "guest memory at "));
                CU_ASSERT_EQUAL(access(w.path[C], F_OK), -1);
                world_end(&w);
        }
}

/* In the file itself nothing is read; who looks finds the damage in both snapshots. */
static void linked_damage(void)
{
        struct world w;
        struct qs_writer_options o;
        struct qs_writer_stats stats;

        for (unsigned n = 0; n < 4; n++) {
                world_begin(&w, n & 1 ? 12 : 14, n & 2 ? QS_COMPRESS_ZSTD : QS_COMPRESS_NONE,
                            n + 3);
                o = w.o;
                o.append = true;
                strcpy(o.tag, "0");             /* makes the index, which reads all */
                CU_ASSERT_EQUAL_FATAL(kit_save(w.path[A], &o, &w.ram, NULL), 0);
                strcpy(o.tag, "u");
                guest_runs(&w.guest, w.ram.bytes, false, 10);

                unsigned hurt = damage(&w);

                CU_ASSERT(hurt > 0);
                world_save(&w, w.path[A], &o, &stats);
                CU_ASSERT(stats.clusters_shared >= hurt);

                struct qs_image *m = world_open(w.path[A], "u");
                AUTO_FD fd = kit_open(w.path[A]);

                CU_ASSERT_EQUAL(kit_compare(m, w.guest.bytes), -EBADMSG);
                CU_ASSERT(kit_check(fd, 1) > 0);
                damage(&w);
                CU_ASSERT_EQUAL(kit_compare(m, w.guest.bytes), 0);
                CU_ASSERT_EQUAL(kit_check(fd, 1), 0);
                qs_image_close(m);
                world_end(&w);
        }
}

/* Streams of the parent, of whatever level, are those of the new file. */
static void copied_as_stored(void)
{
        struct world w;
        unsigned copied = 0;

        world_begin(&w, 14, QS_COMPRESS_NONE, 9);
        w.o.compress = QS_COMPRESS_ZSTD;
        w.o.zstd_level = 19;
        world_begin_again(&w);
        world_put_layer(&w, true);
        guest_runs(&w.guest, w.ram.bytes, false, 30);
        w.o.zstd_level = 1;
        world_save(&w, w.path[C], &w.o, NULL);

        struct qs_image *m = world_open(w.path[C], NULL);

        for (unsigned p = 0; p + 4 <= BOX_PAGES; p += 4) {
                struct extent x, y;
                uint8_t from[64], to[64];

                if (w.guest.own[p] || w.guest.own[p + 1] || w.guest.own[p + 2] ||
                    w.guest.own[p + 3])
                        continue;
                CU_ASSERT_EQUAL(image_extent(w.parent, (uint64_t)p * BOX_PAGE, 16384, &x, NULL), 0);
                CU_ASSERT_EQUAL(image_extent(m, (uint64_t)p * BOX_PAGE, 16384, &y, NULL), 0);
                CU_ASSERT_EQUAL(x.kind, y.kind);
                if (x.kind != L2_PACKED || x.stream_bytes < 512)
                        continue;
                CU_ASSERT_EQUAL(image_pread(x.layer, from, sizeof(from), x.offset, "", NULL), 0);
                CU_ASSERT_EQUAL(image_pread(m, to, sizeof(to), y.offset, "", NULL), 0);
                CU_ASSERT_EQUAL(memcmp(from, to, sizeof(to)), 0);
                copied++;
        }
        CU_ASSERT(copied > 20);
        qs_image_close(m);
        world_end(&w);
}

/* Each layer's first stream lies at the same place of its file. */
static void one_place_two_layers(void)
{
        struct world w;
        struct extent x, y;
        uint64_t state = 8;

        world_begin(&w, 14, QS_COMPRESS_ZSTD, 1);
        memset(w.ram.bytes, 0, BOX_BYTES);
        store_ram_page(w.ram.bytes + 40 * BOX_PAGE, 4 * BOX_PAGE, 1, &state);
        world_begin_again(&w);
        guest_runs(&w.guest, w.ram.bytes, false, 0);
        for (unsigned p = 80; p < 84; p++) {
                for (unsigned i = 0; i < BOX_PAGE; i++)
                        w.guest.bytes[p * BOX_PAGE + i] = w.ram.bytes[(p - 40) * BOX_PAGE + i] ^ 1;
                guest_write(&w.guest, p, 3);
        }
        w.o.backing = w.path[A];
        world_save(&w, w.path[B], &w.o, NULL);
        memcpy(w.ram.bytes, w.guest.bytes, BOX_BYTES);
        qs_image_close(w.parent);
        w.parent = w.guest.parent = world_open(w.path[B], NULL);
        CU_ASSERT_EQUAL(image_extent(w.parent, 40 * BOX_PAGE, 16384, &x, NULL), 0);
        CU_ASSERT_EQUAL(image_extent(w.parent, 80 * BOX_PAGE, 16384, &y, NULL), 0);
        CU_ASSERT(x.layer != y.layer && x.kind == L2_PACKED && y.kind == L2_PACKED);
        CU_ASSERT(x.offset == y.offset && x.stream_bytes == y.stream_bytes);
        guest_runs(&w.guest, w.ram.bytes, false, 0);
        w.o.backing = NULL;
        world_save(&w, w.path[C], &w.o, NULL);
        guest_agrees(&w.guest, w.path[C], NULL);
        world_end(&w);
}

/* A byte anywhere in the parent: what is saved fails, or is right, or says itself that it
 * is not. */
static void one_flip(struct world *w, uint64_t random)
{
        struct qs_writer_options o = w->o;
        AUTO_FD fd = open(w->path[A], O_RDWR | O_CLOEXEC);
        uint64_t at = random % (uint64_t)lseek(fd, 0, SEEK_END);
        uint8_t byte;

        ASSERT(io_pread_full(fd, &byte, 1, at) == 0);
        byte ^= (uint8_t)(1 << (random >> 40) % 8);
        ASSERT(io_pwrite_full(fd, &byte, 1, at) == 0);
        o.force = true;
        o.backing = NULL;
        if (qs_image_open_path(w->path[A], NULL, &w->guest.parent, NULL) == 0) {
                if (guest_save(&w->guest, w->path[C], &o, NULL, NULL) == 0)
                        guest_agrees(&w->guest, w->path[C], NULL);
                o.append = true;
                o.force = false;
                strcpy(o.tag, "u");
                if (guest_save(&w->guest, w->path[A], &o, NULL, NULL) == 0) {
                        struct qs_image *m = world_open(w->path[A], "u");
                        long wrong = kit_compare(m, w->guest.bytes);

                        CU_ASSERT(wrong == 0 || wrong == -EBADMSG);
                        qs_image_close(m);
                }
                qs_image_close(w->guest.parent);
        }
        w->guest.parent = NULL;
}

static void flips(void)
{
        struct world w;
        uint64_t state = 77;

        world_begin(&w, 14, QS_COMPRESS_ZSTD, 2);
        qs_image_close(w.parent);
        w.parent = w.guest.parent = NULL;
        guest_runs(&w.guest, w.ram.bytes, false, 10);
        w.o.force = true;
        for (unsigned i = 0; i < 150; i++) {
                CU_ASSERT_EQUAL_FATAL(kit_save(w.path[A], &w.o, &w.ram, NULL), 0);
                one_flip(&w, store_random(&state));
        }
        world_end(&w);
}

static const CU_TestInfo cases[] = {
        { "a delta reads nothing of what is the parent's", nothing_is_read },
        { "nor does a delta of that", nothing_is_read_further },
        { "damage in the parent is found", damage_is_found },
        { "damage that is referred to stays damage", linked_damage },
        { "streams are copied as they are stored", copied_as_stored },
        { "one place in two layers", one_place_two_layers },
        { "no flipped bit of the parent goes unnoticed", flips },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-heritage-cost", cases);
}
