/* SPDX-License-Identifier: Apache-2.0 */
/* pagemapscan.h - PAGEMAP_SCAN of linux/fs.h as of Linux 6.7, which older headers lack.
 *
 * An ioctl of /proc/PID/pagemap: reports runs of pages whose categories, some of them
 * inverted, are all of these and any of those. Returns the number of runs.
 */
#ifndef VMM_PAGEMAPSCAN_H
#define VMM_PAGEMAPSCAN_H

#include <assert.h>
#include <stdint.h>
#include <sys/ioctl.h>

/* categories */
#define PAGE_CAN_BE_TRACKED (1ull << 0)         /* registered with WP_ASYNC */
#define PAGE_WRITTEN (1ull << 1)                /* not write-protected by userfaultfd */
#define PAGE_OF_FILE (1ull << 2)
#define PAGE_PRESENT (1ull << 3)
#define PAGE_SWAPPED (1ull << 4)                /* markers too */
#define PAGE_ZERO (1ull << 5)
#define PAGE_HUGE (1ull << 6)

/* flags */
#define PAGEMAPSCAN_PROTECT (1ull << 0)         /* what matches; WP_ASYNC only */
#define PAGEMAPSCAN_CHECK_ASYNC (1ull << 1)     /* EPERM where that is not so */

struct pagemapscan_region {
        uint64_t start_hva;
        uint64_t end_hva;
        uint64_t categories;            /* those asked for */
};

struct pagemapscan {
        uint64_t size;                  /* of this struct */
        uint64_t flags;
        uint64_t start_hva;
        uint64_t end_hva;
        uint64_t walked_hva;            /* out: how far it came */
        uint64_t regions;               /* pointer; 0 = only flags act */
        uint64_t regions_max;
        uint64_t pages_max;             /* 0 = any number */
        uint64_t inverted;
        uint64_t all_of;                /* after inversion */
        uint64_t any_of;                /* after inversion; 0 = no condition */
        uint64_t report;
};

#define PAGEMAPSCAN _IOWR('f', 16, struct pagemapscan)

static_assert(sizeof(struct pagemapscan_region) == 24, "as the kernel has it");
static_assert(sizeof(struct pagemapscan) == 96, "as the kernel has it");

#endif
