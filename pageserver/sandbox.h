/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox.h - what the threads of a page server may still ask of the kernel.
 *
 * A thread that enters can open no file by name any more (Landlock, where the kernel
 * has it) and make only the system calls of its role (seccomp, where the program was
 * built with libseccomp). It works on descriptors: those that it has, and those that
 * clients send.
 *
 * A call that is not on the list fails with ENOSYS, as on an older kernel: a newer libc
 * that tries something we do not know falls back, as it does there. (glibc 2.31 opens a
 * file in /sys to count processors when a thread first allocates.) Only calls that no
 * libc makes by itself, and that an intruder wants first, kill the process; its clients
 * block then, which they survive (INV-HELD).
 *
 * INV-CONFINED: no byte of a client's is looked at by a thread that has not entered.
 *
 * All that is the same for each thread is made once, by ps_sandbox_new(); entering is a few
 * system calls. Threads that are started before the main one enters do so each for itself,
 * all at once. One that is started later has inherited the main thread's: it can only
 * narrow it, at any time.
 *
 * Threads: a sandbox is constant once made; entering concerns the calling thread.
 */
#ifndef PAGESERVER_SANDBOX_H
#define PAGESERVER_SANDBOX_H

#include "common/err.h"

enum sandbox_mode {
        SANDBOX_NONE,                   /* as the program is that has a server within */
        SANDBOX_OFF,                    /* no capabilities, but all calls and files */
        SANDBOX_LOG,                    /* allows all; the kernel logs what ON would refuse */
        SANDBOX_ON,
};

enum sandbox_role {
        SANDBOX_WORKER,                 /* reads faults, fetches, installs */
        SANDBOX_MAIN,                   /* that, and clients come and go */
};

struct sandbox;

/* In the process whose threads enter it, not before a fork. */
int ps_sandbox_new(enum sandbox_mode mode, struct sandbox **ret, struct err *e);
void ps_sandbox_free(struct sandbox *sandbox);

/* Cannot be undone. Capabilities go in any case but NONE. */
int ps_sandbox_enter(const struct sandbox *sandbox, enum sandbox_role role, struct err *e);

/* The same for a worker whose starter has entered as SANDBOX_MAIN: what it has inherited
 * shrinks to what a worker may. */
int ps_sandbox_narrow(const struct sandbox *sandbox, struct err *e);

/* What is lost on this host or with this build, as a sentence; NULL = nothing */
const char *ps_sandbox_lacks(void);

#endif
