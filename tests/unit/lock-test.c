/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a lock excludes, knows which thread holds it, also across waits, and
 *       stops a program that releases what it does not hold.
 * Method: a helper thread that holds, waits or wakes on request; four threads on
 *         one counter; wrong use in a child that must abort. */
#include <CUnit/CUnit.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/lock.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

#define THREADS 4
#define ROUNDS 5000

/* Shared by the main thread and its helpers. Functions are NO_TSA: clang would
 * refuse at compile time what is to be seen, or refused, at run time. */
struct shared {
        struct lock lock;
        struct cond cond;
        bool flag;                      /* under lock */
        unsigned counter;               /* under lock */
        _Atomic bool held_elsewhere;    /* what a helper saw */
        _Atomic bool held_by_helper;
};

static void shared_init(struct shared *s)
{
        *s = (struct shared){ .flag = false };
        lock_init(&s->lock);
        cond_init(&s->cond);
}

static void shared_fini(struct shared *s)
{
        cond_fini(&s->cond);
        lock_fini(&s->lock);
}

static void run_helper(void *(*helper)(void *), struct shared *s)
{
        pthread_t thread;

        CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, helper, s), 0);
        pthread_join(thread, NULL);
}

static void *look(void *arg)
{
        struct shared *s = arg;

        s->held_elsewhere = lock_held(&s->lock);
        return NULL;
}

static void owner_is_known(void) NO_TSA
{
        struct shared s;

        shared_init(&s);
        CU_ASSERT_FALSE(lock_held(&s.lock));
        for (int round = 0; round < 2; round++) {
                lock_acquire(&s.lock);
                CU_ASSERT_TRUE(lock_held(&s.lock));
                s.held_elsewhere = true;
                run_helper(look, &s);
                CU_ASSERT_FALSE(s.held_elsewhere);
                CU_ASSERT_TRUE(lock_held(&s.lock));
                lock_release(&s.lock);
                CU_ASSERT_FALSE(lock_held(&s.lock));
        }
        shared_fini(&s);
}

static void *take_and_give(void *arg) NO_TSA
{
        struct shared *s = arg;

        lock_acquire(&s->lock);
        s->held_by_helper = lock_held(&s->lock);
        lock_release(&s->lock);
        return NULL;
}

static void owner_moves(void) NO_TSA
{
        struct shared s;

        shared_init(&s);
        lock_acquire(&s.lock);
        lock_release(&s.lock);
        run_helper(take_and_give, &s);
        CU_ASSERT_TRUE(s.held_by_helper);
        CU_ASSERT_FALSE(lock_held(&s.lock));
        shared_fini(&s);
}

static void *count(void *arg) NO_TSA
{
        struct shared *s = arg;

        for (unsigned i = 0; i < ROUNDS; i++) {
                lock_acquire(&s->lock);
                if (!lock_held(&s->lock))
                        s->held_elsewhere = true;
                s->counter++;
                lock_release(&s->lock);
                if (lock_held(&s->lock))
                        s->held_elsewhere = true;
        }
        return NULL;
}

static void excludes(void)
{
        struct shared s;
        pthread_t threads[THREADS];

        shared_init(&s);
        for (unsigned i = 0; i < THREADS; i++)
                CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, count, &s), 0);
        for (unsigned i = 0; i < THREADS; i++)
                pthread_join(threads[i], NULL);
        CU_ASSERT_EQUAL(s.counter, THREADS * ROUNDS);
        CU_ASSERT_FALSE(s.held_elsewhere);
        shared_fini(&s);
}

static void *raise_flag(void *arg) NO_TSA
{
        struct shared *s = arg;

        lock_acquire(&s->lock);
        s->held_by_helper = lock_held(&s->lock);
        s->flag = true;
        cond_broadcast(&s->cond);
        lock_release(&s->lock);
        return NULL;
}

/* Only a wait that gives the lock up lets the helper raise the flag. */
static void wait_gives_up_and_takes_back(bool timed) NO_TSA
{
        struct shared s;
        pthread_t thread;

        shared_init(&s);
        lock_acquire(&s.lock);
        CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, raise_flag, &s), 0);
        while (!s.flag) {
                bool in_time = true;

                if (timed)
                        in_time = cond_wait_until(&s.cond, &s.lock,
                                                  clock_now_ns() + 60 * NS_PER_SEC);
                else
                        cond_wait(&s.cond, &s.lock);
                CU_ASSERT_TRUE(in_time);
                CU_ASSERT_TRUE(lock_held(&s.lock));
        }
        lock_release(&s.lock);
        pthread_join(thread, NULL);
        CU_ASSERT_TRUE(s.held_by_helper);
        shared_fini(&s);
}

static void waits(void)
{
        wait_gives_up_and_takes_back(false);
        wait_gives_up_and_takes_back(true);
}

static void deadline(void) NO_TSA
{
        struct shared s;

        shared_init(&s);
        lock_acquire(&s.lock);
        CU_ASSERT_FALSE(cond_wait_until(&s.cond, &s.lock, 0));
        CU_ASSERT_TRUE(lock_held(&s.lock));

        uint64_t end = clock_now_ns() + 5 * NS_PER_MS;

        /* true here would be a spurious wake-up, which is allowed */
        while (cond_wait_until(&s.cond, &s.lock, end))
                ;
        CU_ASSERT_TRUE(clock_now_ns() >= end);
        CU_ASSERT_TRUE(lock_held(&s.lock));
        lock_release(&s.lock);
        shared_fini(&s);
}

static void release_free_lock(void) NO_TSA
{
        struct shared s;

        shared_init(&s);
        lock_release(&s.lock);
}

static void *release(void *arg) NO_TSA
{
        lock_release(arg);
        return NULL;
}

static void release_anothers_lock(void) NO_TSA
{
        struct shared s;
        pthread_t thread;

        shared_init(&s);
        lock_acquire(&s.lock);
        if (pthread_create(&thread, NULL, release, &s.lock) == 0)
                pthread_join(thread, NULL);
}

static void wait_without_lock(void) NO_TSA
{
        struct shared s;

        shared_init(&s);
        cond_wait(&s.cond, &s.lock);
}

static void wait_until_without_lock(void) NO_TSA
{
        struct shared s;

        shared_init(&s);
        cond_wait_until(&s.cond, &s.lock, 0);
}

static void wrong_use_aborts(void)
{
        CU_ASSERT_TRUE(expect_abort(release_free_lock));
        CU_ASSERT_TRUE(expect_abort(release_anothers_lock));
        CU_ASSERT_TRUE(expect_abort(wait_without_lock));
        CU_ASSERT_TRUE(expect_abort(wait_until_without_lock));
}

static const CU_TestInfo cases[] = {
        { "the owner is this thread or not", owner_is_known },
        { "the owner moves from thread to thread", owner_moves },
        { "threads exclude each other", excludes },
        { "a wait gives the lock up and takes it back", waits },
        { "a wait ends at its deadline with the lock held", deadline },
        { "using a lock one does not hold aborts", wrong_use_aborts },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("lock", cases);
}
