/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "common/check.h"
#include "common/wire/psfault.h"
#include "pageserver/feed.h"
#include "pageserver/session.h"

static_assert(PSFAULT_MAX <= FEED_BATCH_MAX, "a packet is read whole");

/* An address outside the client's regions is its own mistake, as in feed-uffd.c. */
static int take(const struct feed *f, const uint8_t *buf, size_t bytes,
                uint64_t gpa[FEED_BATCH_MAX])
{
        uint64_t hva[PSFAULT_MAX];
        int n = psfault_decode(buf, bytes, hva);

        for (int i = 0; i < n; i++) {
                if (!regions_gpa(f->regions, hva[i], &gpa[i]))
                        return -EFAULT;
        }
        return n;
}

/* All that the client had passed on was read before. */
static int end(struct feed *f)
{
        atomic_store(&f->broken, true);
        session_lease_ended(f->session);
        return 0;
}

static int read_batch(struct feed *f, unsigned worker, uint64_t gpa[FEED_BATCH_MAX])
{
        uint8_t buf[PSFAULT_BYTES_MAX];
        /* the length is that of the packet, also of one that does not fit */
        ssize_t bytes = recv(f->fd, buf, sizeof(buf), MSG_DONTWAIT | MSG_TRUNC);

        (void)worker;
        if (bytes < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        if (bytes == 0 || (bytes < 0 && errno == ECONNRESET))
                return end(f);
        return bytes < 0 ? -errno : take(f, buf, (size_t)bytes, gpa);
}

const struct feed_ops feed_lease = { .read = read_batch };
