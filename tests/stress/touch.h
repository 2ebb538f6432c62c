/* SPDX-License-Identifier: Apache-2.0 */
/* touch.h - one access to guest memory by a thread of its own, which may wait for it. */
#ifndef TESTS_STRESS_TOUCH_H
#define TESTS_STRESS_TOUCH_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct touch {
        volatile uint64_t *at;
        bool writes;
        pthread_t thread;
        _Atomic bool done;
};

void touch_start(struct touch *t, void *at, bool writes);
/* after a while still */
bool touch_waits(struct touch *t);
/* it must come back */
void touch_join(struct touch *t);

void sleep_ms(unsigned ms);

#endif
