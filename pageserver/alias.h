/* SPDX-License-Identifier: Apache-2.0 */
/* alias.h - the server's own mapping of an image cache, through which pages are put
 * there by UFFDIO_COPY.
 *
 * pwrite does the same, but holds the file's lock: two threads write no faster than
 * one (2.9 GB/s; through an alias 4.5). It stays the way for pages that are there already,
 * which a copy leaves as they are.
 *
 * INV-HOLE: the mapping is registered, and never touched otherwise.
 *
 * Ownership: its cache's. Costs a page-table entry for each page that was copied.
 * Threads:   alias_fill() any.
 */
#ifndef PAGESERVER_ALIAS_H
#define PAGESERVER_ALIAS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct alias;

/* Of a memfd of that size; NULL where this host does not allow it. */
struct alias *alias_new(int memfd, uint64_t bytes);
void alias_free(struct alias *a);

/* Whole pages at an offset, each visible whole or not at all. true: all of them were
 * missing and are there now. false: who knows; write them. */
bool alias_fill(const struct alias *a, uint64_t offset, const void *data, size_t bytes);

#endif
