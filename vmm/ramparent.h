/* SPDX-License-Identifier: Apache-2.0 */
/* ramparent.h - what guest RAM showed when the VM began: the image that it was reverted
 * from, or zeros after a cold boot.
 *
 * Threads: ramparent_read() from any number; each gets a reader of its own, which lives
 *          until the thread ends.
 */
#ifndef VMM_RAMPARENT_H
#define VMM_RAMPARENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "qcowstore/store.h"

struct ramparent;

/* image NULL = zeros; it outlives this */
int ramparent_new(struct qs_image *image, struct ramparent **ret, struct err *e);
/* The threads that read have ended, but for the caller's own. NULL is allowed. */
void ramparent_free(struct ramparent *p);
/* Whole pages. *ret_zero: all of it is, and buf is untouched. */
int ramparent_read(struct ramparent *p, uint64_t gpa, size_t bytes, uint8_t *buf, bool *ret_zero,
                   struct err *e);

#endif
