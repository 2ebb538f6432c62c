/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/clone-lent.h"

#include <errno.h>
#include <sys/mman.h>

#include "common/auto.h"
#include "common/json.h"
#include "vmm/disk/nameless.h"

static int new_memfd(const char *name, int *ret_fd, struct err *e)
{
        *ret_fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
        return *ret_fd < 0 ? err_set(e, errno, "create a memfd") : 0;
}

int clone_lent_init(struct clone_lent *l, const struct machine_config *machine, struct err *e)
{
        *l = (struct clone_lent){ .ram_fd = -1, .state_fd = -1 };
        disk_files_init(&l->disks);

        int rc = new_memfd("clone-ram", &l->ram_fd, e);

        if (rc == 0)
                rc = new_memfd("clone-state", &l->state_fd, e);
        for (unsigned i = 0; i < machine->ndisks && rc == 0; i++) {
                const struct disk_config *d = &machine->disk[i];

                if (!d->read_only)
                        rc = nameless_file(d->path, NULL, &l->disks.fd[i], e);
                if (rc < 0)
                        err_in(e, rc, "%s", d->id);
        }
        if (rc < 0)
                clone_lent_fini(l);
        return rc;
}

void clone_lent_fini(struct clone_lent *l)
{
        fd_close(&l->ram_fd);
        fd_close(&l->state_fd);
        disk_files_fini(&l->disks);
}

struct json_object *clone_lent_encode(const struct clone_lent *l,
                                      const struct machine_config *machine)
{
        struct json_object *o = json_object_new_object();
        struct json_object *disks = json_object_new_array();

        json_put_u64(o, "ram_fd", (uint64_t)l->ram_fd);
        json_put_u64(o, "state_fd", (uint64_t)l->state_fd);
        for (unsigned i = 0; i < machine->ndisks; i++) {
                struct json_object *one;

                if (l->disks.fd[i] < 0)
                        continue;
                one = json_object_new_object();
                json_put_str(one, "id", machine->disk[i].id);
                json_put_u64(one, "fd", (uint64_t)l->disks.fd[i]);
                json_object_array_add(disks, one);
        }
        json_object_object_add(o, "disks", disks);
        return o;
}
