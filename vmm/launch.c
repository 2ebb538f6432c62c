/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "common/json.h"
#include "vmm/confine.h"
#include "vmm/prepared.h"
#include "vmm/privileges.h"
#include "vmm/starter.h"
#include "vmm/trace.h"

#define REPORT_BYTES_MAX (1u << 20)

static void report_failure(struct vm *vm, const struct err *e)
{
        AUTO_JSON *o = json_object_new_object();

        json_put_str(o, "error", e->text);
        json_put_u64(o, "errno", (uint64_t)-e->code);
        vm_report(vm, o, true);
}

static int build_and_start(struct vm *vm, const struct launch_options *o, launch_build_fn *build,
                           void *ctx, struct err *e)
{
        int rc = vm_init(vm, o->name, o->console_file, o->foreground, e);

        if (rc == 0)
                rc = build(vm, ctx, e);
        if (rc < 0 || vm->state == VM_EMPTY)
                return rc;
        return vm_started(vm, o->paused, e);
}

int launch_settle(struct vm *vm, struct err *e)
{
        /* soon after the page server, before anybody changes a parent; whoever needs it and
         * finds that it failed tries again, and says why */
        if (vm->parent)
                (void)qs_image_settle(vm->parent, NULL);

        int rc = starter_settle(vm->starter, vm, e);

        return rc == 0 ? starter_enter(vm->starter, SANDBOX_LOOP, e) : rc;
}

/* Only now: the guest did not wait for it. */
static void enter_loop(struct vm *vm)
{
        struct err e;
        int rc = vm->state == VM_EMPTY ? starter_enter(vm->starter, SANDBOX_STARTER, &e)
                                       : launch_settle(vm, &e);

        if (rc < 0)
                vm_give_up(vm, e.text);
}

static int claim(struct vm *vm, const struct launch_options *o, int *ret_lock, struct err *e)
{
        int rc = privileges_limit(e);

        if (rc == 0 && !o->starter)     /* else by who had that made */
                rc = confine_can_be(vm->confine, o->sandbox, e);
        if (rc == 0)
                rc = rundir_claim(o->name, ret_lock, e);
        if (rc == 0 && !vm->starter)
                rc = starter_new(o->sandbox, &vm->starter, e);
        if (rc == 0)
                starter_confine(vm->starter, vm->confine);
        return rc;
}

/* The whole life of the VM, in its own process. */
static int live(const struct launch_options *o, int report_fd, launch_build_fn *build, void *ctx,
                struct err *e)
{
        struct vm vm = {
                .kvm = { .dev_fd = -1, .vm_fd = -1 }, .flat_fd = -1, .wake_fd = -1,
                .report_fd = report_fd, .want_resident_report = o->wait_resident,
                .prepared = o->prepared,
                .starter = o->starter,
                .confine = o->confine && o->confine->n ? o->confine : NULL,
                .phases = { .start_ns = o->start_ns, .order_ns = o->order_ns },
        };
        AUTO_FD lock = -1;
        int rc = claim(&vm, o, &lock, e);

        if (rc < 0) {
                prepared_free(vm.prepared);
                starter_free(vm.starter);
                report_failure(&vm, e);
                return rc;
        }
        rc = build_and_start(&vm, o, build, ctx, e);
        if (rc == 0) {
                AUTO_JSON *report = vm_describe(&vm);
                bool more = o->wait_resident && vm.pager;

                if (o->trace && o->foreground)
                        trace_print(stderr, report);
                vm_report(&vm, report, !more);
                /* what was prepared in vain: nobody waits for its end */
                if (vm.state != VM_EMPTY)
                        prepared_free(ptr_take(&vm.prepared));
                enter_loop(&vm);
                vm_loop(&vm);
        } else {
                vm.report_fd = -1;      /* told below, when the name is free again */
        }
        vm_fini(&vm);
        rundir_release(o->name);
        if (rc < 0) {
                vm.report_fd = report_fd;
                report_failure(&vm, e);
        }
        return rc;
}

/* Nothing of the caller's terminal is kept: the command has to be able to end,
 * and its readers to see the end of its output. What goes wrong later is told
 * by `vmm info`. */
static void detach(void)
{
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);

        setsid();
        for (int fd = STDIN_FILENO; null >= 0 && fd <= STDERR_FILENO; fd++)
                dup2(null, fd);
        fd_close(&null);
}

static int child(const struct launch_options *o, int report_fd, launch_build_fn *build, void *ctx)
{
        struct err e = { 0 };

        detach();
        return live(o, report_fd, build, ctx, &e) < 0 ? 1 : 0;
}

/* The last line wins field by field: the second report adds to the first. */
static int merge_line(const char *line, size_t bytes, struct json_object **all, struct err *e)
{
        AUTO_JSON *o = NULL;
        const char *why;
        int rc = json_parse(line, bytes, &o, e);

        if (rc < 0)
                return rc;
        if (json_take_str(o, "error", &why, NULL) == 0)
                return err_msg(e, EIO, "%s", why);
        if (!*all)
                *all = json_object_new_object();
        json_object_object_foreach(o, key, value) {
                json_object_object_add(*all, key, json_object_get(value));
        }
        return 0;
}

static int collect(int fd, const char *name, struct json_object **ret, struct err *e)
{
        AUTO_FREE char *text = NULL;
        AUTO_JSON *all = NULL;
        size_t bytes;
        int rc = io_read_all(fd, REPORT_BYTES_MAX, &text, &bytes);

        if (rc < 0)
                return err_set(e, -rc, "read what VM '%s' reports", name);
        for (char *line = text; *line; ) {
                char *end = strchrnul(line, '\n');

                rc = merge_line(line, (size_t)(end - line), &all, e);
                if (rc < 0)
                        return rc;
                line = *end ? end + 1 : end;
        }
        if (!all)
                return err_msg(e, EIO, "the process of VM '%s' died before its guest ran", name);
        *ret = all;
        all = NULL;
        return 0;
}

static void ignore_signals(void)
{
        signal(SIGPIPE, SIG_IGN);
        signal(SIGHUP, SIG_IGN);
        signal(SIGXFSZ, SIG_IGN);       /* a file that may not be larger: an error of write() */
}

int launch_here(const struct launch_options *options, int report_fd, launch_build_fn *build,
                void *ctx, struct err *e)
{
        ignore_signals();
        return live(options, report_fd, build, ctx, e);
}

int launch(const struct launch_options *options, launch_build_fn *build, void *ctx,
           struct json_object **ret_report, struct err *e)
{
        int pipe_fds[2];

        *ret_report = NULL;
        ignore_signals();
        if (options->foreground)
                return live(options, -1, build, ctx, e);
        if (pipe2(pipe_fds, O_CLOEXEC) < 0)
                return err_set(e, errno, "create a pipe");

        AUTO_FD from_child = pipe_fds[0];
        AUTO_FD to_parent = pipe_fds[1];
        pid_t pid = fork();

        if (pid < 0)
                return err_set(e, errno, "start a process for VM '%s'", options->name);
        if (pid == 0) {
                fd_close(&from_child);
                /* no exit handlers: they belong to the command, not to the VM */
                _exit(child(options, fd_take(&to_parent), build, ctx));
        }
        fd_close(&to_parent);

        int rc = collect(from_child, options->name, ret_report, e);

        if (rc == 0 && options->trace)
                trace_print(stderr, *ret_report);
        return rc;
}
