/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "pageserver/uffd.h"
#include "vmm/pager.h"
#include "vmm/ramguard-priv.h"
#include "vmm/starter.h"
#include "vmm/stripes.h"

/* The guard's threads: they answer writes into what is protected, hand the page server
 * what it is to bring (INV-READER), and help to protect RAM at the moment. They never touch
 * a page of RAM that is missing. */

#define MESSAGES_MAX 32

/* A page that the server is to bring is none of ours; else the guest wants to write. */
static void take_message(struct ramguard *g, const struct uffd_msg *m)
{
        uint64_t hva = m->arg.pagefault.address;
        uint64_t gpa;

        if (m->event != UFFD_EVENT_PAGEFAULT)
                return;
        if (!(m->arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP))
                pager_pass(g->pager, &hva, 1);
        else if (protection_gpa(g->protection, hva, &gpa))
                guard_answer(g, gpa);
}

static void read_messages(struct ramguard *g, int fd)
{
        struct uffd_msg m[MESSAGES_MAX];
        ssize_t bytes = uffd_read(fd, m, sizeof(m));

        if (bytes < 0) {
                struct err e;

                err_set(&e, (int)-bytes, "read a userfaultfd");
                guard_fail(g, &e);
                return;
        }
        for (size_t i = 0; i < (size_t)bytes / sizeof(m[0]); i++)
                take_message(g, &m[i]);
}

void guard_arm(struct ramguard *g)
{
        size_t done = 0;
        size_t i;

        while ((i = atomic_fetch_add(&g->next_slice, 1)) < g->nslices) {
                struct err e;

                if (!g->failed && guard_hold(g, &g->slice[i], &e) < 0)
                        guard_fail(g, &e);
                done++;
        }
        lock_acquire(&g->lock);
        g->slices_done += done;
        cond_broadcast(&g->armed);
        lock_release(&g->lock);
}

static int wait_armed(struct ramguard *g, struct err *e)
{
        int rc = 0;

        lock_acquire(&g->lock);
        while (g->slices_done < g->nslices)
                cond_wait(&g->armed, &g->lock);
        if (g->failed) {
                *e = g->err;
                rc = e->code;
        }
        lock_release(&g->lock);
        return rc;
}

/* A helper of the round before may come late: then he helps in this one. */
int guard_arm_all(struct ramguard *g, bool again, struct err *e)
{
        uint64_t helpers = MIN(g->nthreads, g->nslices - 1);

        lock_acquire(&g->lock);
        g->slices_done = 0;
        lock_release(&g->lock);
        g->again = again;
        g->next_slice = 0;
        if (helpers)
                (void)!write(g->kick_fd, &helpers, sizeof(helpers));
        guard_arm(g);
        return wait_armed(g, e);
}

static void *fault_thread(void *ctx)
{
        struct ramguard *g = ctx;
        struct pollfd fds[STRIPES_UFFDS_MAX + 2];
        size_t n;
        const int *uffds = protection_fds(g->protection, &n);

        ASSERT(n <= STRIPES_UFFDS_MAX);
        for (size_t i = 0; i < n; i++)
                fds[i] = (struct pollfd){ .fd = uffds[i], .events = POLLIN };
        fds[n] = (struct pollfd){ .fd = g->kick_fd, .events = POLLIN };
        fds[n + 1] = (struct pollfd){ .fd = g->stop_fd, .events = POLLIN };
        for (;;) {
                uint64_t one;

                if (poll(fds, n + 2, -1) < 0)
                        continue;
                if (fds[n + 1].revents)
                        return NULL;
                if (fds[n].revents && read(g->kick_fd, &one, sizeof(one)) == sizeof(one))
                        guard_arm(g);
                for (size_t i = 0; i < n; i++) {
                        if (fds[i].revents)
                                read_messages(g, fds[i].fd);
                }
        }
}

int guard_threads_start(struct ramguard *g, unsigned wanted, struct err *e)
{
        const struct starter_thread thread = {
                .role = SANDBOX_GUARD, .name = "guard", .run = fault_thread, .ctx = g,
        };

        g->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
        g->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (g->kick_fd < 0 || g->stop_fd < 0)
                return err_set(e, errno, "create an eventfd");
        for (; g->nthreads < wanted; g->nthreads++) {
                int why = starter_start(g->starter, &thread, &g->thread[g->nthreads]);

                if (why)
                        return err_set(e, why, "start a thread that guards guest memory");
        }
        return 0;
}

void guard_threads_stop(struct ramguard *g)
{
        uint64_t one = 1;

        if (g->nthreads)
                (void)!write(g->stop_fd, &one, sizeof(one));
        while (g->nthreads)
                pthread_join(g->thread[--g->nthreads], NULL);
        fd_close(&g->kick_fd);
        fd_close(&g->stop_fd);
}
