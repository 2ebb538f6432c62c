/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: whatever order a source wants its RAM to be taken in, all of it is taken once and
 *       lies in the file in the order in which it was taken (INV-EACH, INV-ORDER).
 * Method: sources that want it backwards, at random from several threads, or nonsense;
 *       each page asked for is counted; where things lie is asked of the image. */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "qcowstore/image-priv.h"
#include "tests/unit/store-box.h"
#include "tests/unit/store-ram.h"
#include "tests/unit/suite.h"

#define MIB (1u << 20)
#define RAM_MIBS 24u
#define RAM_BYTES ((uint64_t)RAM_MIBS * MIB)
#define PAGES (RAM_BYTES / BOX_PAGE)

struct order {
        struct kit_ram ram;
        _Atomic unsigned asked[PAGES];          /* how often */
        _Atomic unsigned wanted;                /* calls of next() */
        _Atomic uint64_t random;
        /* of one thread: in which order spans were asked for */
        uint64_t span[4096];
        _Atomic unsigned spans;
        unsigned spans_before;                  /* when next() was called first */
        bool (*next)(void *ctx, uint64_t *ret_gpa);
};

static const void *span(void *ctx, uint64_t gpa, size_t bytes, void *buf, struct qs_span *ret,
                        struct err *e)
{
        struct order *o = ctx;

        (void)buf;
        (void)ret;
        (void)e;
        for (uint64_t p = gpa / BOX_PAGE; p < (gpa + bytes) / BOX_PAGE; p++)
                o->asked[p]++;
        o->span[o->spans++ % ARRAY_SIZE(o->span)] = gpa;
        return o->ram.bytes + gpa;
}

static uint64_t random_of(struct order *o)
{
        uint64_t state = (o->random += 0x9e3779b97f4a7c15) | 1;

        return store_random(&state) >> 8;
}

static bool backwards(void *ctx, uint64_t *ret_gpa)
{
        struct order *o = ctx;
        unsigned n = o->wanted++;

        if (n == 0)
                o->spans_before = o->spans;
        *ret_gpa = RAM_BYTES - 1 - (uint64_t)n % RAM_MIBS * MIB;
        return true;
}

static bool any(void *ctx, uint64_t *ret_gpa)
{
        struct order *o = ctx;

        o->wanted++;
        *ret_gpa = random_of(o) % RAM_BYTES;
        return random_of(o) % 4 > 0;
}

/* Outside, in holes, again and again, and now and then something that is right. */
static bool nonsense(void *ctx, uint64_t *ret_gpa)
{
        static const uint64_t odd[] = { 0, RAM_BYTES - 1, RAM_BYTES, RAM_BYTES + MIB, UINT64_MAX,
                                        1ull << 63, 7 * MIB + 1 };
        struct order *o = ctx;
        uint64_t n = random_of(o);

        o->wanted++;
        *ret_gpa = n % 9 ? odd[n % ARRAY_SIZE(odd)] : random_of(o);
        return true;
}

/* Says nothing of where. */
static bool never(void *ctx, uint64_t *ret_gpa)
{
        struct order *o = ctx;

        o->wanted++;
        *ret_gpa = 3 * MIB;
        return false;
}

static void begin(struct order *o, uint64_t seed)
{
        *o = (struct order){ .random = seed };
        o->ram.bytes = calloc(1, RAM_BYTES);
        ASSERT(o->ram.bytes);
        store_ram_fill(o->ram.bytes, RAM_BYTES, seed);
        o->ram.ranges = 1;
        o->ram.range[0] = (struct qs_ram_range){ 0, RAM_BYTES };
}

/* three ranges: the second one begins and ends within chunks */
static void punch(struct order *o)
{
        static const struct qs_ram_range range[] = {
                { 0, 5 * MIB }, { 7 * MIB + 3 * BOX_PAGE, 4 * MIB },
                { 16 * MIB, RAM_BYTES - 16 * MIB },
        };
        uint64_t end = 0;

        for (size_t i = 0; i < ARRAY_SIZE(range); i++) {
                memset(o->ram.bytes + end, 0, range[i].gpa - end);
                end = range[i].gpa + range[i].bytes;
                o->ram.range[i] = range[i];
        }
        o->ram.ranges = ARRAY_SIZE(range);
}

