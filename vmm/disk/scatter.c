/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/disk/scatter.h"

#include <errno.h>
#include <sys/types.h>

#include "common/check.h"

/* of one system call; the rest follows in another */
#define PIECES_MAX 64

typedef ssize_t transfer_fn(int fd, const struct iovec *iov, int n, off_t offset);

size_t scatter_bytes(const struct iovec *iov, unsigned n)
{
        size_t bytes = 0;

        for (unsigned i = 0; i < n; i++)
                bytes += iov[i].iov_len;
        return bytes;
}

unsigned scatter_part(const struct iovec *iov, unsigned n, size_t skip, size_t bytes,
                      struct iovec *ret, unsigned room)
{
        unsigned pieces = 0;

        for (unsigned i = 0; i < n && bytes > 0 && pieces < room; i++) {
                if (skip >= iov[i].iov_len) {
                        skip -= iov[i].iov_len;
                        continue;
                }

                size_t part = MIN(iov[i].iov_len - skip, bytes);

                ret[pieces++] = (struct iovec){ (char *)iov[i].iov_base + skip, part };
                bytes -= part;
                skip = 0;
        }
        return pieces;
}

static int transfer(transfer_fn *call, int fd, const struct iovec *iov, unsigned n, size_t skip,
                    size_t bytes, uint64_t offset)
{
        while (bytes > 0) {
                struct iovec part[PIECES_MAX];
                unsigned pieces = scatter_part(iov, n, skip, bytes, part, PIECES_MAX);

                ASSERT(pieces > 0);     /* the buffers are as long as was said */

                ssize_t done = call(fd, part, (int)pieces, (off_t)offset);

                if (done < 0 && errno == EINTR)
                        continue;
                if (done < 0)
                        return -errno;
                if (done == 0)
                        return -EIO;
                skip += (size_t)done;
                bytes -= (size_t)done;
                offset += (uint64_t)done;
        }
        return 0;
}

int scatter_pread(int fd, const struct iovec *iov, unsigned n, size_t skip, size_t bytes,
                  uint64_t offset)
{
        return transfer(preadv, fd, iov, n, skip, bytes, offset);
}

int scatter_pwrite(int fd, const struct iovec *iov, unsigned n, size_t skip, size_t bytes,
                   uint64_t offset)
{
        return transfer(pwritev, fd, iov, n, skip, bytes, offset);
}
