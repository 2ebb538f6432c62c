/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: pieces never overlap, the limit holds, memory is used again before fresh memory
 *       is touched, and small pieces keep no more frames from being given whole than need be.
 * Method: one thread by the table of steps; four threads that write their own mark into
 *         each piece and look for it when they put it back; wrong use must abort. */
#include "vmm/staging.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/check.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

#define SMALL ((size_t)STAGING_SMALL_BYTES)
#define LARGE ((size_t)STAGING_LARGE_BYTES)
#define PIECES (LARGE / SMALL)
#define FRAMES 8u

static struct staging *new_staging(void)
{
        struct staging *s = NULL;

        CU_ASSERT_EQUAL_FATAL(staging_new(FRAMES * LARGE, &s, NULL), 0);
        return s;
}

static void *take(struct staging *s, size_t bytes)
{
        void *p = staging_get(s, bytes);

        CU_ASSERT_PTR_NOT_NULL_FATAL(p);
        CU_ASSERT_EQUAL((uintptr_t)p % bytes, 0);
        return p;
}

static void limit_holds(void)
{
        struct staging *s = new_staging();
        void *large[FRAMES];

        for (unsigned i = 0; i < FRAMES - 1; i++)
                large[i] = take(s, LARGE);
        for (unsigned i = 0; i < PIECES; i++)
                take(s, SMALL);
        CU_ASSERT_PTR_NULL(staging_get(s, SMALL));
        CU_ASSERT_PTR_NULL(staging_get(s, LARGE));

        struct staging_stats st = staging_stats(s);

        CU_ASSERT_EQUAL(st.used_bytes, FRAMES * LARGE);
        CU_ASSERT_EQUAL(st.limit_bytes, FRAMES * LARGE);
        CU_ASSERT_EQUAL(st.touched_bytes, FRAMES * LARGE);
        staging_put(s, large[3], LARGE);
        CU_ASSERT_PTR_EQUAL(staging_get(s, SMALL), large[3]);
        CU_ASSERT_PTR_NULL(staging_get(s, LARGE));
        CU_ASSERT_EQUAL(staging_stats(s).used_bytes, (FRAMES - 1) * LARGE + SMALL);
        CU_ASSERT_EQUAL(staging_stats(s).used_bytes_max, FRAMES * LARGE);
        staging_free(s);
}

static void limit_is_checked(void)
{
        struct staging *s = NULL;
        struct err e;

        CU_ASSERT_EQUAL(staging_new(LARGE - 1, &s, &e), -ERANGE);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "at least 2 MiB"));
        CU_ASSERT_EQUAL(staging_new(1ull << 60, &s, &e), -ENOMEM);
        CU_ASSERT_PTR_NULL(s);
        CU_ASSERT_EQUAL_FATAL(staging_new(2 * LARGE - 1, &s, &e), 0);
        CU_ASSERT_EQUAL(staging_stats(s).limit_bytes, LARGE);
        staging_free(s);
        staging_free(NULL);
}

/* the latest that came back is taken first, and nothing fresh while there is any */
static void used_memory_first(void)
{
        struct staging *s = new_staging();
        void *a = take(s, LARGE);
        void *b = take(s, LARGE);

        staging_put(s, b, LARGE);
        staging_put(s, a, LARGE);
        for (unsigned i = 0; i < 1000; i++) {
                void *p = take(s, i % 2 ? SMALL : LARGE);

                CU_ASSERT_PTR_EQUAL(p, a);
                staging_put(s, p, i % 2 ? SMALL : LARGE);
        }
        CU_ASSERT_EQUAL(staging_stats(s).touched_bytes, 2 * LARGE);
        CU_ASSERT_EQUAL(staging_stats(s).used_bytes, 0);
        staging_free(s);
}

static void *frame_of(void *piece)
{
        return (void *)((uintptr_t)piece & ~((uintptr_t)LARGE - 1));
}

