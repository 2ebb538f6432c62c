/* SPDX-License-Identifier: Apache-2.0 */
/* strangers.h - how often clients of one address may show a wrong token.
 *
 * It is about those who have none: who shows the right one is let in from any address, whatever
 * others do there. Of IPv6 the first 64 bits count, which one client may have to himself.
 *
 * Plain values, no clock of its own. Threads: one at a time.
 */
#ifndef VMM_SERVE_STRANGERS_H
#define VMM_SERVE_STRANGERS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "vmm/serve/bucket.h"

/* a second, and after a burst of as many */
#define STRANGER_RATE 5
/* that are remembered: the one who came longest ago makes room */
#define STRANGERS_MAX 256

struct stranger {
        uint8_t address[16];            /* of IPv6, that of IPv4 mapped into it */
        uint64_t seen_ns;               /* 0 = nobody */
        struct bucket bucket;
};

struct strangers {
        struct stranger at[STRANGERS_MAX];
};

/* One came with a wrong token. False: once too often; *ret_wait_ns: when to come again. */
bool strangers_take(struct strangers *s, const struct sockaddr_storage *from, uint64_t now_ns,
                    uint64_t *ret_wait_ns);

#endif
