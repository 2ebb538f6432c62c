/* SPDX-License-Identifier: Apache-2.0 */
/* DELETE /vms/{name}: answers when the VM's process is gone, and its name free */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/json.h"
#include "vmm/serve/server-priv.h"
#include "vmm/serve/vmcall.h"

#define ANSWER_SECONDS 5
/* The kernel takes its time to free a large guest's memory. */
#define END_SECONDS 30
#define STOP "{\"action_type\":\"Stop\"}"

struct ending {
        struct errand errand;
        struct exchange *exchange;
        struct vmcall *call;
        struct event *gone;             /* the process */
        int pidfd;
        char name[VM_NAME_MAX + 1];
};

static void ending_free(struct ending *d)
{
        errand_end(&d->errand);
        vmcall_free(d->call);
        if (d->gone)
                event_free(d->gone);
        fd_close(&d->pidfd);
        free(d);
}

static void drop(struct errand *e)
{
        struct ending *d = (struct ending *)e;

        exchange_drop(d->exchange);
        ending_free(d);
}

static void on_gone(evutil_socket_t fd, short what, void *ctx)
{
        struct ending *d = ctx;
        AUTO_JSON *o = json_object_new_object();

        (void)fd;
        json_put_str(o, "name", d->name);
        if (what & EV_TIMEOUT)
                exchange_refuse(d->exchange, 504, "VM '%s' was told to end, and has not ended in "
                                "%d seconds", d->name, END_SECONDS);
        else
                exchange_reply(d->exchange, 200, o);
        ending_free(d);
}

static void on_told(void *ctx, int status, struct json_object *o, const struct err *e)
{
        const struct timeval patience = { .tv_sec = END_SECONDS };
        struct ending *d = ctx;

        vmcall_free(ptr_take(&d->call));
        if (status == 200 && event_add(d->gone, &patience) == 0)
                return;
        if (status && status != 200)
                exchange_reply(d->exchange, status, o);
        else if (status || rundir_find(d->name, NULL) != -ENOENT)
                exchange_refuse(d->exchange, 500, "VM '%s' cannot be told to end: %s", d->name,
                                e ? e->text : "no memory");
        else
                exchange_refuse(d->exchange, 404, "no VM named '%s' is running", d->name);
        ending_free(d);
}

/* The number is that of the VM's process as long as that holds the name: so first the
 * pidfd, then the name's holder once more. */
static int open_pidfd(const char *name, int *ret_fd, struct err *e)
{
        pid_t pid, again;
        int rc = rundir_pid(name, &pid, e);

        if (rc < 0)
                return rc;

        AUTO_FD fd = (int)syscall(SYS_pidfd_open, pid, 0);

        if (fd < 0)
                return err_set(e, errno, "watch the process of VM '%s'", name);
        rc = rundir_pid(name, &again, e);
        if (rc == 0 && pid != again)
                rc = err_msg(e, EBUSY, "VM '%s' has just been replaced by another", name);
        if (rc == 0)
                *ret_fd = fd_take(&fd);
        return rc;
}

static int start(struct server *s, struct ending *d, struct err *e)
{
        const struct vmcall_options o = {
                .base = s->base, .name = d->name, .method = "PUT", .path = "/actions",
                .body = STOP, .seconds = ANSWER_SECONDS, .done = on_told, .ctx = d,
        };
        int rc = open_pidfd(d->name, &d->pidfd, e);

        if (rc < 0)
                return rc;
        d->gone = event_new(s->base, d->pidfd, EV_READ, on_gone, d);
        if (!d->gone)
                return err_msg(e, ENOMEM, "no memory for events");
        return vmcall_new(&o, &d->call, e);
}

void serve_delete(struct server *s, struct exchange *x, const char *name)
{
        struct ending *d = calloc(1, sizeof(*d));
        struct err e;
        int rc = d ? 0 : err_msg(&e, ENOMEM, "no memory to end VM '%s'", name);

        if (rc == 0) {
                *d = (struct ending){ .exchange = x, .pidfd = -1 };
                strcpy(d->name, name);
                errand_begin(s, &d->errand, drop);
                rc = start(s, d, &e);
        }
        if (rc == 0) {
                exchange_hold(x, NULL, NULL);
                return;
        }
        if (rc == -ENOENT)
                e.code = -ESRCH;        /* 404 */
        exchange_fail(x, &e);
        if (d)
                ending_free(d);
}
