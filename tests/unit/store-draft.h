/* SPDX-License-Identifier: Apache-2.0 */
/* store-draft.h - guest RAM that changes while it is taken: a writer gets drafts of it
 * first and then, by qs_writer_again(), what it shall be at last.
 *
 * What the library promises to a source is watched meanwhile, and all that was taken is
 * read back behind each pass, part of it in the source. Whatever is wrong ends it with
 * -EPROTO and a sentence; setup that fails aborts. */
#ifndef TESTS_UNIT_STORE_DRAFT_H
#define TESTS_UNIT_STORE_DRAFT_H

#include "tests/unit/store-kit.h"

/* All of ram->ranges; ram->bytes is what the file holds at last. With ram->drafts 0 that
 * is qs_writer_ram() alone, else so many drafts come before, the same for each seed. */
int draft_take(struct qs_writer *w, struct kit_ram *ram, struct err *e);

#endif
