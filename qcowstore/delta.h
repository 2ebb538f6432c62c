/* SPDX-License-Identifier: Apache-2.0 */
/* delta.h - the parent of an image in the making: who may be one, what it has
 * where, and how it learns that it is one.
 *
 * Theory of operation
 *
 * A delta stores what differs from its parent. "Same" means the same bytes:
 * what the parent has is read, verified, and compared; a sum never decides. So
 * whatever cluster size and compression the parent and its own parents have,
 * and however zeros are kept there, the child's content is right by itself.
 *
 * QCOW2 knows of a parent only its name, and shows its active layer. So it must
 * lie in the same folder, be named without one, and have one snapshot, which is
 * then its active layer for ever: a file that is marked as a parent gets no tags.
 * The child records who its parent is and in which state; image-parent.c compares both.
 *
 * INV-KIN: when the child gets its name, the parent's name leads to the file
 *          that was read, in the state that was recorded. While the child is
 *          made a lock keeps appenders out, and then the mark does; who replaces
 *          files asks neither, so that is looked at once more. The mark comes
 *          last: a parent marked in vain would be refused as a pool for ever, a
 *          child whose parent is not marked is at worst refused later.
 *
 * Ownership: borrows nothing; holds the parent open, and its locks.
 * Threads:   delta_find_data() and views of their own from any thread.
 * Errors:    a sentence that names both files.
 */
#ifndef QCOWSTORE_DELTA_H
#define QCOWSTORE_DELTA_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "qcowstore/imghdr.h"

struct delta;
struct delta_view;      /* of one thread */

/* path: of the child; backing: of the parent. Neither is kept. */
int delta_open(const char *path, const char *backing, uint64_t disk_bytes, struct delta **ret,
               struct err *e);
void delta_free(struct delta *d);

/* Puts what the child must know of its parent into its header, and, once that is
 * encoded, the name. */
void delta_describe(const struct delta *d, struct imghdr *h);
void delta_name(const struct delta *d, uint8_t sector[LAYOUT_SECTOR_BYTES]);

/* The first address of [from, to) at which the parent has data; `to` = none. */
int delta_find_data(const struct delta *d, uint64_t from, uint64_t to, uint64_t *ret,
                    struct err *e);

/* Spans of at most so many bytes. */
int delta_view_new(const struct delta *d, size_t bytes, struct delta_view **ret, struct err *e);
void delta_view_free(struct delta_view *v);
/* What the parent has there, page-aligned; *ret NULL = all zero. Until the next call. */
int delta_view_at(struct delta_view *v, uint64_t gpa, size_t bytes, const uint8_t **ret,
                  struct err *e);

/* The same in parts: *ret is the beginning of a buffer that has it from offset `at` on. */
int delta_view_part(struct delta_view *v, size_t at, uint64_t gpa, size_t bytes,
                    const uint8_t **ret, struct err *e);
/* the parent; delta's */
struct qs_image *delta_image(const struct delta *d);

/* Right before the child gets its name (INV-KIN), and right after. NULL = no
 * parent. Marking may fail, as on a file system that is mounted read-only. */
int delta_check(const struct delta *d, struct err *e);
void delta_mark(const struct delta *d);

#endif
