/* SPDX-License-Identifier: Apache-2.0 */
#include "common/io.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/auto.h"

int io_pread_full(int fd, void *buf, size_t bytes, uint64_t offset)
{
        char *at = buf;

        while (bytes > 0) {
                ssize_t n = pread(fd, at, bytes, (off_t)offset);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        return -ENODATA;
                at += n;
                bytes -= (size_t)n;
                offset += (uint64_t)n;
        }
        return 0;
}

int io_pwrite_full(int fd, const void *buf, size_t bytes, uint64_t offset)
{
        const char *at = buf;

        while (bytes > 0) {
                ssize_t n = pwrite(fd, at, bytes, (off_t)offset);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                at += n;
                bytes -= (size_t)n;
                offset += (uint64_t)n;
        }
        return 0;
}

int io_read_full(int fd, void *buf, size_t bytes)
{
        char *at = buf;

        while (bytes > 0) {
                ssize_t n = read(fd, at, bytes);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        return -ENODATA;
                at += n;
                bytes -= (size_t)n;
        }
        return 0;
}

int io_write_full(int fd, const void *buf, size_t bytes)
{
        const char *at = buf;

        while (bytes > 0) {
                ssize_t n = write(fd, at, bytes);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                at += n;
                bytes -= (size_t)n;
        }
        return 0;
}

int io_read_all(int fd, size_t max_bytes, char **ret_data, size_t *ret_bytes)
{
        AUTO_FREE char *data = NULL;
        size_t used = 0;
        size_t room = 0;

        for (;;) {
                if (used == room) {
                        room = room ? room * 2 : 65536;
                        char *more = realloc(data, room + 1);

                        if (!more)
                                return -ENOMEM;
                        data = more;
                }
                ssize_t n = read(fd, data + used, room - used);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                used += (size_t)n;
                if (used > max_bytes)
                        return -EFBIG;
        }
        data[used] = '\0';
        *ret_data = ptr_take(&data);
        *ret_bytes = used;
        return 0;
}
