/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/adapters/qemu/recording.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/io.h"
#include "common/lock.h"
#include "pageserver/record.h"

/* of guest memory, as a working set counts */
#define PAGE_BYTES 4096u
#define EXTENT_BYTES 16u

struct recording {
        struct recording_options o;
        struct record record;
        pthread_t thread;
        bool started;
        /* the thread's until it is joined */
        int rc;
        struct err err;

        struct lock lock;
        struct cond changed;
        uint64_t until_ns GUARDED_BY(lock);     /* 0 = not yet known */
        bool stop GUARDED_BY(lock);
        bool drop GUARDED_BY(lock);
        bool done GUARDED_BY(lock);
};

static int store(struct recording *r, struct err *e)
{
        const struct qs_image_info *info = qs_image_info(r->o.image);
        AUTO_FREE struct qs_ram_range *set = NULL;
        AUTO_FREE char *data = NULL;
        AUTO_FD fd = -1;
        size_t bytes = 0, n = 0;
        int rc = record_export(&r->record, PAGE_BYTES, info->disk_bytes, &fd, e);

        if (rc == 0 && lseek(fd, 0, SEEK_SET) < 0)
                rc = err_set(e, errno, "read what was recorded");
        if (rc == 0) {
                rc = io_read_all(fd, (size_t)QS_WORKING_SET_MAX * EXTENT_BYTES, &data, &bytes);
                if (rc < 0)
                        err_set(e, -rc, "read what was recorded");
        }
        if (rc == 0)
                rc = qs_working_set_parse(data, bytes, info->disk_bytes, &set, &n, e);
        if (rc == 0 && n == 0)
                rc = err_msg(e, ENODATA, "the guest has not asked for anything");
        if (rc == 0)
                rc = qs_working_set_put(r->o.path, info->tag, r->o.image, set, n, e);
        return rc < 0 ? err_in(e, rc, "the working set is not stored") : 0;
}

/* true: store; *ret_over: because the time has come */
static bool wait_end_locked(struct recording *r, bool *ret_over)
        REQUIRES(r->lock)
{
        *ret_over = false;
        while (!r->stop && !*ret_over) {
                if (r->until_ns == 0)
                        cond_wait(&r->changed, &r->lock);
                else
                        *ret_over = !cond_wait_until(&r->changed, &r->lock, r->until_ns);
        }
        return !r->drop;
}

static void *recording_main(void *ctx)
{
        struct recording *r = ctx;
        bool over;

        lock_acquire(&r->lock);

        bool wanted = wait_end_locked(r, &over);

        lock_release(&r->lock);
        if (over && r->o.over)
                r->o.over(r->o.ctx);
        if (wanted)
                r->rc = store(r, &r->err);
        lock_acquire(&r->lock);
        r->done = true;
        lock_release(&r->lock);
        if (r->o.stored)
                r->o.stored(r->o.ctx);
        return NULL;
}

int recording_new(const struct recording_options *o, struct recording **ret, struct err *e)
{
        struct recording *r = calloc(1, sizeof(*r));

        if (!r)
                return err_msg(e, ENOMEM, "no memory to record what the guest asks for");
        r->o = *o;
        lock_init(&r->lock);
        cond_init(&r->changed);

        int rc = -record_init(&r->record, DIV_ROUND_UP(o->blocks->disk_bytes, PAGE_BYTES));

        if (rc == 0)
                rc = pthread_create(&r->thread, NULL, recording_main, r);
        if (rc) {
                recording_free(r);
                return err_set(e, rc, "record what the guest asks for");
        }
        r->started = true;
        *ret = r;
        return 0;
}

void recording_begin(struct recording *r)
{
        lock_acquire(&r->lock);
        if (r->o.seconds)
                r->until_ns = clock_now_ns() + r->o.seconds * NS_PER_SEC;
        cond_broadcast(&r->changed);
        lock_release(&r->lock);
}

/* false: the thread is done */
static bool stop(struct recording *r, bool drop)
{
        lock_acquire(&r->lock);

        bool done = r->done;

        r->stop = true;
        r->drop |= drop;
        cond_broadcast(&r->changed);
        lock_release(&r->lock);
        return !done;
}

static void join(struct recording *r)
{
        if (r->started)
                pthread_join(r->thread, NULL);
        r->started = false;
}

void recording_free(struct recording *r)
{
        if (!r)
                return;
        stop(r, true);
        join(r);
        record_fini(&r->record);
        cond_fini(&r->changed);
        lock_fini(&r->lock);
        free(r);
}

void recording_touch(struct recording *r, unsigned block, uint64_t offset, uint64_t bytes)
{
        for (uint64_t at = 0; at < bytes; at += PAGE_BYTES) {
                uint64_t gpa, run;

                if (qemu_blocks_gpa(r->o.blocks, block, offset + at, &gpa, &run))
                        record_touch(&r->record, gpa / PAGE_BYTES);
        }
}

bool recording_store(struct recording *r)
{
        return stop(r, false);
}

int recording_end(struct recording *r, struct err *e)
{
        stop(r, false);
        join(r);
        if (r->rc < 0)
                *e = r->err;
        return r->rc;
}
