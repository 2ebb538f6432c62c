/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/disk/disk-file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "common/auto.h"

int disk_file_find(int folder, const char *name, bool follow, int *ret_fd, struct stat *ret)
{
        AUTO_FD fd = openat(folder, name, O_PATH | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW));

        if (fd < 0 || fstat(fd, ret) < 0)
                return -errno;
        *ret_fd = fd_take(&fd);
        return 0;
}

int disk_file_open(int fd, int flags, int *ret_fd)
{
        char path[32];
        int opened;

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        opened = open(path, flags | O_CLOEXEC | O_NOCTTY);
        if (opened < 0)
                return -errno;
        *ret_fd = opened;
        return 0;
}
