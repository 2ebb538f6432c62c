/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/lease.h"

#include <errno.h>

#include "common/auto.h"
#include "common/check.h"

void lease_init(struct lease *l)
{
        *l = (struct lease){ .fd = -1 };
        lock_init(&l->lock);
        cond_init(&l->changed);
}

void lease_fini(struct lease *l)
{
        fd_close(&l->fd);
        cond_fini(&l->changed);
        lock_fini(&l->lock);
}

/* ---- the caller ---------------------------------------------------------------- */

void lease_begin(struct lease *l)
{
        lock_acquire(&l->lock);
        ASSERT(!l->wanted && l->fd < 0);
        l->wanted = true;
        l->held = l->dropped = false;
        l->why.code = 0;
        lock_release(&l->lock);
}

static int await_locked(struct lease *l, uint64_t deadline_ns, struct err *e) REQUIRES(l->lock)
{
        bool in_time = true;

        while (!l->held && l->why.code == 0 && in_time)
                in_time = cond_wait_until(&l->changed, &l->lock, deadline_ns);
        if (l->held)
                return 0;
        if (l->why.code < 0) {
                if (e)
                        *e = l->why;
                return l->why.code;
        }
        return err_msg(e, ETIMEDOUT, "the page server is still busy with the guest's missing "
                       "pages, or being replaced: try again");
}

int lease_await(struct lease *l, uint64_t deadline_ns, struct err *e)
{
        lock_acquire(&l->lock);

        int rc = await_locked(l, deadline_ns, e);

        lock_release(&l->lock);
        return rc;
}

/* How many of them are the server's, or nobody's, now. */
static size_t pass_locked(struct lease *l, const uint64_t *hva, size_t n) REQUIRES(l->lock)
{
        ssize_t passed = l->fd < 0 ? -EPIPE : ps_lease_pass(l->fd, hva, n);

        if (passed >= 0)
                return (size_t)passed;
        l->dropped = true;              /* INV-PASSED */
        return n;
}

/* A server that does not keep up gets the rest when it is faulted anew. */
void lease_pass(struct lease *l, const struct stripes *s, const uint64_t *hva, size_t n)
{
        lock_acquire(&l->lock);

        size_t passed = pass_locked(l, hva, n);

        lock_release(&l->lock);
        for (size_t i = passed; i < n; i++)
                stripes_wake_page(s, hva[i]);
}

static bool end_locked(struct lease *l) REQUIRES(l->lock)
{
        bool dropped = l->dropped;

        l->wanted = l->held = l->dropped = false;
        fd_close(&l->fd);
        return dropped;
}

void lease_end(struct lease *l, const struct stripes *s)
{
        lock_acquire(&l->lock);

        bool dropped = end_locked(l);

        lock_release(&l->lock);
        if (dropped)                    /* INV-PASSED: nobody asks for a socket any more */
                stripes_wake(s);
}

/* ---- the watch thread ------------------------------------------------------------ */

/* 0: not now */
static uint64_t next_number(struct lease *l)
{
        uint64_t number = 0;

        lock_acquire(&l->lock);
        if (l->wanted && l->fd < 0)
                number = ++l->number;
        lock_release(&l->lock);
        return number;
}

/* Between asking and this the caller may have ended it, and begun again. */
static bool take_fd_locked(struct lease *l, int *fd) REQUIRES(l->lock)
{
        if (!l->wanted)
                return false;
        l->fd = fd_take(fd);
        l->why.code = 0;

        bool wake = l->dropped;

        l->dropped = false;
        return wake;
}

static void failed(struct lease *l, const struct err *why)
{
        lock_acquire(&l->lock);
        l->why = *why;
        cond_broadcast(&l->changed);
        lock_release(&l->lock);
}

bool lease_ask(struct lease *l, struct ps_client *client, const struct stripes *s)
{
        uint64_t number = next_number(l);
        AUTO_FD fd = -1;
        struct err e;

        if (number == 0)
                return true;

        int rc = ps_client_lease(client, number, &fd, &e);

        if (rc == -EPIPE)
                return true;            /* another server comes, and is asked */
        if (rc < 0) {
                failed(l, &e);
                return false;
        }
        lock_acquire(&l->lock);

        bool wake = take_fd_locked(l, &fd);

        lock_release(&l->lock);
        if (wake)
                stripes_wake(s);        /* INV-PASSED: after there is a socket */
        return true;
}

void lease_granted(struct lease *l, uint64_t number)
{
        lock_acquire(&l->lock);
        if (l->wanted && l->number == number)
                l->held = true;
        cond_broadcast(&l->changed);
        lock_release(&l->lock);
}

void lease_lost(struct lease *l)
{
        lock_acquire(&l->lock);
        l->dropped |= l->wanted;
        fd_close(&l->fd);
        lock_release(&l->lock);
}
