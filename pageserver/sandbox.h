/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox.h - what a thread of the page server may still ask of the kernel.
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
 * Threads: each for itself; a thread inherits from the one that starts it.
 */
#ifndef PAGESERVER_SANDBOX_H
#define PAGESERVER_SANDBOX_H

#include "common/err.h"

enum sandbox {
        SANDBOX_NONE,                   /* as the program is that has a server within */
        SANDBOX_OFF,                    /* no capabilities, but all calls and files */
        SANDBOX_LOG,                    /* allows all; the kernel logs what ON would refuse */
        SANDBOX_ON,
};

enum sandbox_role {
        SANDBOX_WORKER,                 /* reads faults, fetches, installs */
        SANDBOX_MAIN,                   /* that, and clients come and go */
};

/* Cannot be undone. Capabilities go in any case but NONE. */
int sandbox_enter(enum sandbox_role role, enum sandbox sandbox, struct err *e);

/* What is lost on this host or with this build, as a sentence; NULL = nothing */
const char *sandbox_lacks(void);

#endif
