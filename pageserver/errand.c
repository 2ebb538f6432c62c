/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/errand.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"

/* how often the end looks */
#define STOP_LOOK_NS NS_PER_MS

enum state { RUNNING, DONE, GIVEN_UP };

struct errand {
        struct session_host *host;
        const struct errand_ops *ops;
        void *arg;
        bool ran;                       /* its thread */
        _Atomic enum state state;
};

static void put_away(struct errand *errand)
{
        if (errand->ops->drop)
                errand->ops->drop(errand->arg);
        free(errand);
}

static void *run(void *arg)
{
        struct errand *errand = arg;
        struct session_host *host = errand->host;

        if (!errand->ran)
                errand->ops->run(errand->arg);
        errand->ran = true;
        if (atomic_exchange(&errand->state, DONE) == GIVEN_UP)
                put_away(errand);
        else
                host->poke(host);
        atomic_fetch_sub(&host->errands, 1);    /* from here on the host may be gone */
        return NULL;
}

/* signals are the main thread's */
static int start_thread(struct errand *errand)
{
        pthread_attr_t attr;
        sigset_t all, before;
        pthread_t thread;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        pthread_attr_init(&attr);
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);

        int rc = pthread_create(&thread, &attr, run, errand);

        pthread_attr_destroy(&attr);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        return -rc;
}

static int make(struct session_host *host, const struct errand_ops *ops, void *arg,
                enum state state, struct errand **ret)
{
        struct errand *errand = malloc(sizeof(*errand));

        if (!errand)
                return -ENOMEM;
        *errand = (struct errand){ .host = host, .ops = ops, .arg = arg, .state = state };
        *ret = errand;
        return 0;
}

static int start(struct errand *errand)
{
        struct session_host *host = errand->host;

        atomic_fetch_add(&host->errands, 1);

        int rc = start_thread(errand);

        if (rc < 0)
                atomic_fetch_sub(&host->errands, 1);
        return rc;
}

int errand_start(struct session_host *host, const struct errand_ops *ops, void *arg,
                 struct errand **ret, struct err *e)
{
        unsigned n = atomic_load(&host->errands);

        if (n >= ERRANDS_MAX)
                return err_msg(e, EBUSY, "%u images are being opened or closed, as many as may, "
                               "on file systems that do not answer", n);

        struct errand *errand;
        int rc = make(host, ops, arg, RUNNING, &errand);

        if (rc == 0) {
                rc = start(errand);
                if (rc < 0)
                        free(errand);
        }
        if (rc < 0)
                return err_set(e, -rc, "cannot start a thread");
        *ret = errand;
        return 0;
}

bool errand_finish(struct errand **errand)
{
        if (atomic_load(&(*errand)->state) != DONE)
                return false;
        free(ptr_take(errand));
        return true;
}

/* its state is GIVEN_UP */
static void see_off(struct errand *errand)
{
        struct session_host *host = errand->host;

        if (atomic_load(&host->errands) >= 2 * ERRANDS_MAX) {
                log_line(&host->log, "an image stays open: too many hang while they are closed");
                free(errand);
        } else if (start(errand) < 0) {
                if (!errand->ran)
                        errand->ops->run(errand->arg);
                put_away(errand);
        }
}

void errand_give_up(struct errand **errand)
{
        struct errand *own = ptr_take(errand);

        if (atomic_exchange(&own->state, GIVEN_UP) == DONE)
                see_off(own);
}

void errand_send(struct session_host *host, const struct errand_ops *ops, void *arg)
{
        struct errand *errand;

        if (make(host, ops, arg, GIVEN_UP, &errand) == 0) {
                see_off(errand);
                return;
        }
        ops->run(arg);
        if (ops->drop)
                ops->drop(arg);
}

unsigned errands_stop(struct session_host *host, uint64_t deadline_ns)
{
        const struct timespec moment = { .tv_nsec = STOP_LOOK_NS };
        unsigned n;

        while ((n = atomic_load(&host->errands)) > 0 && clock_now_ns() < deadline_ns)
                nanosleep(&moment, NULL);
        return n;
}
