/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a thread that a starter starts has the name that was asked for and the signals of
 *       who asked, whoever that is.
 * Method: without a sandbox, so that it can look; from the thread that made the starter,
 *       before and after it enters, from another, and without a starter. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>

#include "tests/unit/expect.h"
#include "tests/unit/suite.h"
#include "vmm/starter.h"

struct seen {
        char name[16];
        sigset_t mask;
};

static void *looks(void *ctx)
{
        struct seen *seen = ctx;

        pthread_getname_np(pthread_self(), seen->name, sizeof(seen->name));
        pthread_sigmask(SIG_SETMASK, NULL, &seen->mask);
        return NULL;
}

/* a name, and the caller's signals; the starter may be none */
static void births(struct starter *s)
{
        struct seen seen = { .name = "" };
        const struct starter_thread t = {
                .role = SANDBOX_DISK, .name = "a-name-that-is-long", .run = looks, .ctx = &seen,
        };
        sigset_t usr1, before;
        pthread_t thread;

        sigemptyset(&usr1);
        sigaddset(&usr1, SIGUSR1);
        pthread_sigmask(SIG_BLOCK, &usr1, &before);
        CU_ASSERT_FATAL(starter_start(s, &t, &thread) == 0);
        pthread_join(thread, NULL);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        EXPECT_TEXT("name", seen.name, "a-name-that-is-");
        CU_ASSERT(sigismember(&seen.mask, SIGUSR1) == 1);
        CU_ASSERT(sigismember(&seen.mask, SIGUSR2) == 0);
}

static void *births_of_another(void *ctx)
{
        births(ctx);
        return NULL;
}

static void starters(void)
{
        struct starter *s = NULL;
        struct err e;
        pthread_t another;

        births(NULL);
        CU_ASSERT_FATAL(starter_new(SANDBOX_OFF, &s, &e) == 0);
        births(s);
        CU_ASSERT_FATAL(pthread_create(&another, NULL, births_of_another, s) == 0);
        pthread_join(another, NULL);
        CU_ASSERT(starter_enter(s, SANDBOX_LOOP, &e) == 0);
        births(s);
        starter_free(s);
        starter_free(NULL);
}

static const CU_TestInfo cases[] = {
        { "names and signals", starters },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("starter", cases);
}
