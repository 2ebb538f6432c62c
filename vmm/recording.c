/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/recording.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/auto.h"
#include "common/clock.h"
#include "common/io.h"
#include "qcowstore/store.h"

#define WAIT_NS (10 * NS_PER_SEC)
/* an extent */
#define EXTENT_BYTES 16u

void recording_init(struct recording *r, bool on)
{
        *r = (struct recording){ .on = on, .fd = -1 };
        lock_init(&r->lock);
        cond_init(&r->answered);
}

void recording_fini(struct recording *r)
{
        lock_acquire(&r->lock);
        fd_close(&r->fd);
        lock_release(&r->lock);
        cond_fini(&r->answered);
        lock_fini(&r->lock);
}

void recording_ask(struct recording *r)
{
        lock_acquire(&r->lock);
        r->wanted = r->on;              /* a server that records nothing takes it ill */
        fd_close(&r->fd);
        lock_release(&r->lock);
}

bool recording_goes_on(struct recording *r)
{
        lock_acquire(&r->lock);

        bool on = r->on;

        lock_release(&r->lock);
        return on;
}

bool recording_wanted(struct recording *r)
{
        lock_acquire(&r->lock);

        bool wanted = r->wanted;

        r->wanted = false;
        lock_release(&r->lock);
        return wanted;
}

void recording_answer(struct recording *r, int *fd)
{
        lock_acquire(&r->lock);
        fd_close(&r->fd);
        r->fd = fd_take(fd);
        cond_broadcast(&r->answered);
        lock_release(&r->lock);
}

void recording_lose(struct recording *r)
{
        lock_acquire(&r->lock);
        r->on = false;
        r->wanted = false;
        cond_broadcast(&r->answered);
        lock_release(&r->lock);
}

/* Somebody else's descriptor: only its bytes are wanted, and not more than there may be. */
static int read_answer(int fd, void **ret, size_t *ret_bytes, struct err *e)
{
        struct stat st;

        if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
            st.st_size > (off_t)QS_WORKING_SET_MAX * EXTENT_BYTES)
                return err_msg(e, EBADMSG, "the page server's record is none");

        size_t bytes = (size_t)st.st_size;
        AUTO_FREE void *data = malloc(bytes + 1);

        if (!data)
                return err_set(e, ENOMEM, "read the page server's record");

        int rc = io_pread_full(fd, data, bytes, 0);

        if (rc < 0)
                return err_set(e, -rc, "read the page server's record");
        *ret = ptr_take(&data);
        *ret_bytes = bytes;
        return 0;
}

int recording_wait(struct recording *r, void **ret, size_t *ret_bytes, struct err *e)
{
        uint64_t deadline_ns = clock_now_ns() + WAIT_NS;

        lock_acquire(&r->lock);
        while (r->fd < 0 && r->on && cond_wait_until(&r->answered, &r->lock, deadline_ns))
                ;

        AUTO_FD fd = fd_take(&r->fd);
        bool lost = !r->on;

        lock_release(&r->lock);
        if (lost)
                return err_msg(e, ESTALE, "the page server that noted what was touched has ended: "
                               "record again");
        if (fd < 0)
                return err_msg(e, ETIMEDOUT, "the page server does not answer");
        return read_answer(fd, ret, ret_bytes, e);
}
