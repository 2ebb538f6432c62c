/* SPDX-License-Identifier: Apache-2.0 */
/* saves by request: how far they are, and their end before the end */
#include <errno.h>
#include <event2/event.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "vmm/control-priv.h"
#include "vmm/vm.h"

/* how often a save is shown: ten times a second */
static const struct timeval tick_interval = { .tv_usec = 100000 };

static void on_tick(evutil_socket_t fd, short what, void *ctx)
{
        struct control *c = ctx;
        AUTO_JSON *o = json_object_new_object();

        (void)fd;
        (void)what;
        if (save_describe(c->vm, o))
                pending_tell(&c->save, o);
}

static void start_ticking(struct control *c)
{
        c->tick = event_new(c->vm->base, -1, EV_PERSIST, on_tick, c);
        /* without memory for it only the result is told */
        if (c->tick)
                event_add(c->tick, &tick_interval);
}

static void stop_ticking(struct control *c)
{
        if (c->tick)
                event_free(ptr_take(&c->tick));
}

/* To who has asked for the end of a save: it is over, and was it before its time? */
static void answer_cancel(struct control *c, struct json_object *result)
{
        AUTO_JSON *done = json_object_new_object();
        struct err late;

        if (!result) {
                pending_answer(&c->cancel, done, NULL);
                return;
        }
        err_msg(&late, EBUSY, "the save of VM '%s' was complete before it could be cancelled",
                c->vm->name);
        pending_answer(&c->cancel, NULL, &late);
}

static void on_saved(void *ctx, struct json_object *result, const struct err *e)
{
        struct control *c = ctx;

        stop_ticking(c);
        pending_answer(&c->save, result, e);
        answer_cancel(c, result);
}

static void on_client_gone(struct control *c)
{
        (void)save_cancel(c->vm, NULL, NULL);
}

void control_save(struct request *r)
{
        struct control *c = r->control;
        struct save_request save;
        struct err e;
        int rc = control_parse_save(r->body, r->body_bytes, &save, &e);

        if (rc == 0)
                rc = save_start(c->vm, &save, on_saved, c, &e);
        if (rc < 0) {
                control_reply_result(c, r->http, rc, &e);
        } else if (save.progress) {
                pending_wait_in_parts(&c->save, r->http, on_client_gone);
                start_ticking(c);
        } else {
                pending_wait(&c->save, r->http, on_client_gone);
        }
}

void control_cancel_save(struct request *r, const char *path)
{
        struct control *c = r->control;
        struct err e;
        int rc = save_cancel(c->vm, path, &e);

        if (rc == 0 && c->cancel.http)
                rc = err_msg(&e, EBUSY, "the save of VM '%s' is being cancelled already",
                             c->vm->name);
        if (rc < 0)
                control_reply_result(c, r->http, rc, &e);
        else
                pending_wait(&c->cancel, r->http, NULL);
}

void control_save_fini(struct control *c)
{
        stop_ticking(c);
        pending_drop(&c->save);
        pending_drop(&c->cancel);
}
