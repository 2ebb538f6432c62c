/* SPDX-License-Identifier: Apache-2.0 */
/* disk.h - one disk of a guest: a raw file or block device, or a private overlay over one.
 *
 * With an overlay the base is never written: what the guest writes goes to a file without a
 * name that ends with the VM. It is a reflink of the base where the file system can, else a
 * sparse file and a map of what was written (overlay.h).
 *
 * While somebody keeps a moment of it (keep.h) a write first sets aside what it overwrites.
 *
 * Threads: read, write, flush, discard and zeroes from any number at once; ranges that
 *          overlap are the guest's affair. The others from one, while none of those runs.
 * Errors:  of requests -errno, for the guest to see; of the others a sentence.
 */
#ifndef VMM_DISK_DISK_H
#define VMM_DISK_DISK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "common/err.h"

#define DISK_SECTOR_BYTES 512u

struct disk;
struct disk_keep;

struct disk_options {
        const char *path;
        const int *file;                /* a descriptor of it, then path is its name only; NULL
                                         * = path is opened */
        bool read_only;
        bool overlay;                   /* else written in place, under an exclusive lock */
        const char *overlay_dir;        /* NULL = that of path, else $TMPDIR, else /var/tmp */
};

/* Locks it against other VMs: shared where it is only read, exclusive else (OFD locks on
 * the byte that QEMU's raw driver uses for writers are respected too). */
int disk_open(const struct disk_options *o, struct disk **ret, struct err *e);
void disk_close(struct disk *d);
/* Each becomes the other, for whoever uses them; of the same size and kind of access. */
void disk_swap(struct disk *a, struct disk *b);

const char *disk_path(const struct disk *d);    /* for messages */
uint64_t disk_bytes(const struct disk *d);      /* a multiple of DISK_SECTOR_BYTES */
bool disk_read_only(const struct disk *d);
/* 0 = cannot; in bytes */
uint32_t disk_discard_granularity(const struct disk *d);

/* Offsets and sizes are multiples of DISK_SECTOR_BYTES and inside the disk: the caller's to
 * check. All of it, or -errno. */
int disk_read(struct disk *d, const struct iovec *iov, unsigned n, uint64_t offset);
int disk_write(struct disk *d, const struct iovec *iov, unsigned n, uint64_t offset);
int disk_flush(struct disk *d);
int disk_discard(struct disk *d, uint64_t offset, uint64_t bytes);
int disk_write_zeroes(struct disk *d, uint64_t offset, uint64_t bytes, bool unmap);

#endif
