/* SPDX-License-Identifier: Apache-2.0 */
/* punch.h - gives back or zeroes a range of a file or block device.
 *
 * Neither changes how long a file is. Both take whole sectors of 512 bytes.
 * Threads: any number at once. Errors: 0, or -errno.
 */
#ifndef VMM_DISK_PUNCH_H
#define VMM_DISK_PUNCH_H

#include <stdbool.h>
#include <stdint.h>

/* The pieces in which space can be given back, in bytes; 0 = it cannot. Of a file: open for
 * writing. */
uint32_t punch_granularity(int fd, bool block_device);
/* What is read there afterwards: zeros, or of a block device anything. */
int punch_discard(int fd, bool block_device, uint64_t offset, uint64_t bytes);
/* Zeros; unmap: without space, where that can be had. Slow at worst: writes them. */
int punch_zeroes(int fd, uint64_t offset, uint64_t bytes, bool unmap);

#endif
