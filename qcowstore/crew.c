/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/crew.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "common/check.h"

struct job {
        void (*work)(void *ctx);
        void *ctx;
};

static void *helper(void *arg)
{
        struct job *job = arg;

        job->work(job->ctx);
        return NULL;
}

unsigned crew_size(unsigned wanted)
{
        long cpus = wanted ? (long)wanted : sysconf(_SC_NPROCESSORS_ONLN);

        return (unsigned)MIN(MAX(cpus, 1), CREW_MAX);
}

void crew_run(unsigned threads, void (*work)(void *ctx), void *ctx)
{
        struct job job = { work, ctx };
        pthread_t thread[CREW_MAX];
        unsigned started = 0;
        sigset_t all;
        sigset_t old;

        ASSERT(threads > 0 && threads <= CREW_MAX);
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        while (started + 1 < threads &&
               pthread_create(&thread[started], NULL, helper, &job) == 0)
                started++;
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        work(ctx);
        for (unsigned i = 0; i < started; i++)
                pthread_join(thread[i], NULL);
}
