/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/rollback-disks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "vmm/disk/disk.h"
#include "vmm/virtio/blk.h"
#include "vmm/virtio/bus.h"
#include "vmm/vm.h"

struct rollback_disks {
        struct vm *vm;
        unsigned n;
        struct disk *fresh[MACHINE_DISKS_MAX];  /* NULL = one that is only read stays */
};

static struct disk *disk_of(const struct vm *vm, unsigned i)
{
        return virtio_blk_disk(virtio_bus_device(vm->bus, i));
}

static int check_alike(const struct vm *vm, const struct machine_config *saved, struct err *e)
{
        const struct machine_config *c = &vm->machine;

        if (saved->ndisks != c->ndisks)
                return err_msg(e, EINVAL, "it has %u disks, this VM has %u: use 'vmm revert'",
                               saved->ndisks, c->ndisks);
        for (unsigned i = 0; i < c->ndisks; i++) {
                const struct disk_config *d = &c->disk[i];

                if (strcmp(d->id, saved->disk[i].id) || d->read_only != saved->disk[i].read_only)
                        return err_msg(e, EINVAL, "its disk %s is not this VM's %s: use 'vmm "
                                       "revert'", saved->disk[i].id, d->id);
                if (!d->read_only && !d->overlay)
                        return err_msg(e, EINVAL, "%s ('%s') is written in place, and what is "
                                       "in it would be lost: stop the VM and use 'vmm revert'",
                                       d->id, d->path);
        }
        return 0;
}

static int open_fresh(struct rollback_disks *r, const struct disk_config *d, const int *file,
                      unsigned i, struct err *e)
{
        const struct disk_options o = {
                .path = d->path, .file = file, .read_only = d->read_only, .overlay = !d->read_only,
        };
        int rc = disk_open(&o, &r->fresh[i], e);

        if (rc == 0 && disk_bytes(r->fresh[i]) != disk_bytes(disk_of(r->vm, i)))
                rc = err_msg(e, EINVAL, "%s has another size in the snapshot: use 'vmm "
                             "revert'", d->id);
        return rc;
}

static int open_all(struct rollback_disks *r, const struct machine_config *c,
                    const struct disk_files *files, struct err *e)
{
        int rc = 0;

        /* those that are only read too: the snapshot's may be others */
        for (unsigned i = 0; i < c->ndisks && rc == 0; i++)
                rc = open_fresh(r, &c->disk[i], disk_files_at(files, i), i, e);
        return rc;
}

int rollback_disks_new(struct vm *vm, const struct kept_disks_image *image,
                       const struct kept_disks *kept,
                       const struct machine_config *saved, struct rollback_disks **ret,
                       struct err *e)
{
        const struct disks_wish wish = { .present = &vm->machine };
        struct machine_config c = *saved;
        struct disk_files files;
        struct rollback_disks *r;
        int rc = check_alike(vm, saved, e);

        if (rc < 0)
                return rc;
        r = calloc(1, sizeof(*r));
        if (!r)
                return err_msg(e, ENOMEM, "no memory to roll disks back");
        r->vm = vm;
        r->n = c.ndisks;
        disk_files_init(&files);
        rc = kept_disks_find(kept, image, &wish, &c, &files, e);
        if (rc == 0)
                rc = open_all(r, &c, &files, e);
        disk_files_fini(&files);
        if (rc < 0)
                rollback_disks_free(r);
        else
                *ret = r;
        return rc;
}

void rollback_disks_swap(struct rollback_disks *r)
{
        for (unsigned i = 0; i < r->n; i++) {
                if (r->fresh[i])
                        disk_swap(disk_of(r->vm, i), r->fresh[i]);
        }
}

void rollback_disks_free(struct rollback_disks *r)
{
        if (!r)
                return;
        for (unsigned i = 0; i < r->n; i++)
                disk_close(r->fresh[i]);
        free(r);
}
