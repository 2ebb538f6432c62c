/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox.h - what the threads of a VM may still ask of the kernel.
 *
 * A thread that enters makes only the system calls of its role from then on (seccomp,
 * where the program was built with libseccomp), and opens only the files that its role
 * may (Landlock, where the kernel has it: sandbox-files.h). The threads that look at
 * what a guest wrote (vCPUs, devices, disk workers, guards) open nothing by name and
 * start nothing; they work on descriptors.
 *
 * INV-ROLE: no byte of a guest's is looked at by a thread that has not entered, and no
 * thread has another role than its work needs. Threads that only make things before
 * there is a guest (KVM's part of a VM, a pool's) need not enter, and end before it runs;
 * nor does what reads an image and builds a VM out of it, which then enters.
 *
 * A call that is not on the list fails with ENOSYS, as on an older kernel; those that
 * only an intruder makes kill the process. The lists are in sandbox-calls-*.c.
 *
 * Threads: a sandbox is constant once made; entering concerns the calling thread. A thread
 * inherits what its starter has entered and can only narrow it. So whoever has entered
 * starts none: starter.h does it, in SANDBOX_STARTER, which is the widest. A process that
 * waits, empty, to be told what to load has its loop in that too, until it is a VM.
 */
#ifndef VMM_SANDBOX_H
#define VMM_SANDBOX_H

#include "common/err.h"

enum sandbox_mode {
        SANDBOX_OFF,
        SANDBOX_LOG,                    /* allows all; the kernel logs what ON would refuse */
        SANDBOX_ON,
};

enum sandbox_role {
        SANDBOX_VCPU,                   /* KVM_RUN and what its exits reach */
        SANDBOX_DEVICE,                 /* virtio queues, taps, vsock's connections */
        SANDBOX_DISK,                   /* reads, writes and flushes disks that are open */
        SANDBOX_GUARD,                  /* userfaultfd: sets pages aside, lends them */
        SANDBOX_COPY,                   /* crews that scan, copy and compress RAM */
        SANDBOX_JOB,                    /* save, clone, rollback: makes files */
        SANDBOX_LOOP,                   /* the event loop: control socket, console */
        SANDBOX_STARTER,                /* starts threads and page servers, builds VMs */
        SANDBOX_PAGER,                  /* starts page servers, and sees them end */
};

struct confine;
struct sandbox;
struct vm;

/* "on", "off", "log" */
int sandbox_mode_parse(const char *text, enum sandbox_mode *ret, struct err *e);
const char *sandbox_mode_name(enum sandbox_mode mode);

/* In the process whose threads enter it. */
int sandbox_new(enum sandbox_mode mode, struct sandbox **ret, struct err *e);
void sandbox_free(struct sandbox *sandbox);

/* Files only beneath these folders (borrowed), and what the VM needs: confine.h. Before a
 * pager enters. */
void sandbox_confine(struct sandbox *sandbox, const struct confine *confine);
/* The VM has been built: which files it needs is known. Once, before the loop enters. */
int sandbox_settle(struct sandbox *sandbox, const struct vm *vm, struct err *e);
/* The starter, then: of files and privileges it has what a job has, no more. */
int sandbox_narrow(const struct sandbox *sandbox, struct err *e);

/* Cannot be undone. NULL: does nothing, as in programs that have no VM (tests). */
int sandbox_enter(const struct sandbox *sandbox, enum sandbox_role role, struct err *e);

/* What is lost on this host or with this build, as a sentence; NULL = nothing */
const char *sandbox_lacks(void);

#endif
