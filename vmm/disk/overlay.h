/* SPDX-License-Identifier: Apache-2.0 */
/* overlay.h - what one VM writes over a disk that it shares with others: a file without a
 * name, which ends with the VM. The base is only read.
 *
 * Where the file system can share blocks the file is a reflink of the base; else it is
 * sparse, and a map says which blocks of it count.
 *
 * Ownership: the base's descriptor is the caller's, and outlives the overlay.
 * Threads:   read, write, discard, zeroes and hole from any number at once, also beside
 *            each other in one block; ranges that overlap are the guest's affair. The
 *            others from one, while none of those runs.
 * Errors:    of requests -errno, and then what was written before is as it was, or new, by
 *            sectors, as on a disk; of the others a sentence.
 */
#ifndef VMM_DISK_OVERLAY_H
#define VMM_DISK_OVERLAY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "common/err.h"

/* What is copied from the base before a part of it is written. */
#define OVERLAY_BLOCK_BYTES 65536u

struct overlay;

/* Of base, the file at path (for its folder and messages), bytes long: whole sectors. dir:
 * the folder of the file; NULL = path's, or where that cannot be written to $TMPDIR, or
 * /var/tmp. */
int overlay_new(int base, const char *path, uint64_t bytes, const char *dir,
                struct overlay **ret, struct err *e);
void overlay_free(struct overlay *o);

/* Whole sectors, inside: the caller's to check. */
int overlay_read(struct overlay *o, const struct iovec *iov, unsigned n, uint64_t offset);
int overlay_write(struct overlay *o, const struct iovec *iov, unsigned n, uint64_t offset);
/* Zeros, which take no space: that of an overlay is never promised anyway. */
int overlay_zeroes(struct overlay *o, uint64_t offset, uint64_t bytes);
/* Zeros, of the whole blocks in the range; the rest stays. */
int overlay_discard(struct overlay *o, uint64_t offset, uint64_t bytes);

/* How many bytes from offset on are zeros for sure, and take no space; 0 = cannot say. */
uint64_t overlay_hole(struct overlay *o, uint64_t offset);
/* The file that holds all of it, for FICLONE; -1 = there is none such. The overlay's. */
int overlay_whole_fd(const struct overlay *o);
/* Another one, in the same folder, in which nothing is written: to go back to the base. */
int overlay_again(const struct overlay *o, struct overlay **ret, struct err *e);

#endif
