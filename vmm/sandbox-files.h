/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox-files.h - which files the threads of a VM may still name: Landlock, by role.
 *
 *   vCPUs, devices, disks, guards, copies     none: they work on descriptors
 *   event loop and jobs                       execute nothing; confined, see confine.h, they
 *                                             make, write and read beneath those folders, and
 *                                             of the rest what the VM needs
 *   pagers                                    execute what lies beside the page server's
 *                                             program; confined, read what that needs to run,
 *                                             and write nothing
 *   starters, who build VMs                   execute the same; once the VM is there, as loop
 *                                             and jobs
 *
 * None of them listens or connects by TCP, and none traces another process or opens what is
 * in its /proc/PID/fd: it has no descriptors but its own and those that it is sent.
 *
 * Rules are for folders where the file may be replaced while the VM runs: an upgrade brings
 * another page server and another ld.so of the same name.
 *
 * Ownership: sandbox_files_free(); confine is borrowed.
 * Threads:   constant once settled, before which only what the loop and jobs may is not
 *            there yet: they name nothing then. Entering concerns the calling thread.
 */
#ifndef VMM_SANDBOX_FILES_H
#define VMM_SANDBOX_FILES_H

#include "common/err.h"
#include "vmm/sandbox.h"

struct confine;
struct sandbox_files;
struct vm;

int sandbox_files_new(struct sandbox_files **ret, struct err *e);
void sandbox_files_free(struct sandbox_files *f);

/* Without this, with NULL or without a folder: wherever the user may. Before a pager enters. */
void sandbox_files_confine(struct sandbox_files *f, const struct confine *confine);

/* What this VM needs, as it was built; before the event loop enters. Once. */
int sandbox_files_settle(struct sandbox_files *f, const struct vm *vm, struct err *e);

/* Cannot be undone. Asks for no_new_privs. */
int sandbox_files_enter(const struct sandbox_files *f, enum sandbox_role role, struct err *e);

/* What is lost on this host or with this build, as a sentence; NULL = nothing */
const char *sandbox_files_lack(void);

#endif
