/* SPDX-License-Identifier: Apache-2.0 */
/* ramwhole.h - a source of RAM that leaves nothing to a parent, made of one that does: what
 * that one says is its parent's is read there. For who knows of no parent, as a copy of RAM
 * does, and where the parent is no image: a clone's RAM shows a memfd where it is not its own.
 *
 * Threads: of the source any number; each that has to gets a reader of the image, which lives
 *          until the thread ends.
 */
#ifndef VMM_RAMWHOLE_H
#define VMM_RAMWHOLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "qcowstore/store.h"

struct ramwhole;

/* Whole pages of such a memfd; *ret_zero: all of it is, and buf is untouched. */
int ramwhole_read_flat(int flat_fd, uint64_t gpa, size_t bytes, uint8_t *buf, bool *ret_zero,
                       struct err *e);

/* The parent is inner's, or a sealed memfd (offset = guest-physical address): flat_fd; -1 =
 * none. All of that outlives this. */
int ramwhole_new(const struct qs_ram_source *inner, int flat_fd, struct ramwhole **ret,
                 struct err *e);
/* The threads that read have ended, but for the caller's own. NULL is allowed. */
void ramwhole_free(struct ramwhole *w);
struct qs_ram_source ramwhole_source(struct ramwhole *w);

#endif
