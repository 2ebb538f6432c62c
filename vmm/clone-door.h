/* SPDX-License-Identifier: Apache-2.0 */
/* clone-door.h - memfds and files that the client of a control socket lends to the VM.
 *
 * HTTP carries no descriptors, so the client names numbers of its own, and the VM opens
 * them in /proc of that very process. Which process that is, is what the kernel says of
 * the connection (SO_PEERCRED), not what the client says; and as the connection is still
 * there after its folder in /proc was opened, no other has got its number meanwhile.
 *
 * What is lent is checked here, once: a memfd, empty, without any seal; or an empty file
 * that has no name. So a file of somebody else's, a device or memory that others may change
 * under us is not written to; and what is neither is not even opened, which some things would
 * notice.
 *
 * Ownership: in place. Threads: one at a time.
 */
#ifndef VMM_CLONE_DOOR_H
#define VMM_CLONE_DOOR_H

#include <stdbool.h>

#include "common/err.h"

struct clone_door {
        int sock;                       /* a duplicate: the connection ends elsewhere */
        int process;                    /* /proc/PID of the client */
};

/* Opens no file of the client's. -EPERM: it is another user's. */
int clone_door_open(int sock, struct clone_door *ret, struct err *e);
void clone_door_close(struct clone_door *d);
/* The client has hung up or has died. */
bool clone_door_gone(const struct clone_door *d);
/* The client's descriptor `number`, opened anew: a memfd. */
int clone_door_borrow(const struct clone_door *d, int number, int *ret_fd, struct err *e);
/* The same: a file without a name. */
int clone_door_borrow_file(const struct clone_door *d, int number, int *ret_fd, struct err *e);

#endif