static bool is_ram(const struct order *o, uint64_t gpa)
{
        for (size_t i = 0; i < o->ram.ranges; i++) {
                if (gpa >= o->ram.range[i].gpa && gpa - o->ram.range[i].gpa < o->ram.range[i].bytes)
                        return true;
        }
        return false;
}

static void save(const char *path, const struct qs_writer_options *options, struct order *o,
                 const struct qs_ram_range *first, size_t n_first)
{
        struct qs_ram_source source = { .span = span, .ctx = o, .next = o->next };
        struct qs_writer *w = box_writer(path, options);
        struct err e = { 0 };

        CU_ASSERT_EQUAL(qs_writer_first(w, first, n_first, &e), 0);
        CU_ASSERT_EQUAL_FATAL(qs_writer_ram(w, o->ram.range, o->ram.ranges, &source, NULL, NULL,
                                            &e), 0);
        CU_ASSERT_EQUAL_FATAL(qs_writer_publish(w, &e), 0);
        qs_writer_free(w);
}

static unsigned asked_wrongly(const struct order *o)
{
        unsigned wrong = 0;

        for (uint64_t p = 0; p < PAGES; p++)
                wrong += o->asked[p] != is_ram(o, p * BOX_PAGE);
        return wrong;
}

static void one_order(const struct qs_writer_options *options, bool holes, uint64_t seed,
                      bool (*next)(void *ctx, uint64_t *ret_gpa))
{
        AUTO_FREE struct order *o = malloc(sizeof(*o));
        char folder[KIT_PATH_MAX], path[KIT_PATH_MAX];

        ASSERT(o);
        kit_folder(folder);
        begin(o, seed);
        if (holes)
                punch(o);
        o->next = next;
        save(kit_path(folder, "image", path), options, o, NULL, 0);
        CU_ASSERT_EQUAL(asked_wrongly(o), 0);
        CU_ASSERT(o->wanted > 0);
        box_agrees(path, o->ram.bytes, 1);
        unlink(path);
        free(o->ram.bytes);
        CU_ASSERT(kit_gone(folder));
}

static void every_order(void)
{
        static const unsigned bits[] = { 12, 14, 16, 21 };
        bool (*const next[])(void *ctx, uint64_t *ret_gpa) = { backwards, any, nonsense, never };

        for (unsigned n = 0; n < 4 * 4 * 2 * 2; n += 3) {
                struct qs_writer_options o = {
                        .cluster_bits = bits[n % 4], .zstd_level = 1, .threads = n & 32 ? 7 : 2,
                        .compress = n % 3 ? QS_COMPRESS_ZSTD : QS_COMPRESS_NONE,
                        .disk_bytes = RAM_BYTES,
                };

                one_order(&o, n & 16, n + 1, next[n / 4 % 4]);
        }
}

/* Where a chunk's first data are; 0 = it has none. */
static uint64_t place_of(struct qs_image *m, uint64_t gpa)
{
        for (uint64_t at = gpa; at < gpa + MIB;) {
                struct extent x;

                CU_ASSERT_EQUAL_FATAL(image_extent(m, at, gpa + MIB - at, &x, NULL), 0);
                if (x.kind == L2_RAW)
                        return x.offset;
                at += x.bytes;
        }
        return 0;
}

