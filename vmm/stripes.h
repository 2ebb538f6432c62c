/* SPDX-License-Identifier: Apache-2.0 */
/* stripes.h - guest RAM in stripes that are dealt over a few userfaultfds, so that the
 * page server's workers share the faults of one hot area.
 *
 * INV-HELD: the descriptors stay open from stripes_register() to stripes_fini(), for
 *           the life of the VM: when a server dies its guests block, they never read
 *           zeros.
 *
 * Threads: one registers; then constant, any.
 */
#ifndef VMM_STRIPES_H
#define VMM_STRIPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "pageserver/client.h"
#include "vmm/ram.h"

#define STRIPES_UFFDS_MAX 8

struct stripes {
        struct ps_region regions[PS_REGIONS_MAX];
        size_t nregions;
        int uffds[STRIPES_UFFDS_MAX];
        size_t nuffds;
        bool can_protect;               /* uffd_register_protect() and so on: for a live save */
};

/* What RAM is made of; kernels differ in what they watch. */
enum stripes_of { STRIPES_ANONYMOUS, STRIPES_HUGETLB, STRIPES_CACHE };

/* RAM is mapped, without access yet (INV-HOLE). On failure stripes_fini() is the
 * caller's all the same. */
int stripes_register(struct stripes *s, const struct ram *ram, enum stripes_of what,
                     struct err *e);
/* Puts a page where none is. False: there is one, or it cannot be done; nothing was done. */
bool stripes_put(const struct stripes *s, uint64_t gpa, const void *page, size_t bytes);
/* Whoever waits for a page of RAM looks again: RAM has been unmapped, or nobody may be left
 * who has read that he waits. */
void stripes_wake(const struct stripes *s);
/* The same of the page around hva. */
void stripes_wake_page(const struct stripes *s, uint64_t hva);
void stripes_fini(struct stripes *s);

#endif
