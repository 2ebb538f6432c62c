/* SPDX-License-Identifier: Apache-2.0 */
/* rundir.h - the folder where running VMs are found by name.
 *
 * $VMM_RUNTIME_DIR, else $XDG_RUNTIME_DIR/vmm, else /run/vmm; mode 0700. A VM
 * is three files in it:
 *   NAME.lock     locked for the life of the VM's process (INV-NAME:
 *                 whoever holds it is the one VM of that name); holds its pid
 *   NAME.sock     HTTP control socket
 *   NAME.console  the serial line as a stream socket
 * A lock that nobody holds is a leftover and may be taken over.
 */
#ifndef VMM_RUNDIR_H
#define VMM_RUNDIR_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/un.h>

#include "common/err.h"

#define VM_NAME_MAX 48
/* serve.sock in the folder is of `vmm serve`: no VM has that name. */
#define RUNDIR_SERVE "serve"

/* Letters, digits, '.', '_', '-', not first, and not RUNDIR_SERVE; -EINVAL with a sentence */
int rundir_check_name(const char *name, struct err *e);

/* A path in the folder: rundir_path(p, "vm1", "sock", e). Fails when it would
 * not fit a socket address. */
struct rundir_path {
        char text[sizeof(((struct sockaddr_un *)0)->sun_path)];
};
int rundir_path(struct rundir_path *ret, const char *name, const char *suffix, struct err *e);

/* The folder, if it is not there yet. */
int rundir_make(struct err *e);

/* Takes the name: makes the folder if need be, locks NAME.lock, removes stale
 * sockets. -EEXIST when a VM of that name runs. The descriptor is the lock. */
int rundir_claim(const char *name, int *ret_fd, struct err *e);
/* Removes the three files; the caller closes the lock afterwards. */
void rundir_release(const char *name);

/* Whether a process holds the name; -ENOENT with a sentence when none does, others when that
 * cannot be found out. */
int rundir_find(const char *name, struct err *e);

/* The process that holds the name; -ENOENT as above. It may be another a moment later. */
int rundir_pid(const char *name, pid_t *ret, struct err *e);

/* To learn when a VM has ended: watch before it is told to, then wait until its
 * name is free. Waits for ever where it does not end. */
int rundir_watch(const char *name, int *ret_fd, struct err *e);
void rundir_wait_free(int fd);

/* Calls visit for every running VM in order of name; stops when it returns non-zero, or when it
 * cannot be told of one whether it runs. */
int rundir_each(int (*visit)(void *ctx, const char *name), void *ctx, struct err *e);

#endif
