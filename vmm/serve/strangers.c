/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/strangers.h"

#include <netinet/in.h>
#include <string.h>

#include "common/check.h"

#define PREFIX_BYTES 8

static void read_address(const struct sockaddr_storage *from, uint8_t ret[16])
{
        memset(ret, 0, 16);
        if (from->ss_family == AF_INET) {
                const struct sockaddr_in *in = (const struct sockaddr_in *)from;

                ret[10] = ret[11] = 0xff;
                memcpy(ret + 12, &in->sin_addr, 4);
        } else if (from->ss_family == AF_INET6) {
                const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)from;
                bool mapped = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);

                memcpy(ret, &in6->sin6_addr, mapped ? 16 : PREFIX_BYTES);
        }
}

/* His place, or that of the one who came longest ago. */
static struct stranger *find(struct strangers *s, const uint8_t address[16])
{
        struct stranger *oldest = &s->at[0];

        for (size_t i = 0; i < STRANGERS_MAX; i++) {
                struct stranger *at = &s->at[i];

                if (at->seen_ns && !memcmp(at->address, address, 16))
                        return at;
                if (at->seen_ns < oldest->seen_ns)
                        oldest = at;
        }
        memcpy(oldest->address, address, 16);
        bucket_init(&oldest->bucket, STRANGER_RATE);
        return oldest;
}

bool strangers_take(struct strangers *s, const struct sockaddr_storage *from, uint64_t now_ns,
                    uint64_t *ret_wait_ns)
{
        uint8_t address[16];

        ASSERT(now_ns > 0);
        read_address(from, address);

        struct stranger *at = find(s, address);

        at->seen_ns = now_ns;
        return bucket_take(&at->bucket, now_ns, ret_wait_ns);
}
