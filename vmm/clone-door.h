/* SPDX-License-Identifier: Apache-2.0 */
/* clone-door.h - how what a VM is cloned into gets to the client of its control socket.
 *
 * HTTP carries no descriptors, so the client listens at a socket of its own in the runtime
 * folder, NAME.clone, and says NAME; the VM connects there, and what it sends waits for the
 * client, which looks when the answer to its request has come. (Opening the client's in
 * /proc, or a VM's there, is refused to who is in a sandbox.)
 *
 * That the one who listens is the client is what the kernel says of both connections
 * (SO_PEERCRED), not what the client says.
 *
 * Ownership: in place. Threads: one at a time.
 */
#ifndef VMM_CLONE_DOOR_H
#define VMM_CLONE_DOOR_H

#include <stdbool.h>
#include <sys/types.h>

#include "common/err.h"
#include "vmm/clone-parts.h"

/* ---- the VM's side --------------------------------------------------------------- */

struct clone_door {
        int sock;                       /* a duplicate: the connection ends elsewhere */
        int to;                         /* where descriptors go; -1 = not connected */
        pid_t pid;                      /* of the client, as it is seen from here */
};

/* sock: of the request. -EPERM: it is another user's. */
int clone_door_open(int sock, struct clone_door *ret, struct err *e);
void clone_door_close(struct clone_door *d);
/* The client has hung up or has died. */
bool clone_door_gone(const struct clone_door *d);
/* name is untrusted. -EPERM: another than the client listens there. */
int clone_door_connect(struct clone_door *d, const char *name, struct err *e);
/* Connected. Does not wait for the client to take them. */
int clone_door_give(const struct clone_door *d, const struct clone_parts *parts, struct err *e);

/* ---- the client's ---------------------------------------------------------------- */

/* Before the request. */
int clone_door_listen(const char *name, int *ret_fd, struct err *e);
/* After the answer. -EBADMSG: nothing was sent, or something else. */
int clone_door_take(int fd, struct clone_parts *ret, struct err *e);
/* Nobody shall find it any more; closes fd. */
void clone_door_end(const char *name, int *fd);

#endif
