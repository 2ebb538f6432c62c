/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/create.h"

#include "vmm/coldboot.h"
#include "vmm/revert.h"
#include "vmm/vm.h"

static const char *or_null(const char *text)
{
        return text[0] ? text : NULL;
}

static int build_snapshot(struct vm *vm, const struct create_request *q, struct err *e)
{
        const struct create_snapshot *s = &q->snapshot;
        const struct revert_options options = {
                .image_path = s->path, .tag = or_null(s->tag),
                .allow_parent = or_null(s->allow_parent),
                .postcopy = s->postcopy, .hold_percent = s->hold_percent, .lane = s->lane,
                .hugepages = q->hugepages, .prefetch_rate = s->prefetch_rate,
                .pageserver = or_null(s->pageserver),
        };
        struct revert *r;
        int rc = revert_open(&options, &r, e);

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

        return coldboot_build(vm, &boot, e);
}

int create_build(struct vm *vm, void *ctx, struct err *e)
{
        const struct create_request *q = ctx;

        return q->snapshot.path[0] ? build_snapshot(vm, q, e) : build_fresh(vm, q, e);
}
