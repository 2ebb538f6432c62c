/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: INV-ONE, INV-FILLED and INV-LOSTWAKE of the filled map, its file, and the
 *       bit maps below it.
 * Method: tables, a model of random steps, and threads that race for clusters;
 *       worker threads count, the main thread judges. */
#include "pageserver/fillmap.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/check.h"
#include "common/lock.h"
#include "tests/unit/suite.h"

#define CLUSTERS 300

static struct fillmap_ident ident(void)
{
        return (struct fillmap_ident){
                .clusters = CLUSTERS, .cluster_bits = 14, .image = "0123456789abcde", .tag = "x",
        };
}

static struct fillmap *plain(void)
{
        struct fillmap_ident id = ident();
        struct fillmap *m = NULL;
        struct err e;
        int rc = fillmap_open(&id, -1, &m, &e);

        CU_ASSERT_EQUAL_FATAL(rc, 0);
        return m;
}

static unsigned woken[8];

static void wake(void *waiter, uint64_t cluster)
{
        (void)cluster;
        woken[*(unsigned *)waiter]++;
}

static void claims_follow_the_states(void)
{
        struct fillmap *m = plain();
        unsigned a = 1, b = 2;

        memset(woken, 0, sizeof(woken));
        CU_ASSERT_EQUAL(fillmap_claim(m, 5, NULL), CLAIM_WON);
        CU_ASSERT_EQUAL(fillmap_claim(m, 5, NULL), CLAIM_BUSY);
        CU_ASSERT_EQUAL(fillmap_claim(m, 5, &a), CLAIM_QUEUED);
        CU_ASSERT_EQUAL(fillmap_claim(m, 5, &a), CLAIM_BUSY);
        CU_ASSERT_EQUAL(fillmap_claim(m, 5, &b), CLAIM_QUEUED);
        CU_ASSERT_EQUAL(fillmap_claim(m, 6, &b), CLAIM_WON);
        CU_ASSERT(!fillmap_filled(m, 5));
        fillmap_finish(m, 5, false, wake);      /* back to ABSENT */
        CU_ASSERT(!fillmap_filled(m, 5));
        CU_ASSERT_EQUAL(woken[1], 1);           /* once, however often it asked */
        CU_ASSERT_EQUAL(woken[2], 1);
        CU_ASSERT_EQUAL(fillmap_claim(m, 5, &a), CLAIM_WON);
        fillmap_finish(m, 5, true, wake);
        CU_ASSERT(fillmap_filled(m, 5));
        CU_ASSERT_EQUAL(fillmap_claim(m, 5, &a), CLAIM_FILLED);
        CU_ASSERT_EQUAL(woken[1], 1);
        CU_ASSERT_EQUAL(fillmap_claim(m, 6, &a), CLAIM_QUEUED);
        fillmap_forget(m, &a);
        fillmap_finish(m, 6, true, wake);
        CU_ASSERT_EQUAL(woken[1], 1);
        fillmap_free(m);
}

static void waiters_are_bounded(void)
{
        struct fillmap *m = plain();
        static unsigned who[FILLMAP_WAITERS_MAX + 1];

        memset(woken, 0, sizeof(woken));
        CU_ASSERT_EQUAL(fillmap_claim(m, 0, NULL), CLAIM_WON);
        for (unsigned i = 0; i < FILLMAP_WAITERS_MAX; i++)
                CU_ASSERT_EQUAL(fillmap_claim(m, 0, &who[i]), CLAIM_QUEUED);
        CU_ASSERT_EQUAL(fillmap_claim(m, 0, &who[FILLMAP_WAITERS_MAX]), CLAIM_FULL);
        fillmap_finish(m, 0, true, wake);
        CU_ASSERT_EQUAL(woken[0], FILLMAP_WAITERS_MAX);
        fillmap_free(m);
}

static void the_file_outlives_its_map(void)
{
        struct fillmap_ident id = ident(), other = ident();
        struct fillmap *m = NULL;
        struct err e;
        int fd = -1;

        CU_ASSERT_EQUAL_FATAL(fillmap_file_new(&id, &fd, &e), 0);
        CU_ASSERT_EQUAL_FATAL(fillmap_open(&id, fd, &m, &e), 0);
        CU_ASSERT_EQUAL(fillmap_claim(m, 299, NULL), CLAIM_WON);
        CU_ASSERT_EQUAL(fillmap_claim(m, 7, NULL), CLAIM_WON);
        fillmap_finish(m, 299, true, wake);
        fillmap_free(m);                        /* with 7 CLAIMED, as if killed */
        CU_ASSERT_EQUAL_FATAL(fillmap_open(&id, fd, &m, &e), 0);
        CU_ASSERT(fillmap_filled(m, 299));
        CU_ASSERT_EQUAL(fillmap_claim(m, 7, NULL), CLAIM_WON);
        fillmap_finish(m, 7, false, wake);
        fillmap_free(m);
        CU_ASSERT(ftruncate(fd, 0) < 0);        /* sealed */
        other.image[0] = 'x';
        CU_ASSERT_EQUAL(fillmap_open(&other, fd, &m, &e), -EBADMSG);
        other = id;
        strcpy(other.tag, "y");
        CU_ASSERT_EQUAL(fillmap_open(&other, fd, &m, &e), -EBADMSG);
        other = id;
        other.clusters = 1 << 20;
        CU_ASSERT_EQUAL(fillmap_open(&other, fd, &m, &e), -EBADMSG);
        close(fd);
        CU_ASSERT_EQUAL(fillmap_open(&id, STDIN_FILENO, &m, &e), -EBADMSG);
}

