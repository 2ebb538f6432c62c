/* SPDX-License-Identifier: Apache-2.0 */
/* restore.h - a VM that is built out of what another one was: the steps, in the one right
 * order, that it takes wherever state and RAM come from.
 *
 * Threads: the one that builds the VM; it starts another for KVM's part.
 */
#ifndef VMM_RESTORE_H
#define VMM_RESTORE_H

#include <json-c/json.h>
#include <stddef.h>

#include "common/err.h"
#include "vmm/meta.h"

struct disk_files;
struct kvm;
struct machine_state;
struct vm;

/* What is read before there is a VM to be made of it. */
struct restore_docs {
        struct json_object *kvm, *devices;
        struct machine_state *state;    /* NULL = not parsed yet */
};
void restore_docs_fini(struct restore_docs *docs);

/* Where it comes from. */
struct restore {
        const char *from;               /* for sentences: a file, or a VM */
        const struct meta *meta;
        const struct disk_files *disk_files;    /* of its disks; NULL = by their paths */
        /* A section's bytes, heap, the caller's to free. */
        int (*section)(void *ctx, const char *name, void **ret_data, size_t *ret_bytes,
                       struct err *e);
        /* Whatever takes time and needs no RAM yet. NULL = nothing. */
        int (*prepare)(void *ctx, struct vm *vm, struct err *e);
        /* RAM has its place: maps it there and sees to it that the right bytes are seen. */
        int (*bring_ram)(void *ctx, struct vm *vm, struct err *e);
        void *ctx;
        /* What restore_read() has read of it. NULL = nothing */
        struct restore_docs *docs;
};

/* All of them, for a VM that is to be like kvm, which has been created. docs is zeroed; to be
 * ended also on failure. */
int restore_read(const struct restore *from, const struct kvm *kvm, struct restore_docs *docs,
                 struct err *e);

/* vm is initialised and has no machine; on success it is one that was restored, ready for
 * vm_started(). */
int restore_build(struct vm *vm, const struct restore *from, struct err *e);

#endif
