/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/create.h"

#include <errno.h>

#include "vmm/coldboot.h"
#include "vmm/prepared.h"
#include "vmm/revert.h"
#include "vmm/vm.h"

static const char *or_null(const char *text)
{
        return text[0] ? text : NULL;
}

/* What is changed of its devices. */
static int add_changes(const struct create_snapshot *s, struct revert_options *o, struct err *e)
{
        int rc = 0;

        o->vsock = or_null(s->vsock);
        for (unsigned i = 0; i < s->nnets; i++)
                o->net[o->nnets++] = s->net[i];
        o->disks.in_place = s->disks_in_place;
        for (unsigned i = 0; rc == 0 && i < s->ndisks; i++)
                rc = kept_disks_wish(&o->disks, s->disk[i], e);
        return rc;
}

static struct revert_options options_of(const struct create_request *q)
{
        const struct create_snapshot *s = &q->snapshot;

        return (struct revert_options){
                .image_path = s->path, .tag = or_null(s->tag),
                .allow_parent = or_null(s->allow_parent),
                .postcopy = s->postcopy, .hold_percent = s->hold_percent, .lane = s->lane,
                .hugepages = q->hugepages, .prefetch_rate = s->prefetch_rate,
                .pageserver = or_null(s->pageserver),
        };
}

static int build_snapshot(struct vm *vm, const struct create_request *q, struct err *e)
{
        struct revert_options options = options_of(q);
        struct revert *opened = NULL;
        int rc = add_changes(&q->snapshot, &options, e);

        if (rc < 0)
                return rc;

        struct revert *r = prepared_claim(vm->prepared, &options);

        if (!r) {
                rc = revert_open(&options, &opened, e);
                r = opened;
        }
        if (rc == 0)
                rc = revert_build(vm, r, e);
        revert_close(opened);
        return rc;
}

int create_foresee(const struct create_request *q, struct revert **ret, struct err *e)
{
        struct revert_options options = options_of(q);

        if (!q->snapshot.path[0])
                return err_msg(e, EINVAL, "only what comes out of a snapshot is foreseen");
        return revert_foresee(&options, ret, e);
}

static int build_fresh(struct vm *vm, const struct create_request *q, struct err *e)
{
        const struct create_fresh *f = &q->fresh;
        struct coldboot boot = {
                .demo = f->demo, .kernel_path = or_null(f->kernel),
                .initrd_path = or_null(f->initrd), .cmdline = f->cmdline,
                .memory_bytes = f->memory_bytes, .cpus = f->cpus, .hugepages = q->hugepages,
        };
        int rc = create_devices_find(&f->devices, &boot.machine, e);

        return rc == 0 ? coldboot_build(vm, &boot, e) : rc;
}

int create_build(struct vm *vm, void *ctx, struct err *e)
{
        const struct create_request *q = ctx;

        return q->snapshot.path[0] ? build_snapshot(vm, q, e) : build_fresh(vm, q, e);
}
