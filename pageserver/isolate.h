/* SPDX-License-Identifier: Apache-2.0 */
/* isolate.h - the process of a page server gives up what it does not need.
 *
 * It needs no privilege to serve: userfaultfds, images and caches come as open
 * descriptors, and neither pidfd_open nor an ioctl on another's userfaultfd asks for a
 * capability. So the first thing it does is isolate_process(): another user if asked
 * for, no new privileges, nothing that others of its user could trace or open. Where it
 * stays root it has its capabilities until its sockets and images are open, for root's
 * alone would not do in other users' folders; then each thread gives them up. What a
 * program that it runs could regain goes at once, unless it is there to run one.
 *
 * INV-READONLY rests on the last: clients are often processes of the server's own user,
 * and would reach the writable cache through /proc/PID/fd or by ptrace. A process that
 * cannot be dumped belongs to root there.
 *
 * Threads: isolate_process() and isolate_bounds() before any other thread is started, for
 *          what they give up is a thread's own; isolate_thread() each for itself.
 */
#ifndef PAGESERVER_ISOLATE_H
#define PAGESERVER_ISOLATE_H

#include <sys/types.h>

#include "common/err.h"

struct account {
        uid_t uid;                      /* (uid_t)-1 = stay who we are */
        gid_t gid;
};

#define ACCOUNT_OWN ((struct account){ .uid = (uid_t)-1, .gid = (gid_t)-1 })

/* USER[:GROUP], each a name or a number. A user without an entry in the system's list
 * needs a group. -EINVAL */
int account_parse(const char *text, struct account *ret, struct err *e);

/* Cannot be undone. Supplementary groups are given up with the user. -EPERM when the
 * account is another's and the process is not root's. */
int isolate_process(const struct account *account, struct err *e);

/* The capabilities that an exec could bring; keeps those it has. Only who has CAP_SETPCAP
 * can, and who has not gains nothing because of no_new_privs. */
void isolate_bounds(void);

/* all capabilities */
int isolate_thread(struct err *e);

#endif
