/* SPDX-License-Identifier: Apache-2.0 */
/* io.h - whole reads and writes; EINTR and short counts are handled here.
 *
 * Threads: any. Errors: 0, or a negative errno; -ENODATA when the file or
 * stream ends first. Nothing is printed and no err is filled: the caller
 * knows the name of what it reads.
 */
#ifndef COMMON_IO_H
#define COMMON_IO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

int io_pread_full(int fd, void *buf, size_t bytes, uint64_t offset);
int io_pwrite_full(int fd, const void *buf, size_t bytes, uint64_t offset);
int io_read_full(int fd, void *buf, size_t bytes);
int io_write_full(int fd, const void *buf, size_t bytes);
/* up to EOF or max_bytes, NUL-terminated behind; -EFBIG when there is more.
 * *ret_data is the caller's to free. */
int io_read_all(int fd, size_t max_bytes, char **ret_data, size_t *ret_bytes);

#endif
