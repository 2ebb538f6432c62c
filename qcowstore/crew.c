/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/crew.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/check.h"
#include "common/lock.h"

struct crew {
        bool background;
        crew_fn *work;
        void *ctx;
        struct lock lock;
        int rc GUARDED_BY(lock);                /* of the first failure */
        struct err err GUARDED_BY(lock);
};

static void take_part(struct crew *crew)
{
        struct err e = { 0 };
        int rc = crew->work(crew->ctx, &e);

        lock_acquire(&crew->lock);
        if (rc < 0 && crew->rc == 0) {
                crew->rc = rc;
                crew->err = e;
        }
        lock_release(&crew->lock);
}

static void *helper(void *arg)
{
        struct crew *crew = arg;

        /* of this thread: 0. Inherited from who stands further behind, it stays. */
        if (crew->background && getpriority(PRIO_PROCESS, 0) < CREW_NICE)
                (void)setpriority(PRIO_PROCESS, 0, CREW_NICE);
        take_part(crew);
        return NULL;
}

unsigned crew_size(unsigned wanted)
{
        long cpus = wanted ? (long)wanted : sysconf(_SC_NPROCESSORS_ONLN);

        return (unsigned)MIN(MAX(cpus, 1), CREW_MAX);
}

static unsigned start_helpers(struct crew *crew, pthread_t *thread, unsigned n)
{
        unsigned started = 0;
        sigset_t all;
        sigset_t old;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        while (started < n && pthread_create(&thread[started], NULL, helper, crew) == 0)
                started++;
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        return started;
}

int crew_run(unsigned threads, bool background, crew_fn *work, void *ctx, struct err *e)
{
        struct crew crew = { .background = background, .work = work, .ctx = ctx };
        pthread_t thread[CREW_MAX];

        ASSERT(threads > 0 && threads <= CREW_MAX);
        lock_init(&crew.lock);

        unsigned started = start_helpers(&crew, thread, background ? threads : threads - 1);

        if (!background || started == 0)
                take_part(&crew);
        for (unsigned i = 0; i < started; i++)
                pthread_join(thread[i], NULL);
        lock_acquire(&crew.lock);

        int rc = crew.rc;

        if (rc < 0 && e)
                *e = crew.err;
        lock_release(&crew.lock);
        lock_fini(&crew.lock);
        return rc;
}
