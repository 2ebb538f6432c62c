/* SPDX-License-Identifier: Apache-2.0 */
/* launch.h - from a command line to a VM in its own process.
 *
 * The command forks; the child takes the VM's name, builds the VM, lets it run
 * and reports through a pipe; the parent prints what it is told and ends. With
 * `foreground` there is no fork: the VM runs right here, console on the terminal.
 */
#ifndef VMM_LAUNCH_H
#define VMM_LAUNCH_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "vmm/rundir.h"
#include "vmm/sandbox.h"
#include "vmm/vm.h"

struct confine;
struct starter;

struct launch_options {
        char name[VM_NAME_MAX + 1];
        const char *console_file;       /* NULL = none */
        bool foreground;
        bool paused;
        bool wait_resident;             /* a second report, once nothing is missing */
        bool trace;                     /* phases on standard error; no other path */
        uint64_t start_ns;              /* clock_now_ns() at the start of the command */
        uint64_t order_ns;              /* vm_phases; 0 = nobody waited */
        struct prepared *prepared;      /* taken; NULL = nothing is */
        enum sandbox_mode sandbox;
        const struct confine *confine;  /* borrowed; NULL = wherever its user may */
        struct starter *starter;        /* taken; NULL: made, for `sandbox` */
};

/* Builds RAM, KVM and state into vm (initialised, no machine yet) up to
 * vm_add_machine(). Runs in the VM's process. */
typedef int launch_build_fn(struct vm *vm, void *ctx, struct err *e);

/* The whole life of the VM in this process. What it says of itself, or why there is none,
 * goes to report_fd, a line of JSON each; taken, -1 = nobody listens. Signals that a VM does
 * not die of are ignored from here on. */
int launch_here(const struct launch_options *options, int report_fd, launch_build_fn *build,
                void *ctx, struct err *e);

/* The VM has been built: the thread of its loop, which calls this, and its starter give up
 * what they do not need any more. */
int launch_settle(struct vm *vm, struct err *e);

/* 0 once the VM runs (or, in the foreground, has ended). *ret_report is what
 * the VM said of itself, the caller puts it; NULL in the foreground. */
int launch(const struct launch_options *options, launch_build_fn *build, void *ctx,
           struct json_object **ret_report, struct err *e);

#endif
