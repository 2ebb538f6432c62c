/* SPDX-License-Identifier: Apache-2.0 */
/* ram-source.h - a paused guest's RAM as the writer wants it, without touching what is missing.
 *
 * Theory of operation
 *
 * A page of RAM has content of its own when it is present or swapped and does
 * not come from a file (pagemap bits 63, 62, 61). All others still show what
 * they showed when the VM began: the parent image's content, or zeros after a
 * cold boot. That holds for every backing: in the shared lane a clean page is
 * a page-cache page or not mapped at all, in the copy lane it is absent until
 * filled with just that content. So nothing is ever faulted in by a save, a
 * half-filled revert can be saved, and untouched RAM costs no reads: the writer is told
 * which pages are the parent's, and it knows what to do with them.
 *
 * The guest stands still from ram_source_new() until the save has read all.
 * Threads: span() from any number of the writer's threads.
 */
#ifndef VMM_RAM_SOURCE_H
#define VMM_RAM_SOURCE_H

#include "common/err.h"
#include "qcowstore/store.h"
#include "vmm/ram.h"

struct ram_source;

/* parent NULL = absent pages are zero. Both outlive the source. */
int ram_source_new(const struct ram *ram, struct qs_image *parent, struct ram_source **ret,
                   struct err *e);
void ram_source_free(struct ram_source *s);
/* for qs_writer_ram() */
struct qs_ram_source ram_source_ops(struct ram_source *s);

#endif
