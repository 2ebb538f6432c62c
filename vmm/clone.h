/* SPDX-License-Identifier: Apache-2.0 */
/* clone.h - a running VM hands out what it is: RAM and state into two memfds, and each disk
 * that the guest may write into a file without a name, of which others make VMs
 * (clone-build.h). The guest goes on.
 *
 * Threads: the event loop's.
 */
#ifndef VMM_CLONE_H
#define VMM_CLONE_H

#include <json-c/json.h>
#include <stddef.h>

#include "common/err.h"
#include "vmm/machine-config.h"

struct clone;
struct vm;

/* All are numbers of the client's. */
struct clone_request {
        int ram_fd;
        int state_fd;
        unsigned ndisks;
        struct clone_lent_disk {
                char id[MACHINE_ID_MAX + 1];
                int fd;
        } disk[MACHINE_DISKS_MAX];
};

/* Done once, on the event loop: result (borrowed) or the error. */
typedef void clone_done_fn(void *ctx, struct json_object *result, const struct err *e);

/* The body of PUT /clone; text is untrusted. */
int clone_request_parse(const char *text, size_t bytes, struct clone_request *ret,
                        struct err *e);
/* Starts it for the client behind sock, which lends all of that (clone-door.h); the rest
 * happens on a thread, which posts VM_POST_CLONE. It is cancelled when the client goes. */
int clone_start(struct vm *vm, int sock, const struct clone_request *request,
                clone_done_fn *done, void *ctx, struct err *e);
/* On VM_POST_CLONE: joins, tells done(). */
void clone_finish(struct vm *vm);
/* Cancels and joins; done() is not called. */
void clone_abort(struct vm *vm);

#endif