/* ---- races ------------------------------------------------------------------ */

#define RACERS 4
/* A loser must meet a claimant who is just finishing: claims are as short as can be,
 * all start at once, and there are many. Without INV-LOSTWAKE this hangs within a few
 * rounds (tried). */
#define ROUNDS 150

struct racer {
        pthread_t thread;
        struct fillmap *map;
        pthread_barrier_t *start;
        unsigned seed;
        _Atomic unsigned *inside;       /* per cluster: fetching now; INV-ONE */
        _Atomic unsigned wakes;
        unsigned queued;
        unsigned twice;
};

static void wake_racer(void *waiter, uint64_t cluster)
{
        (void)cluster;
        atomic_fetch_add(&((struct racer *)waiter)->wakes, 1);
}

/* brings one cluster, or waits until somebody has: a lost wake hangs here */
static void bring(struct racer *r, uint64_t cluster)
{
        for (;;) {
                unsigned wakes = atomic_load(&r->wakes);

                switch (fillmap_claim(r->map, cluster, r)) {
                case CLAIM_WON:
                        if (atomic_fetch_add(&r->inside[cluster], 1) != 0)
                                r->twice++;
                        atomic_fetch_sub(&r->inside[cluster], 1);
                        fillmap_finish(r->map, cluster, rand_r(&r->seed) % 3 != 0, wake_racer);
                        break;
                case CLAIM_FILLED:
                        return;
                case CLAIM_QUEUED:
                        r->queued++;
                        while (atomic_load(&r->wakes) == wakes)
                                sched_yield();
                        break;
                default:
                        sched_yield();
                }
        }
}

static void *race(void *arg)
{
        struct racer *r = arg;

        pthread_barrier_wait(r->start);
        for (uint64_t c = 0; c < CLUSTERS; c++)
                bring(r, c);
        return NULL;
}

static void race_once(unsigned round)
{
        static _Atomic unsigned inside[CLUSTERS];
        pthread_barrier_t start;
        struct racer r[RACERS];
        struct fillmap *m = plain();

        pthread_barrier_init(&start, NULL, RACERS);
        for (unsigned i = 0; i < RACERS; i++) {
                r[i] = (struct racer){
                        .map = m, .start = &start, .seed = round * RACERS + i, .inside = inside,
                };
                CU_ASSERT_EQUAL_FATAL(pthread_create(&r[i].thread, NULL, race, &r[i]), 0);
        }
        for (unsigned i = 0; i < RACERS; i++) {
                pthread_join(r[i].thread, NULL);
                CU_ASSERT_EQUAL(r[i].twice, 0);
        }
        for (uint64_t c = 0; c < CLUSTERS; c++)
                CU_ASSERT(fillmap_filled(m, c));
        fillmap_free(m);
        pthread_barrier_destroy(&start);
}

static void racing_threads_lose_no_wake(void)
{
        alarm(60);                              /* a lost wake hangs */
        for (unsigned i = 0; i < ROUNDS; i++)
                race_once(i);
        alarm(0);
}

/* ---- bits --------------------------------------------------------------------- */

static void bits_agree_with_a_model(void)
{
        struct bits a, b;
        const struct bits *maps[] = { &a, &b };
        bool model[2][CLUSTERS] = { { false } };
        unsigned seed = 1;

        CU_ASSERT_EQUAL_FATAL(bits_init(&a, CLUSTERS), 0);
        CU_ASSERT_EQUAL_FATAL(bits_init(&b, CLUSTERS), 0);
        for (int step = 0; step < 20000; step++) {
                int which = rand_r(&seed) % 2;
                unsigned i = (unsigned)rand_r(&seed) % CLUSTERS;
                unsigned from = (unsigned)rand_r(&seed) % (CLUSTERS + 1);
                unsigned end = from + (unsigned)rand_r(&seed) % (CLUSTERS + 1 - from);
                struct bits *m = which ? &b : &a;

                if (rand_r(&seed) % 4) {
                        CU_ASSERT_EQUAL(bits_set(m, i), !model[which][i]);
                        model[which][i] = true;
                } else {
                        CU_ASSERT_EQUAL(bits_clear(m, i), model[which][i]);
                        model[which][i] = false;
                }

                uint64_t count = 0, first = end;

                for (unsigned k = from; k < end; k++) {
                        bool any = model[0][k] || model[1][k];

                        count += any;
                        if (!any && first == end)
                                first = k;
                }
                CU_ASSERT_EQUAL(bits_count_any(maps, 2, from, end), count);
                CU_ASSERT_EQUAL(bits_next_unset(maps, 2, from, end), first);
        }
        bits_clear_all(&a);
        CU_ASSERT_EQUAL(bits_count_any(maps, 1, 0, CLUSTERS), 0);
        bits_fini(&a);
        bits_fini(&b);
}

static const CU_TestInfo cases[] = {
        { "claims follow the states", claims_follow_the_states },
        { "waiters are bounded", waiters_are_bounded },
        { "the file outlives its map and fits one image", the_file_outlives_its_map },
        { "racing threads lose no wake", racing_threads_lose_no_wake },
        { "bits agree with a model", bits_agree_with_a_model },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("fillmap", cases);
}
