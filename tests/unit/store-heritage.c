/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: RAM that a source says is its parent's is right in every kind of file.
 * Method: guests that write pages at random and show garbage elsewhere, saved into all kinds
 *       of files over all kinds of parents. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/check.h"
#include "qcowstore/writer-priv.h"
#include "tests/unit/store-world.h"
#include "tests/unit/store-ram.h"
#include "tests/unit/suite.h"

static struct qs_writer_options any_options(struct guest *g)
{
        struct qs_writer_options o = box_options;

        o.cluster_bits = world_bits[guest_below(g, WORLD_BITS)];
        o.compress = guest_below(g, 3) ? QS_COMPRESS_ZSTD : QS_COMPRESS_NONE;
        o.threads = 1 + (unsigned)guest_below(g, 4);
        return o;
}

/* Of the very parent, then of a delta of it: the guest still has the old one. */
static void deltas(struct world *w, bool layered, const struct qs_writer_options *options)
{
        struct qs_writer_options o = *options;
        struct qs_writer_stats stats;

        o.backing = w->path[layered ? B : A];
        world_save(w, w->path[C], &o, &stats);
        CU_ASSERT(stats.clusters_same >= guest_untouched(&w->guest, o.cluster_bits));
        guest_agrees(&w->guest, w->path[C], NULL);
        /* some of what it had written is the parent's again, and the other way round */
        guest_runs(&w->guest, w->ram.bytes, guest_below(&w->guest, 2), 80);
        o.backing = w->path[C];
        o.cluster_bits = world_bits[guest_below(&w->guest, WORLD_BITS)];
        world_save(w, w->path[D], &o, NULL);
        guest_agrees(&w->guest, w->path[D], NULL);
}

/* A snapshot more in the file that the guest came from, or one in its place. */
static void same_file(struct world *w, const struct qs_writer_options *options)
{
        struct qs_writer_options o = *options;
        struct qs_writer_stats before, after;
        unsigned untouched = guest_untouched(&w->guest, o.cluster_bits);

        o.append = o.compress_alike = true;
        strcpy(o.tag, "u");
        world_save(w, w->path[A], &o, &before);
        guest_agrees(&w->guest, w->path[A], "u");
        guest_runs(&w->guest, w->ram.bytes, false, 20);
        o.force = true;
        world_save(w, w->path[A], &o, &after);
        guest_agrees(&w->guest, w->path[A], "u");
        CU_ASSERT(before.clusters_shared + before.clusters_zero >= untouched);
        guest_runs(&w->guest, w->ram.bytes, false, 0);
        guest_agrees(&w->guest, w->path[A], "t");
        CU_ASSERT_EQUAL(qs_snapshot_delete(w->path[A], "u", NULL), 0);
        guest_agrees(&w->guest, w->path[A], NULL);
}

static void other_file(struct world *w, const struct qs_writer_options *options)
{
        struct qs_writer_options o = *options;
        struct kit_ram other = box_ram(77);

        CU_ASSERT_EQUAL_FATAL(kit_save(w->path[C], &o, &other, NULL), 0);
        o.append = true;
        strcpy(o.tag, "u");
        world_save(w, w->path[C], &o, NULL);
        guest_agrees(&w->guest, w->path[C], "u");
        free(other.bytes);
}

static void one_world(uint64_t seed)
{
        struct world w;
        uint64_t state = seed * 2 + 1;
        bool layered = store_random(&state) >> 20 & 1;
        unsigned bits = world_bits[store_random(&state) % WORLD_BITS];

        world_begin(&w, bits, seed % 3 ? QS_COMPRESS_ZSTD : QS_COMPRESS_NONE, seed);
        if (layered)
                world_put_layer(&w, seed % 2);

        struct qs_writer_options o = any_options(&w.guest);

        if (guest_below(&w.guest, 2)) {
                o.cluster_bits = w.o.cluster_bits;
                o.compress = w.o.compress;
        }
        guest_runs(&w.guest, w.ram.bytes, guest_below(&w.guest, 3) == 0,
                   (unsigned)guest_below(&w.guest, 200));
        switch (seed % 4) {
        case 0:
                deltas(&w, layered, &o);
                break;
        case 1:
                world_save(&w, w.path[C], &o, NULL);
                guest_agrees(&w.guest, w.path[C], NULL);
                break;
        case 2:
                other_file(&w, &o);
                break;
        default:
                if (layered)
                        break;
                o.cluster_bits = w.o.cluster_bits;
                same_file(&w, &o);
        }
        world_end(&w);
}

static void worlds(void)
{
        for (uint64_t seed = 1; seed <= 64; seed++)
                one_world(seed);
}

