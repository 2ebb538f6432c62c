/* SPDX-License-Identifier: Apache-2.0 */
/* pace.h - how fast a VM's memory may be loaded in the background, by the orders
 * given so far. It outlives any page server, which is told by the pager.
 *
 * Threads: pace_order() by one at a time, the others by any.
 */
#ifndef VMM_PACE_H
#define VMM_PACE_H

#include <stdbool.h>

#include "common/rate.h"

struct pace {
        _Atomic uint64_t rate;          /* bytes per second; also while paused */
        _Atomic bool paused;
};

void pace_init(struct pace *p, uint64_t rate);
void pace_order(struct pace *p, const struct rate_order *o);
/* the rate that applies: RATE_OFF while paused */
uint64_t pace_now(const struct pace *p);
bool pace_paused(const struct pace *p);

#endif
