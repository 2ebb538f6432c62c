/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/control-kit.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/clock.h"
#include "common/io.h"
#include "common/json.h"
#include "tests/unit/suite.h"
#include "vmm/control.h"
#include "vmm/unixsock.h"

#define PATIENCE_NS (10 * NS_PER_SEC)

static char path[] = "/tmp/snapback-control.XXXXXX";

/* ---- the save ----------------------------------------------------------- */

int save_start(struct vm *vm, const struct save_request *request, save_done_fn *done, void *ctx,
               struct err *e)
{
        (void)request;
        if (vm->save)
                return err_msg(e, EBUSY, "busy");
        vm->save = calloc(1, sizeof(*vm->save));
        *vm->save = (struct save){ .done = done, .ctx = ctx };
        return 0;
}

int save_cancel(struct vm *vm, const char *to, struct err *e)
{
        if (!vm->save || (to && strcmp(to, "/a")))
                return err_msg(e, ENODATA, "no such save");
        vm->save->cancelled++;
        return 0;
}

bool save_describe(const struct vm *vm, struct json_object *o)
{
        if (vm->save)
                json_put_u64(o, "done", 1);
        return vm->save;
}

void save_ends(struct vm *vm, const char *result)
{
        struct save *s = vm->save;
        AUTO_JSON *o = result ? json_object_new_object() : NULL;
        struct err e;

        err_msg(&e, ECANCELED, "ended early");
        if (result)
                json_put_str(o, "image", result);
        vm->save = NULL;
        s->done(s->ctx, o, o ? NULL : &e);
        free(s);
}

void save_finish(struct vm *vm)
{
        (void)vm;
}

void save_abort(struct vm *vm)
{
        free(ptr_take(&vm->save));
}

/* ---- the VM and its clients --------------------------------------------- */

void vm_begin(struct vm *vm)
{
        struct err e;

        memset(vm, 0, sizeof(*vm));
        vm->name = "vm1";
        vm->base = event_base_new();
        unlink(path);
        CU_ASSERT_EQUAL_FATAL(control_new(vm, path, &vm->control, &e), 0);
}

void vm_end(struct vm *vm)
{
        save_abort(vm);
        control_free(vm->control);
        event_base_free(vm->base);
}

void come(struct client *c)
{
        memset(c, 0, sizeof(*c));
        CU_ASSERT_EQUAL_FATAL(unixsock_connect(path, SOCK_STREAM, &c->sock, NULL), 0);
}

void ask(struct client *c, const char *method, const char *where, const char *body)
{
        char text[512];

        come(c);
        snprintf(text, sizeof(text), "%s %s HTTP/1.1\r\nContent-Length: %zu\r\n\r\n%s", method,
                 where, strlen(body), body);
        CU_ASSERT_EQUAL(io_write_full(c->sock, text, strlen(text)), 0);
}

void hang_up(struct client *c)
{
        fd_close(&c->sock);
}

void take(struct client *c)
{
        ssize_t n = recv(c->sock, c->said + c->bytes, sizeof(c->said) - c->bytes - 1,
                         MSG_DONTWAIT);

        c->closed |= n == 0;
        c->bytes += n > 0 ? (size_t)n : 0;
        c->said[c->bytes] = '\0';
}

bool hears(struct vm *vm, struct client *c, const char *text)
{
        uint64_t end_ns = clock_now_ns() + PATIENCE_NS;

        while (!strstr(c->said, text) && clock_now_ns() < end_ns) {
                event_base_loop(vm->base, EVLOOP_NONBLOCK);
                take(c);
        }
        return strstr(c->said, text);
}

bool sees_the_end(struct vm *vm, struct client *c, unsigned seconds)
{
        uint64_t end_ns = clock_now_ns() + seconds * NS_PER_SEC;

        while (!c->closed && clock_now_ns() < end_ns) {
                event_base_loop(vm->base, EVLOOP_NONBLOCK);
                take(c);
        }
        return c->closed;
}

bool turns_until_saving(struct vm *vm)
{
        uint64_t end_ns = clock_now_ns() + PATIENCE_NS;

        while (!vm->save && clock_now_ns() < end_ns)
                event_base_loop(vm->base, EVLOOP_NONBLOCK);
        return vm->save;
}

bool turns_until_cancelled(struct vm *vm)
{
        uint64_t end_ns = clock_now_ns() + PATIENCE_NS;

        while (!vm->save->cancelled && clock_now_ns() < end_ns)
                event_base_loop(vm->base, EVLOOP_NONBLOCK);
        return vm->save->cancelled;
}

void turn(struct vm *vm, unsigned times)
{
        while (times--)
                event_base_loop(vm->base, EVLOOP_NONBLOCK);
}

int control_kit_main(const char *name, const CU_TestInfo *cases)
{
        int fd = mkstemp(path);

        if (fd < 0)
                return 1;
        close(fd);
        signal(SIGPIPE, SIG_IGN);

        int status = suite_main(name, cases);

        unlink(path);
        return status;
}
