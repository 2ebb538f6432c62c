/* SPDX-License-Identifier: Apache-2.0 */
#include "common/lock.h"

#include <errno.h>
#include <time.h>

#include "common/check.h"

static void took(struct lock *l)
{
        l->owner = pthread_self();
        l->held = true;
}

void lock_init(struct lock *l)
{
        int rc = pthread_mutex_init(&l->mutex, NULL);

        ASSERT(rc == 0);
        l->held = false;
}

void lock_fini(struct lock *l)
{
        int rc = pthread_mutex_destroy(&l->mutex);

        ASSERT(rc == 0);
}

void lock_acquire(struct lock *l) NO_TSA
{
        int rc = pthread_mutex_lock(&l->mutex);

        ASSERT(rc == 0);
        took(l);
}

void lock_release(struct lock *l) NO_TSA
{
        ASSERT(lock_held(l));
        l->held = false;

        int rc = pthread_mutex_unlock(&l->mutex);

        ASSERT(rc == 0);
}

bool lock_held(struct lock *l)
{
        return l->held && pthread_equal(l->owner, pthread_self());
}

void cond_init(struct cond *c)
{
        pthread_condattr_t attr;

        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);

        int rc = pthread_cond_init(&c->cond, &attr);

        ASSERT(rc == 0);
        pthread_condattr_destroy(&attr);
}

void cond_fini(struct cond *c)
{
        pthread_cond_destroy(&c->cond);
}

void cond_wait(struct cond *c, struct lock *l)
{
        ASSERT(lock_held(l));
        l->held = false;
        pthread_cond_wait(&c->cond, &l->mutex);
        took(l);
}

bool cond_wait_until(struct cond *c, struct lock *l, unsigned long long deadline_ns)
{
        struct timespec ts = {
                .tv_sec = (time_t)(deadline_ns / 1000000000ull),
                .tv_nsec = (long)(deadline_ns % 1000000000ull),
        };

        ASSERT(lock_held(l));
        l->held = false;

        int rc = pthread_cond_timedwait(&c->cond, &l->mutex, &ts);

        took(l);
        return rc != ETIMEDOUT;
}

void cond_broadcast(struct cond *c)
{
        pthread_cond_broadcast(&c->cond);
}
