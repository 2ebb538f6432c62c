/* SPDX-License-Identifier: Apache-2.0 */
/* fcstay.h - Firecracker's guests outlive the process that serves them.
 *
 * Firecracker says what its memory is once and never connects again. So what it said is
 * put into the descriptor store before its first fault is served: a table of its
 * regions, its userfaultfd, its removed map (removed.h) and its process. The next
 * process of the daemon goes on with them (INV-REATTACH); which pages are in place it
 * finds out by putting them there again.
 *
 * When the guest's memory is gone they are taken from the store: a userfaultfd that
 * somebody keeps would keep the memory too.
 *
 * Ownership: of a struct fcstay its descriptors; fcstay_put() borrows them.
 * Threads:   main thread.
 */
#ifndef PAGESERVER_FCSTAY_H
#define PAGESERVER_FCSTAY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/wire/psmsg.h"
#include "pageserver/fdstore.h"
#include "pageserver/fillmap.h"

struct fcstay {
        struct fcstay *next;
        uint64_t key;                   /* of its names in the store */
        struct psmsg_attach attach;
        uint32_t page_bytes;
        pid_t pid;
        uid_t uid;
        struct fillmap_ident image;     /* what it was restored from */
        int table_fd;
        int uffd;
        int removed_fd;
        int pidfd;                      /* -1 = its process cannot be seen */
};

/* *ret_key: for fcstay_drop(). Without a manager it is 0. */
int fcstay_put(struct fdstore *store, const struct fcstay *stay, uint64_t *ret_key,
               struct err *e);
void fcstay_drop(struct fdstore *store, uint64_t key);

/* Takes one that was given at the start; false: it is no part of such a guest. */
bool fcstay_take(struct fcstay **list, const char *name, int *fd);
/* Whether all that was put away came back and can be understood: read into the rest. */
bool fcstay_read(struct fcstay *stay);
void fcstay_free(struct fcstay *stay);

#endif
