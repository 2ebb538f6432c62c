/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/create.h"

#include "vmm/coldboot.h"
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

static int build_snapshot(struct vm *vm, const struct create_request *q, struct err *e)
{
        const struct create_snapshot *s = &q->snapshot;
        struct revert_options options = {
                .image_path = s->path, .tag = or_null(s->tag),
                .allow_parent = or_null(s->allow_parent),
                .postcopy = s->postcopy, .hold_percent = s->hold_percent, .lane = s->lane,
                .hugepages = q->hugepages, .prefetch_rate = s->prefetch_rate,
                .pageserver = or_null(s->pageserver),
        };
        struct revert *r = NULL;
        int rc = add_changes(s, &options, e);

        if (rc == 0)
                rc = revert_open(&options, &r, e);
        if (rc < 0)
                return rc;
        rc = revert_build(vm, r, e);
        revert_close(r);
        return rc;
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
