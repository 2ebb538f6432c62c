/* SPDX-License-Identifier: Apache-2.0 */
/* bucket.h - at most so many a second, after a burst of as many.
 *
 * Plain values, no clock of its own. Threads: one at a time.
 */
#ifndef VMM_SERVE_BUCKET_H
#define VMM_SERVE_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

struct bucket {
        uint64_t interval_ns;           /* that one costs */
        uint64_t full_ns;               /* when all that was taken will be paid for */
};

/* a_second: 1 or more */
void bucket_init(struct bucket *b, unsigned a_second);
/* False: it was one too many. *ret_wait_ns: when to come again. */
bool bucket_take(struct bucket *b, uint64_t now_ns, uint64_t *ret_wait_ns);

#endif
