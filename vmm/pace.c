/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/pace.h"

#include <stdatomic.h>

void pace_init(struct pace *p, uint64_t rate)
{
        atomic_init(&p->rate, rate);
        atomic_init(&p->paused, false);
}

void pace_order(struct pace *p, const struct rate_order *o)
{
        if (o->what == RATE_SET)
                atomic_store(&p->rate, o->rate);
        atomic_store(&p->paused, o->what == RATE_PAUSE);
}

uint64_t pace_now(const struct pace *p)
{
        return pace_paused(p) ? RATE_OFF : atomic_load(&p->rate);
}

bool pace_paused(const struct pace *p)
{
        return atomic_load(&p->paused);
}
