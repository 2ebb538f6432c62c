/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/pressure.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "common/auto.h"

/* A trigger says POLLPRI, which event loops do not wait for: an epoll descriptor
 * around it is readable instead. */
static int wrap(int trigger, int *ret, struct err *e)
{
        struct epoll_event ev = { .events = EPOLLPRI };
        AUTO_FD poll_fd = epoll_create1(EPOLL_CLOEXEC);

        if (poll_fd < 0 || epoll_ctl(poll_fd, EPOLL_CTL_ADD, trigger, &ev) < 0)
                return err_set(e, errno, "cannot wait for pressure");
        *ret = fd_take(&poll_fd);
        return 0;
}

int pressure_open(struct pressure *p, const char *path, struct err *e)
{
        AUTO_FD trigger = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        char text[64];

        *p = (struct pressure){ .poll_fd = -1, .trigger_fd = -1 };
        if (trigger < 0)
                return err_set(e, errno, "cannot open '%s'", path);

        int n = snprintf(text, sizeof(text), "some %d %d", PRESSURE_STALL_MS * 1000,
                         PRESSURE_WINDOW_MS * 1000);

        if (write(trigger, text, (size_t)n + 1) < 0)
                return err_set(e, errno, "cannot set a trigger on '%s'", path);

        int rc = wrap(trigger, &p->poll_fd, e);

        if (rc == 0)
                p->trigger_fd = fd_take(&trigger);
        return rc;
}

void pressure_taken(struct pressure *p)
{
        struct epoll_event ev;

        (void)epoll_wait(p->poll_fd, &ev, 1, 0);
}

void pressure_close(struct pressure *p)
{
        fd_close(&p->poll_fd);
        fd_close(&p->trigger_fd);
}
