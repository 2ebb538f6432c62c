/* SPDX-License-Identifier: Apache-2.0 */
/* workingset.h - what was wanted first the last time, as prefetch wants it: units
 * of the client's memory, in that order.
 *
 * Ownership: the caller frees what is returned.
 * Threads:   any.
 */
#ifndef PAGESERVER_WORKINGSET_H
#define PAGESERVER_WORKINGSET_H

#include <stddef.h>

#include "pageserver/prefetch.h"
#include "pageserver/regions.h"
#include "qcowstore/store.h"

/* Extents of the store's (qs_working_set_read()), cut to the regions. *ret NULL when
 * nothing is left. 0 or -ENOMEM. */
int workingset_spans(const struct qs_ram_range *set, size_t n, const struct regions *r,
                     unsigned unit_bits, struct prefetch_span **ret, size_t *ret_n);

#endif
