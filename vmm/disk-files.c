/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/disk-files.h"

#include "common/auto.h"
#include "common/check.h"

void disk_files_init(struct disk_files *f)
{
        for (unsigned i = 0; i < MACHINE_DISKS_MAX; i++)
                f->fd[i] = -1;
}

void disk_files_fini(struct disk_files *f)
{
        for (unsigned i = 0; i < MACHINE_DISKS_MAX; i++)
                fd_close(&f->fd[i]);
}

const int *disk_files_at(const struct disk_files *f, unsigned i)
{
        ASSERT(i < MACHINE_DISKS_MAX);
        return f && f->fd[i] >= 0 ? &f->fd[i] : NULL;
}