/* Frames with 1, 20 and 5 pieces out: all that is wanted next fits beside the 20. */
static void fullest_frame_first(void)
{
        static const unsigned left[] = { 1, 20, 5 };
        struct staging *s = new_staging();
        void *pieces[ARRAY_SIZE(left)][PIECES];

        for (unsigned f = 0; f < ARRAY_SIZE(left); f++) {
                for (unsigned i = 0; i < PIECES; i++)
                        pieces[f][i] = take(s, SMALL);
        }
        for (unsigned f = 0; f < ARRAY_SIZE(left); f++) {
                for (unsigned i = left[f]; i < PIECES; i++)
                        staging_put(s, pieces[f][i], SMALL);
        }
        for (unsigned i = 20; i < PIECES; i++)
                CU_ASSERT_PTR_EQUAL(frame_of(take(s, SMALL)), frame_of(pieces[1][0]));
        for (unsigned i = 5; i < PIECES; i++)
                CU_ASSERT_PTR_EQUAL(frame_of(take(s, SMALL)), frame_of(pieces[2][0]));
        CU_ASSERT_PTR_EQUAL(frame_of(take(s, SMALL)), frame_of(pieces[0][0]));
        staging_free(s);
}

/* A few pieces out, others coming and going at random for long: they end up in few frames. */
static void few_pieces_few_frames(void)
{
        struct staging *s = new_staging();
        void *out[FRAMES * PIECES];
        unsigned n = 0, whole = 0;

        srandom(1);
        while (n < FRAMES * PIECES)
                out[n++] = take(s, SMALL);
        while (n > 16) {                /* at random, none taken meanwhile: spread wide */
                unsigned i = (unsigned)random() % n;

                staging_put(s, out[i], SMALL);
                out[i] = out[--n];
        }
        for (unsigned round = 0; round < 20000; round++) {
                unsigned i = (unsigned)random() % n;

                staging_put(s, out[i], SMALL);
                out[i] = take(s, SMALL);
        }
        while (staging_get(s, LARGE))
                whole++;
        CU_ASSERT_EQUAL(whole, FRAMES - 1);
        staging_free(s);
}

static bool in_memory(void *page)
{
        unsigned char in_core;

        return mincore(page, 4096, &in_core) == 0 && (in_core & 1);
}

static void warmed_memory_comes_first(void)
{
        struct staging *s = new_staging();
        uint8_t *pieces[3];

        staging_warm(s, LARGE + 1);
        CU_ASSERT_EQUAL(staging_stats(s).touched_bytes, 2 * LARGE);
        CU_ASSERT_EQUAL(staging_stats(s).used_bytes, 0);
        staging_warm(s, 2 * LARGE);
        staging_warm(s, 0);
        CU_ASSERT_EQUAL(staging_stats(s).touched_bytes, 2 * LARGE);
        for (unsigned i = 0; i < 3; i++)
                pieces[i] = take(s, LARGE);
        CU_ASSERT(in_memory(pieces[0]) && in_memory(pieces[0] + LARGE - 4096));
        CU_ASSERT(in_memory(pieces[1]) && in_memory(pieces[1] + LARGE - 4096));
        CU_ASSERT(!in_memory(pieces[2]));
        staging_warm(s, 1ull << 60);
        CU_ASSERT_EQUAL(staging_stats(s).touched_bytes, FRAMES * LARGE);
        staging_free(s);
}

static void free_gives_memory_back(void)
{
        struct staging *s = new_staging();
        uint8_t *p = take(s, LARGE);
        unsigned char in_core;

        memset(p, 1, LARGE);
        take(s, SMALL);
        staging_free(s);
        CU_ASSERT(mincore(p, 4096, &in_core) < 0 && errno == ENOMEM);
}

#define THREADS 4
#define HELD 40
#define ROUNDS 60000
/* so few that each thread alone would meet the limit */
#define TIGHT_FRAMES 3u

struct actor {
        struct staging *staging;
        pthread_barrier_t *begin;
        unsigned number;
        /* what it saw */
        unsigned foreign;               /* marks that were not its own */
        unsigned refused;
};

struct held {
        uint64_t *piece;
        size_t bytes;
};

