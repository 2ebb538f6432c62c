/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/recorder.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/json.h"
#include "vmm/pager.h"
#include "vmm/starter.h"
#include "vmm/vm.h"

struct recorder {
        /* constant after recorder_new() */
        struct vm *vm;
        char *path;
        unsigned seconds;

        /* event loop only */
        struct event *timer;
        recorder_done_fn *done;
        void *done_ctx;
        bool storing;                   /* the thread is there */
        bool stored;
        bool failed;                    /* err says why; the last time */
        size_t extents;                 /* of what was stored last */
        uint64_t bytes;
        pthread_t thread;

        /* the thread's, until it posts */
        struct qs_ram_range *set;
        size_t n;
        struct err err;
        int rc;
};

static int store(struct recorder *r, struct err *e)
{
        const struct qs_image_info *from = qs_image_info(r->vm->parent);
        AUTO_FREE void *data = NULL;
        size_t bytes = 0;
        int rc = pager_record(r->vm->pager, &data, &bytes, e);

        if (rc == 0)
                rc = qs_working_set_parse(data, bytes, from->disk_bytes, &r->set, &r->n, e);
        if (rc == 0 && r->n == 0)
                rc = err_msg(e, ENODATA, "the guest has not touched anything");
        if (rc == 0)
                rc = qs_working_set_put(r->path, from->tag, r->vm->parent, r->set, r->n, e);
        return rc < 0 ? err_in(e, rc, "the working set of VM '%s' is not stored", r->vm->name) : 0;
}

static void *store_thread(void *ctx)
{
        struct recorder *r = ctx;

        r->rc = store(r, &r->err);
        vm_post(r->vm, VM_POST_RECORD);
        return NULL;
}

int recorder_new(struct vm *vm, const struct recorder_options *options, struct recorder **ret,
                 struct err *e)
{
        struct recorder *r = calloc(1, sizeof(*r));

        if (!r)
                return err_msg(e, ENOMEM, "no memory to record VM '%s'", vm->name);
        r->vm = vm;
        r->seconds = options->seconds;
        r->path = strdup(options->image_path);
        if (!r->path) {
                free(r);
                return err_msg(e, ENOMEM, "no memory to record VM '%s'", vm->name);
        }
        *ret = r;
        return 0;
}

static void on_timer(evutil_socket_t fd, short what, void *ctx)
{
        struct recorder *r = ctx;

        (void)fd;
        (void)what;
        if (!r->stored)
                (void)recorder_store(r, NULL, NULL, NULL);
}

void recorder_started(struct recorder *r)
{
        struct timeval after = { .tv_sec = r->seconds };

        if (r->seconds == 0)
                return;
        r->timer = evtimer_new(r->vm->base, on_timer, r);
        if (!r->timer || evtimer_add(r->timer, &after) < 0)
                fprintf(stderr, "vmm: VM '%s' is recorded until it ends: no memory for a timer\n",
                        r->vm->name);
}

int recorder_store(struct recorder *r, recorder_done_fn *done, void *ctx, struct err *e)
{
        if (r->storing)
                return err_msg(e, EBUSY, "the working set of VM '%s' is being stored just now",
                               r->vm->name);

        int rc = starter_start(r->vm->starter, &(struct starter_thread){
                .role = SANDBOX_JOB, .name = "recorder", .run = store_thread, .ctx = r,
        }, &r->thread);

        if (rc)
                return err_set(e, rc, "start a thread to store the working set");
        r->storing = true;
        r->done = done;
        r->done_ctx = ctx;
        return 0;
}

static uint64_t total(const struct recorder *r)
{
        uint64_t bytes = 0;

        for (size_t i = 0; i < r->n; i++)
                bytes += r->set[i].bytes;
        return bytes;
}

/* The thread has ended. */
static void take_result(struct recorder *r)
{
        r->storing = false;
        r->failed = r->rc < 0;
        if (r->failed) {
                fprintf(stderr, "vmm: %s\n", r->err.text);
        } else {
                r->stored = true;
                r->extents = r->n;
                r->bytes = total(r);
        }
        free(ptr_take(&r->set));
        r->n = 0;
}

static struct json_object *result_of(const struct recorder *r)
{
        struct json_object *o = json_object_new_object();

        json_put_str(o, "image", r->path);
        json_put_str(o, "tag", qs_image_info(r->vm->parent)->tag);
        json_put_u64(o, "extents", r->extents);
        json_put_u64(o, "bytes", r->bytes);
        return o;
}

void recorder_finish(struct recorder *r)
{
        if (!r->storing)
                return;
        pthread_join(r->thread, NULL);
        take_result(r);
        if (!r->done)
                return;

        AUTO_JSON *o = r->failed ? NULL : result_of(r);

        r->done(r->done_ctx, o, r->failed ? &r->err : NULL);
}

void recorder_end(struct recorder *r)
{
        if (!r)
                return;
        if (r->storing) {
                pthread_join(r->thread, NULL);
                take_result(r);
        }
        if (!r->stored && r->vm->started) {
                r->rc = store(r, &r->err);
                take_result(r);
        }
        if (r->timer)
                event_free(r->timer);
        free(r->path);
        free(r);
}

void recorder_describe(const struct recorder *r, struct json_object *o)
{
        struct json_object *record = json_object_new_object();

        json_put_bool(record, "stored", r->stored);
        if (r->stored) {
                json_put_u64(record, "extents", r->extents);
                json_put_u64(record, "bytes", r->bytes);
        }
        if (r->failed)
                json_put_str(record, "problem", r->err.text);
        json_object_object_add(o, "record", record);
}
