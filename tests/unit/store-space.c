/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: nothing that the published state uses is given out (INV-SHADOW), nothing
 *       twice, and what is free is used before the file grows, from its start.
 * Method: random demands on a file with random holes, next to a map with one
 *       letter for each cluster; counts drop to 0 meanwhile, as they do when
 *       tables are superseded; what was given out is recycled; arrays are compared
 *       after they grew. */
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "qcowstore/space.h"
#include "tests/unit/expect.h"
#include "tests/unit/store-ram.h"
#include "tests/unit/suite.h"

#define MAP_MAX 60000u
#define BITS 12
#define SUMS_PER_BLOCK (1u << (BITS - 3))
#define OUT_MAX 4
#define STEPS_LOG2 10                   /* short histories leave blocks untouched */

enum { USED = 'u', FREE = 'f', TAKEN = 't', OUT = 'o', BEYOND = 0 };

struct world {
        struct space space;
        char map[MAP_MAX];
        uint64_t end;
        bool touched[MAP_MAX / SUMS_PER_BLOCK + 1];
        struct space_run out[OUT_MAX];          /* taken as runs, not returned yet */
        uint64_t random;
        unsigned wrong;
};

static uint64_t below(struct world *w, uint64_t n)
{
        return store_random(&w->random) % n;
}

static uint32_t mark(uint64_t cluster)
{
        return (uint32_t)(cluster * 2654435761u) | 1;
}

/* A published state: runs that are used, and holes between them. */
static void build(struct world *w, uint64_t seed, bool offer)
{
        *w = (struct world){ .random = seed * 2 + 1 };
        CU_ASSERT_EQUAL_FATAL(space_init(&w->space, BITS, NULL), 0);

        uint64_t clusters = 1 + below(w, 6000);

        CU_ASSERT_EQUAL_FATAL(space_reserve(&w->space, clusters, NULL), 0);
        w->map[0] = USED;
        w->end = 1;
        while (w->end < clusters) {
                char what = below(w, 2) ? USED : FREE;

                for (uint64_t n = 1 + below(w, 40); n > 0 && w->end < clusters; n--) {
                        w->space.refs[w->end] = what == USED ? mark(w->end) : 0;
                        w->space.sums[w->end] = mark(w->end);
                        w->map[w->end++] = offer ? what : USED;
                }
        }
        space_extend(&w->space, w->end);
        memset(w->space.touched, 0, w->space.room / SUMS_PER_BLOCK);
        if (offer)
                CU_ASSERT_EQUAL_FATAL(space_offer(&w->space, NULL), 0);
}

/* The lowest run of at least min free clusters; n = 0: none. */
static struct space_run lowest(const struct world *w, uint64_t min)
{
        struct space_run run = { 0, 0 };

        for (uint64_t i = 1; i <= w->end; i++) {
                if (w->map[i] == FREE) {
                        if (run.n++ == 0)
                                run.first = i;
                        continue;
                }
                if (run.n >= min)
                        return run;
                run = (struct space_run){ 0, 0 };
        }
        return run;
}

static void set_map(struct world *w, uint64_t first, uint64_t n, char from, char to)
{
        for (uint64_t i = first; i < first + n; i++) {
                w->wrong += i >= MAP_MAX || w->map[i] != from;
                w->map[i] = to;
                if (to != FREE)
                        w->touched[i / SUMS_PER_BLOCK] = true;
        }
}

static void take(struct world *w)
{
        uint64_t n = 1 + below(w, below(w, 4) ? 6 : 60);
        struct space_run want = lowest(w, n);
        uint64_t got = space_take(&w->space, n);

        w->wrong += got != (want.n ? want.first : w->end);
        set_map(w, got, n, want.n ? FREE : BEYOND, TAKEN);              /* INV-SHADOW */
        for (uint64_t i = got; i < got + n && got >= w->end; i++)
                w->wrong += w->space.refs[i] != 0 || w->space.sums[i] != 0;
        if (!want.n)
                w->end += n;
}

static void take_run(struct world *w)
{
        struct space_run *out = &w->out[below(w, OUT_MAX)];
        uint64_t min = 1 + below(w, 30);
        struct space_run want = lowest(w, min);

        if (out->n)
                return;
        *out = space_take_run(&w->space, min);
        w->wrong += out->n != want.n || (want.n && out->first != want.first);
        set_map(w, out->first, out->n, FREE, OUT);
}