/* first and last word of the piece */
static void mark(struct held *h, uint64_t with)
{
        h->piece[0] = h->piece[h->bytes / sizeof(uint64_t) - 1] = with;
}

static bool is_marked(const struct held *h, uint64_t with)
{
        return h->piece[0] == with && h->piece[h->bytes / sizeof(uint64_t) - 1] == with;
}

static void give_back(struct actor *a, struct held *h, uint64_t with)
{
        if (!h->piece)
                return;
        a->foreign += !is_marked(h, with);
        staging_put(a->staging, h->piece, h->bytes);
        h->piece = NULL;
}

static void *act(void *arg)
{
        struct actor *a = arg;
        struct held held[HELD] = { { NULL, 0 } };
        unsigned seed = a->number;

        pthread_barrier_wait(a->begin);
        staging_warm(a->staging, a->number % 2 * TIGHT_FRAMES * LARGE);
        for (unsigned round = 0; round < ROUNDS; round++) {
                unsigned i = (unsigned)rand_r(&seed) % HELD;
                struct held *h = &held[i];

                if (h->piece) {
                        give_back(a, h, a->number * HELD + i);
                        continue;
                }
                h->bytes = rand_r(&seed) % 16 ? SMALL : LARGE;
                h->piece = staging_get(a->staging, h->bytes);
                if (h->piece)
                        mark(h, a->number * HELD + i);
                else
                        a->refused++;
        }
        for (unsigned i = 0; i < HELD; i++)
                give_back(a, &held[i], a->number * HELD + i);
        return NULL;
}

static void threads_at_once(void)
{
        struct staging *s = NULL;
        struct actor actors[THREADS];
        pthread_t threads[THREADS];
        pthread_barrier_t begin;
        unsigned refused = 0;

        CU_ASSERT_EQUAL_FATAL(staging_new(TIGHT_FRAMES * LARGE, &s, NULL), 0);
        pthread_barrier_init(&begin, NULL, THREADS);
        for (unsigned i = 0; i < THREADS; i++) {
                actors[i] = (struct actor){ .staging = s, .begin = &begin, .number = i + 1 };
                CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, act, &actors[i]), 0);
        }
        for (unsigned i = 0; i < THREADS; i++) {
                pthread_join(threads[i], NULL);
                CU_ASSERT_EQUAL(actors[i].foreign, 0);
                refused += actors[i].refused;
        }
        CU_ASSERT(refused > 0);
        CU_ASSERT_EQUAL(staging_stats(s).used_bytes, 0);
        for (unsigned i = 0; i < TIGHT_FRAMES; i++)
                take(s, LARGE);
        pthread_barrier_destroy(&begin);
        staging_free(s);
}

static void put_twice(void)
{
        struct staging *s = new_staging();
        void *p = staging_get(s, SMALL);

        staging_put(s, p, SMALL);
        staging_put(s, p, SMALL);
}

static void put_as_large(void)
{
        struct staging *s = new_staging();

        staging_put(s, staging_get(s, SMALL), LARGE);
}

static void put_foreign(void)
{
        static uint8_t foreign[64u << 10] __attribute__((aligned(64u << 10)));

        staging_put(new_staging(), foreign, SMALL);
}

static void get_odd(void)
{
        (void)staging_get(new_staging(), 4096);
}

static void wrong_use(void)
{
        CU_ASSERT(expect_abort(put_twice));
        CU_ASSERT(expect_abort(put_as_large));
        CU_ASSERT(expect_abort(put_foreign));
        CU_ASSERT(expect_abort(get_odd));
}

static const CU_TestInfo cases[] = {
        { "the limit holds for both sizes", limit_holds },
        { "a limit too small or too large is refused", limit_is_checked },
        { "memory that was used comes first", used_memory_first },
        { "small pieces come from the fullest frame", fullest_frame_first },
        { "few pieces keep few frames", few_pieces_few_frames },
        { "memory warmed ahead comes first", warmed_memory_comes_first },
        { "free gives all memory back", free_gives_memory_back },
        { "four threads", threads_at_once },
        { "wrong use is our bug", wrong_use },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("staging", cases);
}