/* No parent: what was not written is zero. */
static void cold_boot(void)
{
        struct world w;

        for (uint64_t seed = 1; seed <= 8; seed++) {
                world_begin(&w, 14, QS_COMPRESS_ZSTD, seed);
                w.guest.parent = NULL;
                guest_runs(&w.guest, NULL, seed % 2, 50);

                struct qs_writer_options o = any_options(&w.guest);

                world_save(&w, w.path[C], &o, NULL);
                guest_agrees(&w.guest, w.path[C], NULL);
                guest_runs(&w.guest, NULL, false, 50);
                o.backing = w.path[A];          /* and zeros where that has something */
                world_save(&w, w.path[D], &o, NULL);
                guest_agrees(&w.guest, w.path[D], NULL);
                world_end(&w);
        }
}

/* RAM that is taken again, and the working set that comes ahead. */
static void again(void)
{
        static const struct qs_ram_range set[] = { { 40 * BOX_PAGE, 400 * BOX_PAGE },
                                                   { 3 * BOX_PAGE, 9 * BOX_PAGE } };
        struct world w;

        for (uint64_t seed = 1; seed <= 12; seed++) {
                world_begin(&w, seed % 2 ? 12 : 14, seed % 3 ? QS_COMPRESS_ZSTD : QS_COMPRESS_NONE,
                            seed);

                struct qs_writer_options o = w.o;

                o.backing = seed % 4 < 2 ? w.path[A] : NULL;
                guest_runs(&w.guest, w.ram.bytes, false, 100);

                struct qs_ram_source source = guest_source(&w.guest);
                struct qs_writer *writer = box_writer(w.path[C], &o);
                struct qs_ram_range change[2];

                CU_ASSERT_EQUAL(qs_writer_first(writer, set, ARRAY_SIZE(set), NULL), 0);
                CU_ASSERT_EQUAL_FATAL(qs_writer_ram(writer, w.guest.range, w.guest.ranges, &source,
                                                    NULL, NULL, NULL), 0);
                guest_runs(&w.guest, w.ram.bytes, false, 150);
                change[0] = (struct qs_ram_range){ 0, 611 * BOX_PAGE };
                change[1] = (struct qs_ram_range){ 613 * BOX_PAGE, BOX_BYTES - 613 * BOX_PAGE };
                CU_ASSERT_EQUAL_FATAL(qs_writer_again(writer, change, 2, &source, NULL, NULL,
                                                      NULL), 0);
                change[0] = (struct qs_ram_range){ 611 * BOX_PAGE, 2 * BOX_PAGE };
                CU_ASSERT_EQUAL_FATAL(qs_writer_again(writer, change, 1, &source, NULL, NULL,
                                                      NULL), 0);
                CU_ASSERT_EQUAL_FATAL(qs_writer_publish(writer, NULL), 0);
                qs_writer_free(writer);
                guest_agrees(&w.guest, w.path[C], NULL);
                world_end(&w);
        }
}

/* Few references to a content are allowed, and there are many equal clusters: of the
 * parent alone, and with those that the guest wrote (INV-COUNT). */
static void few_references(void)
{
        struct world w;

        for (unsigned n = 0; n < 12; n++) {
                struct qs_writer_options o;
                struct qs_writer *writer;
                struct qs_writer_stats stats;
                uint64_t state = 4;
                bool pool = n % 3 == 2;

                world_begin(&w, n & 1 ? 12 : 14, QS_COMPRESS_ZSTD, n + 1);
                store_ram_page(w.ram.bytes, 16384, 1, &state);
                for (unsigned p = 4; p < 800; p += 4)
                        memcpy(w.ram.bytes + p * BOX_PAGE, w.ram.bytes, 4 * BOX_PAGE);
                world_begin_again(&w);
                guest_runs(&w.guest, w.ram.bytes, false, n % 2 * 40);

                struct qs_ram_source source = guest_source(&w.guest);

                o = w.o;
                o.append = pool;
                strcpy(o.tag, "u");
                writer = box_writer(w.path[pool ? A : C], &o);
                if (n >= 3)
                        writer->refs_max = 1 + n / 3;
                CU_ASSERT_EQUAL_FATAL(qs_writer_ram(writer, w.guest.range, 1, &source, NULL, NULL,
                                                    NULL), 0);
                CU_ASSERT_EQUAL_FATAL(qs_writer_publish(writer, NULL), 0);
                qs_writer_stats(writer, &stats);
                qs_writer_free(writer);
                guest_agrees(&w.guest, w.path[pool ? A : C], "u");
                if (n < 3)
                        CU_ASSERT(stats.clusters_shared >= (n & 1 ? 600u : 150u));
                world_end(&w);
        }
}

static const CU_TestInfo cases[] = {
        { "every file over every parent", worlds },
        { "no parent at all", cold_boot },
        { "taken again, and ahead", again },
        { "few references to a content", few_references },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-heritage", cases);
}
