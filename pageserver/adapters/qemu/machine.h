/* SPDX-License-Identifier: Apache-2.0 */
/* machine.h - where a QEMU machine type has its RAM.
 *
 * A stream names its machine type and sizes of blocks, but no guest-physical address.
 * What lies where follows from a rule for each type of machine and from what the user
 * says. RAM goes to its addresses; blocks that are not RAM, or of which nobody knows where
 * they were plugged in, go behind it, from the next GiB on, in the order of the stream.
 *
 * A rule that is wrong costs only that the image, read as guest-physical memory, is in
 * another order than the guest saw it: reverting goes by the table.
 *
 * Threads: pure functions.
 * Errors:  -EINVAL and a sentence with the option to change.
 */
#ifndef PAGESERVER_ADAPTERS_QEMU_MACHINE_H
#define PAGESERVER_ADAPTERS_QEMU_MACHINE_H

#include <stdint.h>

#include "common/err.h"
#include "pageserver/adapters/qemu/blocks.h"
#include "pageserver/adapters/qemu/named.h"

/* What the user knows better. */
struct qemu_hints {
        uint64_t ram_split;             /* RAM below 4 GiB, where there is some above; 0 = the
                                         * rule's */
        const struct named_list *map;   /* where blocks lie; NULL = nothing */
        const struct named_list *page_size;             /* host pages of blocks; NULL = nothing */
};

/* Gives each block its extents and the image its end; then qemu_blocks_seal() tells
 * whether they fit together. machine: its name with version, "" = not known. */
int qemu_machine_place(const char *machine, const struct qemu_hints *hints,
                       struct qemu_blocks *b, struct err *e);

/* Only the pages: also of a table that was read from an image, to be sealed then. */
int qemu_machine_pages(const struct named_list *page_size, struct qemu_blocks *b,
                       struct err *e);

#endif
