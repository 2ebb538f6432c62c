/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/disk/punch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"

/* one write of zeros where the kernel has nothing better */
#define ZEROS_BYTES (64u << 10)

static int allocate(int fd, int mode, uint64_t offset, uint64_t bytes)
{
        while (fallocate(fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)bytes) < 0)
                if (errno != EINTR)
                        return -errno;
        return 0;
}

/* what file systems and devices say of what they have not got */
static bool cannot(int rc)
{
        return rc == -EOPNOTSUPP || rc == -ENOSYS || rc == -ENODEV || rc == -EINVAL ||
               rc == -ENOTTY;
}

/* of a partition the file is in the folder of its disk, one above its own */
static uint32_t device_granularity(dev_t rdev)
{
        static const char *const above[] = { "", "../" };
        char path[96], text[24];

        for (unsigned i = 0; i < ARRAY_SIZE(above); i++) {
                snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%squeue/discard_granularity",
                         major(rdev), minor(rdev), above[i]);

                AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
                ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

                if (n <= 0)
                        continue;
                text[n] = '\0';
                return (uint32_t)strtoul(text, NULL, 10);
        }
        return 0;
}

uint32_t punch_granularity(int fd, bool block_device)
{
        struct stat st;

        if (fstat(fd, &st) < 0)
                return 0;
        if (block_device)
                return device_granularity(st.st_rdev);

        /* behind the end, where nothing is */
        uint64_t end = ALIGN_UP((uint64_t)st.st_size, 4096);

        return allocate(fd, FALLOC_FL_PUNCH_HOLE, end, 4096) < 0 ? 0 : (uint32_t)st.st_blksize;
}

/* Devices refuse what is not whole blocks of theirs. */
static int discard_device(int fd, uint64_t offset, uint64_t bytes)
{
        int block = 512;

        if (ioctl(fd, BLKSSZGET, &block) < 0)
                return -errno;

        uint64_t from = ALIGN_UP(offset, block);
        uint64_t end = ALIGN_DOWN(offset + bytes, block);
        uint64_t range[2] = { from, end - from };

        if (from >= end)
                return 0;
        while (ioctl(fd, BLKDISCARD, range) < 0)
                if (errno != EINTR)
                        return -errno;
        return 0;
}

int punch_discard(int fd, bool block_device, uint64_t offset, uint64_t bytes)
{
        if (bytes == 0)
                return 0;
        if (block_device)
                return discard_device(fd, offset, bytes);
        return allocate(fd, FALLOC_FL_PUNCH_HOLE, offset, bytes);
}

static int write_zeros(int fd, uint64_t offset, uint64_t bytes)
{
        static const uint8_t zeros[ZEROS_BYTES];
        int rc = 0;

        while (bytes > 0 && rc == 0) {
                size_t part = (size_t)MIN(bytes, ZEROS_BYTES);

                rc = io_pwrite_full(fd, zeros, part, offset);
                offset += part;
                bytes -= part;
        }
        return rc;
}

int punch_zeroes(int fd, uint64_t offset, uint64_t bytes, bool unmap)
{
        int rc = -EOPNOTSUPP;

        if (bytes == 0)
                return 0;
        /* the kernel does this on block devices too, as BLKZEROOUT would */
        if (unmap)
                rc = allocate(fd, FALLOC_FL_PUNCH_HOLE, offset, bytes);
        if (cannot(rc))
                rc = allocate(fd, FALLOC_FL_ZERO_RANGE, offset, bytes);
        return cannot(rc) ? write_zeros(fd, offset, bytes) : rc;
}
