/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a crew does all its work and tells the first failure; one in the background
 *       works at nice 5, and leaves its caller as it was.
 * Method: work that notes who does it and at which priority; a pthread_create() that
 *       fails when it is told to. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/check.h"
#include "qcowstore/crew.h"
#include "tests/unit/store-box.h"
#include "tests/unit/suite.h"

#define THREADS 5u

struct site {
        pthread_t caller;
        unsigned parts;                 /* of work, all done when `done` is so many */
        _Atomic unsigned next;
        _Atomic unsigned done;
        _Atomic unsigned by_caller;
        _Atomic int nice_min;
        _Atomic int nice_max;
        _Atomic bool no_threads;
};

static struct site site;                /* __wrap_pthread_create() has no argument of ours */

int __real_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*fn)(void *), void *arg);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*fn)(void *), void *arg);

int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*fn)(void *), void *arg)
{
        return site.no_threads ? EAGAIN : __real_pthread_create(t, a, fn, arg);
}

static void begin(unsigned parts)
{
        site = (struct site){ .caller = pthread_self(), .parts = parts, .nice_min = 100,
                              .nice_max = -100 };
}

static void note(void)
{
        int at = getpriority(PRIO_PROCESS, 0);
        int old = site.nice_min;

        while (at < old && !atomic_compare_exchange_weak(&site.nice_min, &old, at))
                ;
        old = site.nice_max;
        while (at > old && !atomic_compare_exchange_weak(&site.nice_max, &old, at))
                ;
        site.by_caller += pthread_equal(pthread_self(), site.caller) != 0;
}

static int work(void *ctx, struct err *e)
{
        (void)ctx;
        (void)e;
        note();
        while (site.next++ < site.parts)
                site.done++;
        return 0;
}

static int fail(void *ctx, struct err *e)
{
        note();
        return err_msg(e, EIO, "%s", (const char *)ctx);
}

static void usual(void)
{
        int mine = getpriority(PRIO_PROCESS, 0);

        begin(1000);
        CU_ASSERT_EQUAL(crew_run(THREADS, false, work, NULL, NULL), 0);
        CU_ASSERT_EQUAL(site.done, 1000);
        CU_ASSERT_EQUAL(site.by_caller, 1);
        CU_ASSERT_EQUAL(site.nice_min, mine);
        CU_ASSERT_EQUAL(site.nice_max, mine);
}

static void in_background(void)
{
        int mine = getpriority(PRIO_PROCESS, 0);

        for (unsigned threads = 1; threads <= CREW_MAX; threads += 21) {
                begin(1000);
                CU_ASSERT_EQUAL(crew_run(threads, true, work, NULL, NULL), 0);
                CU_ASSERT_EQUAL(site.done, 1000);
                CU_ASSERT_EQUAL(site.by_caller, 0);
                CU_ASSERT_EQUAL(site.nice_min, MAX(mine, CREW_NICE));
                CU_ASSERT_EQUAL(site.nice_max, MAX(mine, CREW_NICE));
                CU_ASSERT_EQUAL(getpriority(PRIO_PROCESS, 0), mine);
        }
}

static void failures(void)
{
        char why[] = "the dog ate it";

        for (int background = 0; background < 2; background++) {
                struct err e = { 0 };

                begin(0);
                CU_ASSERT_EQUAL(crew_run(THREADS, background, fail, why, &e), -EIO);
                CU_ASSERT_STRING_EQUAL(e.text, why);
        }
}

/* The work is done all the same, by who is there, as he is. */
static void no_thread(void)
{
        int mine = getpriority(PRIO_PROCESS, 0);

        for (int background = 0; background < 2; background++) {
                begin(10);
                site.no_threads = true;
                CU_ASSERT_EQUAL(crew_run(THREADS, background, work, NULL, NULL), 0);
                CU_ASSERT_EQUAL(site.done, 10);
                CU_ASSERT_EQUAL(site.by_caller, 1);
                CU_ASSERT_EQUAL(site.nice_max, mine);
                CU_ASSERT_EQUAL(getpriority(PRIO_PROCESS, 0), mine);
        }
        site.no_threads = false;
}

/* Who stands further behind already is not brought forward. */
static void behind_already(void)
{
        pid_t pid = fork();
        int status;

        if (pid == 0) {
                begin(10);
                _exit(setpriority(PRIO_PROCESS, 0, 15) < 0 ||
                      crew_run(2, true, work, NULL, NULL) < 0 || site.done != 10 ||
                      site.nice_min != 15 || site.nice_max != 15);
        }
        CU_ASSERT_EQUAL_FATAL(waitpid(pid, &status, 0), pid);
        CU_ASSERT_EQUAL(status, 0);
}

static const void *span(void *ctx, uint64_t gpa, size_t bytes, void *buf, struct qs_span *ret,
                        struct err *e)
{
        const struct kit_ram *ram = ctx;

        (void)bytes;
        (void)buf;
        (void)ret;
        (void)e;
        note();
        return ram->bytes + gpa;
}

/* All that asks for RAM, of a writer that is in the background. */
static void writer(void)
{
        struct box b;
        struct qs_writer_options o = box_options;
        struct qs_writer_stats stats;
        int mine = getpriority(PRIO_PROCESS, 0);

        box_begin(&b);
        o.background = true;

        struct qs_ram_source source = { .span = span, .ctx = &b.ram };
        struct qs_writer *w = box_writer(b.child, &o);

        begin(0);
        CU_ASSERT_EQUAL(qs_writer_ram(w, b.ram.range, b.ram.ranges, &source, NULL, NULL, NULL), 0);
        b.ram.bytes[5] ^= 1;
        CU_ASSERT_EQUAL(qs_writer_again(w, b.ram.range, 1, &source, NULL, NULL, NULL), 0);
        CU_ASSERT_EQUAL(site.by_caller, 0);
        CU_ASSERT_EQUAL(site.nice_min, MAX(mine, CREW_NICE));
        box_publish(w, b.child, b.ram.bytes, &stats);
        CU_ASSERT_EQUAL(getpriority(PRIO_PROCESS, 0), mine);
        box_end(&b);
}

static const CU_TestInfo cases[] = {
        { "the caller works too", usual },
        { "nice 5 in the background, and not the caller", in_background },
        { "the first failure is told", failures },
        { "no thread can be created", no_thread },
        { "nobody is brought forward", behind_already },
        { "a writer in the background", writer },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-crew", cases);
}
