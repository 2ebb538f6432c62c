/* SPDX-License-Identifier: Apache-2.0 */
/* giveback.h - memory that the guest has no use for goes back to the host.
 *
 * Theory of operation is in giveback.c.
 * Ownership: made by who builds the VM; RAM is laid out by then and outlives it.
 * Threads:   any. A giveback that is NULL can be held and released: nobody gives back there.
 */
#ifndef VMM_GIVEBACK_H
#define VMM_GIVEBACK_H

#include <stdint.h>

#include "common/err.h"
#include "vmm/ram.h"

struct giveback;

int giveback_new(const struct ram *ram, struct giveback **ret, struct err *e);
void giveback_free(struct giveback *g);

/* The guest does not need what the pages inside [gpa, gpa + bytes) hold, which may lie
 * anywhere. Returns how much was given back; there the guest may read anything
 * (INV-GIVEBACK), all else is as it was. */
uint64_t giveback_pages(struct giveback *g, uint64_t gpa, uint64_t bytes);

/* From its return to giveback_release() no page is given back. Waits some milliseconds at
 * most. As often as one likes. */
void giveback_hold(struct giveback *g);
void giveback_release(struct giveback *g);

/* Bytes of all requests until now. */
struct giveback_stats {
        uint64_t given;                 /* the guest may have used some of it again */
        uint64_t deferred;              /* not given back: it was held */
        uint64_t refused;               /* nor this: not the guest's RAM, or not possible */
};
void giveback_stats(struct giveback *g, struct giveback_stats *ret);

#endif
