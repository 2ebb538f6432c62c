/* SPDX-License-Identifier: Apache-2.0 */
/* scatter.h - parts of scattered buffers, read from and written to files.
 *
 * Threads: any. Errors: 0, or -errno; -EIO where the file ends first.
 */
#ifndef VMM_DISK_SCATTER_H
#define VMM_DISK_SCATTER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

size_t scatter_bytes(const struct iovec *iov, unsigned n);
/* The first bytes after skip, at most room pieces of them; returns how many pieces. */
unsigned scatter_part(const struct iovec *iov, unsigned n, size_t skip, size_t bytes,
                      struct iovec *ret, unsigned room);
/* All of [skip, skip+bytes) of the buffers, at offset of the file. */
int scatter_pread(int fd, const struct iovec *iov, unsigned n, size_t skip, size_t bytes,
                  uint64_t offset);
int scatter_pwrite(int fd, const struct iovec *iov, unsigned n, size_t skip, size_t bytes,
                   uint64_t offset);

#endif
