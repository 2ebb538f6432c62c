/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/clone-parts.h"

#include <errno.h>
#include <sys/mman.h>

#include "common/auto.h"
#include "vmm/disk/nameless.h"

void clone_parts_init(struct clone_parts *p)
{
        p->ram_fd = p->state_fd = -1;
        disk_files_init(&p->disks);
}

static int new_memfd(const char *name, int *ret_fd, struct err *e)
{
        *ret_fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
        return *ret_fd < 0 ? err_set(e, errno, "create a memfd") : 0;
}

int clone_parts_make(struct clone_parts *p, const struct machine_config *machine,
                     struct err *e)
{
        int rc = new_memfd("clone-ram", &p->ram_fd, e);

        if (rc == 0)
                rc = new_memfd("clone-state", &p->state_fd, e);
        for (unsigned i = 0; i < machine->ndisks && rc == 0; i++) {
                const struct disk_config *d = &machine->disk[i];

                if (!d->read_only)
                        rc = nameless_file(d->path, NULL, &p->disks.fd[i], e);
                if (rc < 0)
                        err_in(e, rc, "%s", d->id);
        }
        return rc;
}

void clone_parts_fini(struct clone_parts *p)
{
        fd_close(&p->ram_fd);
        fd_close(&p->state_fd);
        disk_files_fini(&p->disks);
}
