/* SPDX-License-Identifier: Apache-2.0 */
/* disk-priv.h - what a struct disk is made of, for the files that implement disk.h and keep.h.
 *
 * Everything that changes the disk passes the gate first, in disk.c and nowhere else.
 */
#ifndef VMM_DISK_DISK_PRIV_H
#define VMM_DISK_DISK_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/disk/disk.h"
#include "vmm/disk/keep-gate.h"

struct overlay;

struct disk {
        /* constant while there are requests: disk_open(), disk_swap() */
        char *path;                     /* as it was given */
        int fd;                         /* of the file at path; under an overlay the base */
        bool block_device;
        bool read_only;
        uint64_t bytes;
        uint32_t discard_granularity;   /* 0 = cannot */
        struct overlay *overlay;        /* NULL = the guest writes to fd */

        struct keep_gate gate;
        /* The kernel tells of pages that it could not write once, and drops them: 0, or the
         * first error of a flush, which is that of all later ones. */
        _Atomic int flush_error;
};

#endif
