/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <linux/userfaultfd.h>
#include <unistd.h>

#include "pageserver/feed.h"

/* Only missing pages are served here. An address outside the client's regions is
 * its own mistake, an event (fork, remove, remap) one it asked for against our
 * contract: neither can be answered, so the feed is given up rather than served
 * half. */
static int take(const struct feed *f, const struct uffd_msg *m, uint64_t *ret_gpa)
{
        if (m->event != UFFD_EVENT_PAGEFAULT)
                return -EPROTO;
        return regions_gpa(f->regions, m->arg.pagefault.address, ret_gpa) ? 0 : -EFAULT;
}

static int read_batch(struct feed *f, uint64_t gpa[FEED_BATCH_MAX])
{
        struct uffd_msg msg[FEED_BATCH_MAX];
        ssize_t n = read(f->fd, msg, sizeof(msg));

        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;

        int count = (int)((size_t)n / sizeof(msg[0]));

        for (int i = 0; i < count; i++) {
                int rc = take(f, &msg[i], &gpa[i]);

                if (rc < 0)
                        return rc;
        }
        return count;
}

const struct feed_ops feed_uffd = { .read = read_batch };
