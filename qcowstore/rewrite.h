/* SPDX-License-Identifier: Apache-2.0 */
/* rewrite.h - what it takes to make an image anew from one that is open.
 *
 * Threads: the calling one; rewrite_ram() uses the writer's.
 */
#ifndef QCOWSTORE_REWRITE_H
#define QCOWSTORE_REWRITE_H

#include <stdint.h>

#include "common/err.h"
#include "qcowstore/store.h"

/* RAM, read and verified by the writer's threads; bytes: multiple of 4096 */
int rewrite_ram(struct qs_writer *w, struct qs_image *from, uint64_t bytes,
                qs_progress_fn *progress, void *ctx, struct err *e);
/* all but the sums, which are the new file's own */
int rewrite_sections(struct qs_writer *w, struct qs_image *from, struct err *e);
/* Is it still the same file as when it was opened, in the same state? */
int rewrite_check_same(const struct qs_image *m, struct err *e);

#endif
