/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/stress/touch.h"

#include <stdatomic.h>
#include <time.h>

#include "tests/stress/ps-guest.h"

#define PATIENCE_MS 30000

void sleep_ms(unsigned ms)
{
        const struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000l };

        nanosleep(&t, NULL);
}

static void *touch(void *arg)
{
        struct touch *t = arg;

        if (t->writes)
                *t->at = 1;
        else
                (void)*t->at;
        atomic_store(&t->done, true);
        return NULL;
}

void touch_start(struct touch *t, void *at, bool writes)
{
        t->at = at;
        t->writes = writes;
        atomic_store(&t->done, false);
        TEST(pthread_create(&t->thread, NULL, touch, t) == 0);
}

bool touch_waits(struct touch *t)
{
        sleep_ms(100);
        return !atomic_load(&t->done);
}

void touch_join(struct touch *t)
{
        for (unsigned i = 0; !atomic_load(&t->done) && i < PATIENCE_MS; i++)
                sleep_ms(1);
        TEST(atomic_load(&t->done));
        TEST(pthread_join(t->thread, NULL) == 0);
}
