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
 * thread has another role than its work needs.
 *
 * A call that is not on the list fails with ENOSYS, as on an older kernel; those that
 * only an intruder makes kill the process. The lists are in sandbox-calls-ROLE.c.
 *
 * Threads: a sandbox is constant once made; entering concerns the calling thread. A thread
 * inherits what its starter has entered and can only narrow it, so the event loop's is the
 * widest, and who starts programs (sandbox_role SANDBOX_STARTER) is started before it.
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
        SANDBOX_JOB,                    /* save, clone, rollback, load: makes files */
        SANDBOX_LOOP,                   /* the event loop: control socket, console */
        SANDBOX_STARTER,                /* starts page servers, and sees them end */
};

struct sandbox;

/* In the process whose threads enter it. */
int sandbox_new(enum sandbox_mode mode, struct sandbox **ret, struct err *e);
void sandbox_free(struct sandbox *sandbox);

/* Cannot be undone. NULL: does nothing, as in programs that have no VM (tests). */
int sandbox_enter(const struct sandbox *sandbox, enum sandbox_role role, struct err *e);

/* What is lost on this host or with this build, as a sentence; NULL = nothing */
const char *sandbox_lacks(void);

#endif
