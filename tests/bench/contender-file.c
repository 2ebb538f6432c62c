/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "tests/bench/contender.h"

static void file_close(struct contender *c)
{
        struct file *f = (struct file *)c;

        if (c->ram)
                munmap(c->ram, c->bytes);
        c->ram = NULL;
        fd_close(&f->fd);
}

static int file_open(struct contender *c, struct err *e)
{
        struct file *f = (struct file *)c;

        c->server = 0;
        f->fd = open(f->path, O_RDONLY | O_CLOEXEC);
        if (f->fd < 0)
                return err_set(e, errno, "open '%s'", f->path);
        posix_fadvise(f->fd, 0, 0, f->cold ? POSIX_FADV_DONTNEED : POSIX_FADV_WILLNEED);
        c->ram = mmap(NULL, c->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, f->fd, 0);
        ASSERT(c->ram != MAP_FAILED);
        /* a guest's accesses have no order that reading ahead could use */
        madvise(c->ram, c->bytes, MADV_RANDOM);
        return 0;
}

const struct contender_ops contender_file = { .open = file_open, .close = file_close };