/* some of the run was used, from its start; perhaps nothing, perhaps all */
static void give_back(struct world *w)
{
        struct space_run *out = &w->out[below(w, OUT_MAX)];
        uint64_t used = below(w, out->n + 1);

        if (below(w, 4) == 0)
                used = out->n;
        set_map(w, out->first, used, OUT, TAKEN);
        set_map(w, out->first + used, out->n - used, OUT, FREE);
        space_return(&w->space, (struct space_run){ out->first + used, out->n - used });
        *out = (struct space_run){ 0, 0 };
}

static void extend(struct world *w)
{
        uint64_t n = below(w, 20);

        CU_ASSERT_EQUAL_FATAL(space_reserve(&w->space, n, NULL), 0);
        set_map(w, w->end, n, BEYOND, TAKEN);
        w->end += n;
        space_extend(&w->space, w->end);
}

/* A table is superseded: that does not make it free. */
static void release(struct world *w)
{
        uint64_t at = 1 + below(w, w->end);

        for (uint64_t i = at; i < MIN(at + 8, w->end); i++) {
                if (w->map[i] == USED)
                        w->space.refs[i] = 0;
        }
}

/* Nobody needs some of what was given out any more; it joins what is free. */
static void recycle(struct world *w)
{
        AUTO_FREE uint8_t *gone = calloc(w->space.room, 1);

        ASSERT(gone);
        for (unsigned i = 0; i < OUT_MAX; i++) {
                if (w->out[i].n)
                        return;
        }
        for (uint64_t i = 1; i < w->end; i++) {
                if (w->map[i] == TAKEN && below(w, 3) == 0) {
                        gone[i] = 1;
                        w->map[i] = FREE;
                }
        }
        CU_ASSERT_EQUAL_FATAL(space_recycle(&w->space, gone, NULL), 0);
}

static void compare(struct world *w)
{
        CU_ASSERT_EQUAL(w->space.end, w->end);
        CU_ASSERT(w->space.room >= w->end && w->space.room % (2 * SUMS_PER_BLOCK) == 0);
        for (uint64_t i = 1; i < w->end; i++) {
                if (w->map[i] == USED)
                        w->wrong += w->space.sums[i] != mark(i) ||
                                    (w->space.refs[i] && w->space.refs[i] != mark(i));
        }
        for (uint64_t i = 0; i < w->space.room / SUMS_PER_BLOCK; i++)
                w->wrong += !!w->space.touched[i] !=
                            (i < ARRAY_SIZE(w->touched) && w->touched[i]);
        CU_ASSERT_EQUAL(w->wrong, 0);
}

static void history(uint64_t seed, bool offer)
{
        static void (*const act[])(struct world *w) = {
                take, take, take, take_run, give_back, extend, release, recycle,
        };
        struct world *w = malloc(sizeof(*w));

        ASSERT(w);
        build(w, seed, offer);
        for (unsigned i = 0; i < 1u << seed % STEPS_LOG2 && w->end < MAP_MAX - 1000; i++)
                act[below(w, ARRAY_SIZE(act))](w);
        compare(w);
        space_fini(&w->space);
        free(w);
}

static void holes(void)
{
        for (uint64_t seed = 1; seed <= 200; seed++)
                history(seed, true);
}

/* Somebody reads an older state: nothing is offered, all goes to the end. */
static void no_holes(void)
{
        for (uint64_t seed = 1; seed <= 40; seed++)
                history(seed, false);
}

static void return_what_was_not_taken(void)
{
        struct world *w = malloc(sizeof(*w));

        ASSERT(w);
        build(w, 3, true);
        space_return(&w->space, (struct space_run){ w->end + 5, 3 });
}

static void offer_twice(void)
{
        struct world *w = malloc(sizeof(*w));

        ASSERT(w);
        build(w, 3, true);
        space_offer(&w->space, NULL);
}

static void misuse(void)
{
        CU_ASSERT(expect_abort(return_what_was_not_taken));
        CU_ASSERT(expect_abort(offer_twice));
}

static const CU_TestInfo cases[] = {
        { "holes are given out once and first, and nothing else", holes },
        { "nothing was offered: the file grows", no_holes },
        { "misuse is noticed", misuse },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-space", cases);
}
