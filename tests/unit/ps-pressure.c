/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a trigger is told by its descriptor being readable, to a poller that knows of
 *       reading only, and is quiet again once taken; where there is none, a sentence.
 * Method: the processors' trigger, which a few busy threads set off; memory's cannot be
 *       without harm to the host. */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "pageserver/pressure.h"
#include "tests/unit/suite.h"

#define CPU "/proc/pressure/cpu"
#define BUSY 16
/* windows that may pass until the kernel tells: its averages start slowly */
#define PATIENCE_MS (10 * PRESSURE_WINDOW_MS)

static void *be_busy(void *arg)
{
        while (!atomic_load((_Atomic bool *)arg))
                ;
        return NULL;
}

static void told(void)
{
        struct pressure p;
        struct err e;
        _Atomic bool stop = false;
        pthread_t busy[BUSY];

        if (pressure_open(&p, CPU, &e) < 0) {
                printf("not tried: %s\n", e.text);
                return;
        }
        for (int i = 0; i < BUSY; i++)
                CU_ASSERT_EQUAL_FATAL(pthread_create(&busy[i], NULL, be_busy, &stop), 0);

        struct pollfd pfd = { .fd = p.poll_fd, .events = POLLIN };

        CU_ASSERT_EQUAL(poll(&pfd, 1, PATIENCE_MS), 1);
        atomic_store(&stop, true);
        for (int i = 0; i < BUSY; i++)
                pthread_join(busy[i], NULL);
        pressure_taken(&p);
        CU_ASSERT_EQUAL(poll(&pfd, 1, 0), 0);   /* once in a window */
        pressure_close(&p);
        CU_ASSERT(p.poll_fd < 0 && p.trigger_fd < 0);
}

static void none(void)
{
        static const char *const paths[] = { "/proc/pressure/nothing", "/dev/null/x" };

        for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
                struct pressure p;
                struct err e;

                CU_ASSERT(pressure_open(&p, paths[i], &e) < 0);
                CU_ASSERT_PTR_NOT_NULL(strstr(e.text, paths[i]));
                CU_ASSERT(p.poll_fd < 0 && p.trigger_fd < 0);
        }
}

static const CU_TestInfo cases[] = {
        { "a shortage is told", told },
        { "where there is no trigger", none },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("pressure", cases);
}