/* INV-ORDER: of one thread the order is known, and the places follow it. */
static void layout(void)
{
        AUTO_FREE struct order *o = malloc(sizeof(*o));
        struct qs_writer_options options = {
                .cluster_bits = 12, .threads = 1, .disk_bytes = RAM_BYTES,
        };
        char folder[KIT_PATH_MAX], path[KIT_PATH_MAX];
        struct qs_image *m;
        uint64_t before = 0;

        ASSERT(o);
        kit_folder(folder);
        begin(o, 11);
        for (uint64_t at = 0, state = 5; at < RAM_BYTES; at += BOX_PAGE) /* no two are equal */
                store_ram_page(o->ram.bytes + at, BOX_PAGE, 2, &state);
        o->next = backwards;
        save(kit_path(folder, "image", path), &options, o, NULL, 0);
        CU_ASSERT_EQUAL(o->spans, RAM_MIBS);
        CU_ASSERT_EQUAL_FATAL(qs_image_open_path(path, NULL, &m, NULL), 0);
        for (unsigned i = 0; i < RAM_MIBS; i++) {
                uint64_t at = place_of(m, o->span[i]);

                CU_ASSERT_EQUAL(o->span[i], RAM_BYTES - (i + 1) * (uint64_t)MIB);
                CU_ASSERT(at > before);
                before = at;
        }
        qs_image_close(m);
        unlink(path);
        free(o->ram.bytes);
        CU_ASSERT(kit_gone(folder));
}

/* A working set stays first and in its order, and nobody is asked about it. */
static void working_set(void)
{
        static const struct qs_ram_range set[] = {
                { 9 * MIB, 3 * BOX_PAGE }, { 2 * MIB - 2 * BOX_PAGE, 4 * BOX_PAGE },
                { 20 * MIB, BOX_PAGE },
        };
        static const uint64_t order[] = { 9 * MIB, 2 * MIB - 2 * BOX_PAGE, 2 * MIB, 20 * MIB };
        AUTO_FREE struct order *o = malloc(sizeof(*o));
        struct qs_writer_options options = {
                .cluster_bits = 12, .threads = 1, .disk_bytes = RAM_BYTES,
        };
        char folder[KIT_PATH_MAX], path[KIT_PATH_MAX];

        ASSERT(o);
        kit_folder(folder);
        begin(o, 12);
        o->next = backwards;
        save(kit_path(folder, "image", path), &options, o, set, ARRAY_SIZE(set));
        for (size_t i = 0; i < ARRAY_SIZE(order); i++)
                CU_ASSERT_EQUAL(o->span[i], order[i]);
        CU_ASSERT_EQUAL(o->spans_before, ARRAY_SIZE(order));
        for (unsigned i = 0; i < RAM_MIBS; i++)
                CU_ASSERT_EQUAL(o->span[ARRAY_SIZE(order) + i],
                                RAM_BYTES - (i + 1) * (uint64_t)MIB);
        box_agrees(path, o->ram.bytes, 1);
        unlink(path);
        free(o->ram.bytes);
        CU_ASSERT(kit_gone(folder));
}

/* Also where no RAM is there are chunks: what a parent has there must not show. */
static void over_a_parent(void)
{
        AUTO_FREE struct order *o = malloc(sizeof(*o));
        struct qs_writer_options options = {
                .cluster_bits = 14, .threads = 3, .disk_bytes = RAM_BYTES, .zstd_level = 1,
                .compress = QS_COMPRESS_ZSTD,
        };
        char folder[KIT_PATH_MAX], parent[KIT_PATH_MAX], child[KIT_PATH_MAX];

        ASSERT(o);
        kit_folder(folder);
        begin(o, 13);
        o->next = any;
        save(kit_path(folder, "parent", parent), &options, o, NULL, 0);
        punch(o);
        store_ram_fill(o->ram.bytes + 16 * MIB, 2 * MIB, 99);
        memset((void *)o->asked, 0, sizeof(o->asked));
        options.backing = parent;
        save(kit_path(folder, "child", child), &options, o, NULL, 0);
        CU_ASSERT_EQUAL(asked_wrongly(o), 0);
        box_agrees(child, o->ram.bytes, 2);
        unlink(child);
        unlink(parent);
        free(o->ram.bytes);
        CU_ASSERT(kit_gone(folder));
}

static const CU_TestInfo cases[] = {
        { "every order, every cluster size", every_order },
        { "the layout follows the order", layout },
        { "a working set stays first", working_set },
        { "over a parent, with holes", over_a_parent },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-order", cases);
}
