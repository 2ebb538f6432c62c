/* SPDX-License-Identifier: Apache-2.0 */
/* identity.h - whether a disk is the one that a saved VM's RAM belongs to.
 *
 * Theory of operation
 *
 * A guest that meets another disk than it left destroys its file systems, so that a wrong
 * disk must not pass unseen; and reading all of a disk at each revert is out of the question.
 *
 * - A disk of another size is another disk.
 * - A file with the same inode number is the file of then. If its time of last modification
 *   is not that of then it was written since, and is refused.
 * - Whatever it is, its content id must be that of then: a sum over samples, the first 128 KiB
 *   (superblocks of ext4, XFS and Btrfs, partition tables), 128 KiB from 1 MiB on (the same,
 *   of the first partition as it is usually laid out), and 64 blocks of 4 KiB at even
 *   distances up to the end. Some 100 us where they are in the page cache.
 *
 * So a file that was copied, moved or restored is known again, and one that was written,
 * by whatever program, is refused. What passes unseen: a copy, or a block device, that was
 * changed elsewhere than in the samples; a file that was so changed and given its old time back.
 * Mounting a file system that may be written changes its superblock. It is a guard against
 * accidents, not against whoever can write to the disk.
 *
 * INV-KNOWN: who makes up a document can only name a disk whose samples he knows. Numbers and
 *            times of files are seen by people who may not read them, and prove nothing alone.
 *
 * INV-STAMP: a writable file gets a time of its own when it is identified (less than a
 *            millisecond before the true one, where we may set it): file systems count time in
 *            ticks, so that a write right after would leave the same time else.
 */
#ifndef VMM_DISK_IDENTITY_H
#define VMM_DISK_IDENTITY_H

#include <stdint.h>

#include "common/err.h"
#include "vmm/disk/keep.h"

/* All but the path; name: for messages. */
int disk_identity_of(int fd, const char *name, struct disk_identity *ret, struct err *e);
int disk_identity_name(struct disk_identity *id, const char *path, struct err *e);

#endif
