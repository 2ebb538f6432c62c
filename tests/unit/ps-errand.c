/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: an errand is run once and either finished by who sent it or put away by its thread,
 *       also when it is given up at that very moment; there are never more than may be; and
 *       of a thread that ends its work and one that relieves it exactly one wins
 *       (INV-RELIEVED).
 * Method: errands that wait to be let go, and races of many rounds. */
#include <CUnit/CUnit.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "common/check.h"
#include "common/clock.h"
#include "pageserver/busy.h"
#include "pageserver/errand.h"
#include "tests/unit/suite.h"

#define ROUNDS 2000
#define PATIENCE_NS (10 * NS_PER_SEC)

struct job {
        _Atomic bool may_end;
        _Atomic unsigned runs;
        _Atomic unsigned drops;
};

static _Atomic unsigned pokes;

static void count_poke(struct session_host *host)
{
        (void)host;
        atomic_fetch_add(&pokes, 1);
}

/* hundreds do so at once */
static void moment(void)
{
        const struct timespec t = { .tv_nsec = 10000000 };

        nanosleep(&t, NULL);
}

static void run(void *arg)
{
        struct job *job = arg;

        while (!atomic_load(&job->may_end))
                moment();
        atomic_fetch_add(&job->runs, 1);
}

static void drop(void *arg)
{
        struct job *job = arg;

        atomic_fetch_add(&job->drops, 1);
}

static const struct errand_ops ops = { .run = run, .drop = drop };

static unsigned stop(struct session_host *host)
{
        return errands_stop(host, clock_now_ns() + PATIENCE_NS);
}

static void finished(void)
{
        struct session_host host = { .poke = count_poke };
        struct job job = { .may_end = false };
        struct errand *errand;

        atomic_store(&pokes, 0);
        CU_ASSERT_EQUAL_FATAL(errand_start(&host, &ops, &job, &errand, NULL), 0);
        CU_ASSERT(!errand_finish(&errand));
        CU_ASSERT_EQUAL(errands_stop(&host, clock_now_ns()), 1);
        atomic_store(&job.may_end, true);
        CU_ASSERT_EQUAL(stop(&host), 0);
        CU_ASSERT(errand_finish(&errand));
        CU_ASSERT_PTR_NULL(errand);
        CU_ASSERT(job.runs == 1 && job.drops == 0 && pokes == 1);
}

/* hang: before it has run; else after */
static void give_up(bool hang)
{
        struct session_host host = { .poke = count_poke };
        struct job job = { .may_end = !hang };
        struct errand *errand;

        CU_ASSERT_EQUAL_FATAL(errand_start(&host, &ops, &job, &errand, NULL), 0);
        if (!hang)
                CU_ASSERT_EQUAL(stop(&host), 0);
        errand_give_up(&errand);
        CU_ASSERT_PTR_NULL(errand);
        atomic_store(&job.may_end, true);
        CU_ASSERT_EQUAL(stop(&host), 0);
        CU_ASSERT(job.runs == 1 && job.drops == 1);
}

static void given_up_early(void)
{
        give_up(true);
}

static void given_up_late(void)
{
        give_up(false);
}

static void given_up_at_once(void)
{
        struct session_host host = { .poke = count_poke };

        for (unsigned i = 0; i < ROUNDS / 10; i++) {
                struct job job = { .may_end = true };
                struct errand *errand;

                CU_ASSERT_EQUAL_FATAL(errand_start(&host, &ops, &job, &errand, NULL), 0);
                errand_give_up(&errand);
                CU_ASSERT_EQUAL(stop(&host), 0);
                CU_ASSERT(job.runs == 1 && job.drops == 1);
        }
}

/* INV-ERRANDS: no more may be waited for; what nobody waits for has as many places again */
static void too_many(void)
{
        struct session_host host = { .poke = count_poke };
        static struct errand *errand[ERRANDS_MAX];
        struct job job = { .may_end = false };
        struct errand *more;

        log_init(&host.log, true);
        for (unsigned i = 0; i < ERRANDS_MAX; i++)
                CU_ASSERT_EQUAL_FATAL(errand_start(&host, &ops, &job, &errand[i], NULL), 0);
        CU_ASSERT_EQUAL(errand_start(&host, &ops, &job, &more, NULL), -EBUSY);
        for (unsigned i = 0; i < ERRANDS_MAX; i++)
                errand_send(&host, &ops, &job);
        CU_ASSERT_EQUAL(atomic_load(&host.errands), 2 * ERRANDS_MAX);
        errand_send(&host, &ops, &job);         /* not at all */
        atomic_store(&job.may_end, true);
        CU_ASSERT_EQUAL(stop(&host), 0);
        CU_ASSERT_EQUAL(job.runs, 2 * ERRANDS_MAX);
        CU_ASSERT_EQUAL(job.drops, ERRANDS_MAX);
        for (unsigned i = 0; i < ERRANDS_MAX; i++)
                CU_ASSERT(errand_finish(&errand[i]));
        log_fini(&host.log);
}

/* ---- INV-RELIEVED ------------------------------------------------------------------- */

struct shift {
        struct busy busy;
        _Atomic bool end;
        unsigned relieved;              /* of the one who works */
};

static void *work(void *arg)
{
        struct shift *shift = arg;

        while (!atomic_load(&shift->end)) {
                busy_begin(&shift->busy, (struct session *)shift);
                busy_next(&shift->busy);
                if (busy_end(&shift->busy))
                        continue;
                shift->relieved++;
                break;
        }
        return NULL;
}

static void relieved_or_not(void)
{
        for (unsigned i = 0; i < ROUNDS; i++) {
                struct shift shift = { .relieved = 0 };
                unsigned won = 0;
                pthread_t thread;

                CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, work, &shift), 0);
                for (unsigned k = 0; k < 200 && !won; k++) {
                        struct busy_look look = busy_look(&shift.busy);

                        CU_ASSERT(!look.at_work || look.session == (struct session *)&shift);
                        won = look.at_work && busy_relieve(&shift.busy, &look);
                }
                atomic_store(&shift.end, true);
                pthread_join(thread, NULL);
                CU_ASSERT_EQUAL(shift.relieved, won);
        }
}

static void steps_differ(void)
{
        struct busy busy = { .word = 0 };
        struct session *s = (struct session *)&busy;
        struct busy_look first, later;

        CU_ASSERT(!busy_look(&busy).at_work);
        busy_begin(&busy, s);
        first = busy_look(&busy);
        CU_ASSERT(first.at_work && first.session == s && !first.in_image);
        CU_ASSERT_EQUAL(busy_look(&busy).word, first.word);
        busy_next(&busy);
        later = busy_look(&busy);
        CU_ASSERT(later.at_work && later.word != first.word);
        CU_ASSERT(!busy_relieve(&busy, &first));
        CU_ASSERT(busy_end(&busy));
        CU_ASSERT(!busy_relieve(&busy, &later));
        busy_begin(&busy, s);
        CU_ASSERT(busy_look(&busy).word != later.word);
        later = busy_look(&busy);
        CU_ASSERT(busy_relieve(&busy, &later));
        CU_ASSERT(!busy_end(&busy));
}

static const CU_TestInfo cases[] = {
        { "one that is waited for", finished },
        { "given up while it hangs", given_up_early },
        { "given up when it is done", given_up_late },
        { "given up at once", given_up_at_once },
        { "no more than may be", too_many },
        { "each step of work differs from the one before", steps_differ },
        { "relieved, or not", relieved_or_not },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("ps-errand", cases);
}
