/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/bucket.h"

#include "common/check.h"
#include "common/clock.h"

/* a second's worth */
#define BURST_NS NS_PER_SEC

void bucket_init(struct bucket *b, unsigned a_second)
{
        ASSERT(a_second > 0);
        *b = (struct bucket){ .interval_ns = NS_PER_SEC / a_second };
}

bool bucket_take(struct bucket *b, uint64_t now_ns, uint64_t *ret_wait_ns)
{
        uint64_t owed_ns = MAX(b->full_ns, now_ns) - now_ns;

        if (owed_ns + b->interval_ns > BURST_NS) {
                *ret_wait_ns = owed_ns + b->interval_ns - BURST_NS;
                return false;
        }
        b->full_ns = now_ns + owed_ns + b->interval_ns;
        *ret_wait_ns = 0;
        return true;
}
