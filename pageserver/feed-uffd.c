/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <linux/userfaultfd.h>
#include <unistd.h>

#include "common/check.h"
#include "pageserver/feed.h"
#include "pageserver/session.h"
#include "pageserver/uffd.h"

/* Not for us: a write to what the client has protected. INV-READER: it went past him because
 * he does not hold the lease, or only just. */
static int protected(struct feed *f, const struct uffd_msg *m, int n)
{
        session_protected(f->session, f->fd, m->arg.pagefault.address);
        return n;
}

/* An address outside the client's regions is its own mistake, and so is an event
 * (fork, remap, unmap) that it asked for against our contract: neither can be
 * answered, so the feed is given up rather than served half. */
static int take(struct feed *f, const struct uffd_msg *m, uint64_t gpa[FEED_BATCH_MAX], int n)
{
        switch (m->event) {
        case UFFD_EVENT_PAGEFAULT:
                if (m->arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP)
                        return protected(f, m, n);
                if (!regions_gpa(f->regions, m->arg.pagefault.address, &gpa[n]))
                        return -EFAULT;
                return n + 1;
        case UFFD_EVENT_REMOVE:
                if (!f->removed)
                        return -EPROTO;
                removed_mark(f->removed, f->regions, m->arg.remove.start, m->arg.remove.end);
                return n;
        default:
                return -EPROTO;
        }
}

/* Reading of a fork made the child's userfaultfd ours. Where the client can write what
 * we read, the number may be his: rather lose a descriptor than close another's. */
static void refuse_child(const struct feed *f, const struct uffd_msg *m)
{
        if (m->event == UFFD_EVENT_FORK && !f->removed)
                close((int)m->arg.fork.ufd);
}

static int read_messages(struct feed *f, struct uffd_msg msg[FEED_BATCH_MAX],
                         uint64_t gpa[FEED_BATCH_MAX])
{
        ssize_t bytes = uffd_read(f->fd, msg, FEED_BATCH_MAX * sizeof(msg[0]));

        if (bytes < 0)
                return (int)bytes;

        int count = (int)((size_t)bytes / sizeof(msg[0]));
        int n = 0;

        for (int i = 0; i < count; i++) {
                refuse_child(f, &msg[i]);
                if (n >= 0)
                        n = take(f, &msg[i], gpa, n);
        }
        return n;
}

static int read_batch(struct feed *f, unsigned worker, uint64_t gpa[FEED_BATCH_MAX])
{
        struct uffd_msg msg[FEED_BATCH_MAX];

        if (!f->removed)
                return read_messages(f, msg, gpa);
        removed_lock_alone(f->removed);         /* INV-REMOVED, INV-UNREAD */

        int n = read_messages(f, removed_slot(f->removed, worker), gpa);

        removed_unlock_alone(f->removed);
        return n;
}

const struct feed_ops feed_uffd = { .read = read_batch };
