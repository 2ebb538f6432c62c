/* SPDX-License-Identifier: Apache-2.0 */
/* The serving process is a fork of ours: the kernel gives the registration of a
 * userfaultfd to the parent alone, so that the child serves the parent's area. It
 * ends by SIGKILL, and nothing of it is left. */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "pageserver/uffd.h"
#include "tests/bench/contender.h"

static void wait_by_poll(int fd)
{
        struct pollfd p = { .fd = fd, .events = POLLIN };

        while (poll(&p, 1, -1) < 1)
                ;
}

/* Blocks in read() unless it polls: the descriptor was made non-blocking by
 * uffd_open(), which is no use to a loop with one descriptor. */
static _Noreturn void serve(const struct bare *b, const char *hot)
{
        struct uffd_msg m;

        if (!b->poll)
                fcntl(b->uffd, F_SETFL, 0);
        for (;;) {
                if (b->poll)
                        wait_by_poll(b->uffd);
                if (read(b->uffd, &m, sizeof(m)) != sizeof(m))
                        continue;

                uint64_t at = ALIGN_DOWN(m.arg.pagefault.address, b->step);
                struct uffdio_copy copy = {
                        .dst = at,
                        .src = (uintptr_t)(b->from ? b->from + (at - (uintptr_t)b->c.ram) : hot),
                        .len = b->step,
                };

                if (ioctl(b->uffd, UFFDIO_COPY, &copy) < 0)
                        _exit(1);
        }
}

static int start(struct bare *b, struct err *e)
{
        pid_t pid = fork();

        if (pid < 0)
                return err_set(e, errno, "fork");
        if (pid == 0) {
                char *hot = aligned_alloc(4096, b->step);

                prctl(PR_SET_PDEATHSIG, SIGKILL);
                ASSERT(hot);
                memset(hot, 0x5a, b->step);
                serve(b, hot);
        }
        b->c.server = pid;
        return 0;
}

static void bare_close(struct contender *c)
{
        struct bare *b = (struct bare *)c;

        if (c->server > 0) {
                kill(c->server, SIGKILL);
                waitpid(c->server, NULL, 0);
                c->server = 0;
        }
        if (c->ram)
                munmap(c->ram, c->bytes);
        c->ram = NULL;
        fd_close(&b->uffd);
}

static int bare_open(struct contender *c, struct err *e)
{
        struct bare *b = (struct bare *)c;

        b->uffd = -1;

        int rc = uffd_open(0, &b->uffd, e);

        if (rc < 0)
                return rc;
        /* aligned, for its steps are */
        c->ram = mmap(NULL, c->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        ASSERT(c->ram != MAP_FAILED);
        madvise(c->ram, c->bytes, MADV_NOHUGEPAGE);
        rc = uffd_register_missing(b->uffd, (uintptr_t)c->ram, c->bytes, e);
        if (rc == 0)
                rc = start(b, e);
        if (rc < 0)
                bare_close(c);
        return rc;
}

const struct contender_ops contender_bare = { .open = bare_open, .close = bare_close };
