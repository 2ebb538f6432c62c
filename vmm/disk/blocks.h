/* SPDX-License-Identifier: Apache-2.0 */
/* blocks.h - a set of block numbers, for threads: a bit for each.
 *
 * Ownership: in place. Threads: all but init and fini from any number at once. Who sees a
 *            number in the set also sees what the one who put it there did before.
 */
#ifndef VMM_DISK_BLOCKS_H
#define VMM_DISK_BLOCKS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

struct blocks {
        _Atomic uint64_t *words;        /* NULL = of nothing */
        uint64_t nblocks;
};

/* Memory that is not touched costs nothing: 2 MiB for each TiB of disk at most. */
int blocks_init(struct blocks *b, uint64_t nblocks, struct err *e);
void blocks_fini(struct blocks *b);
bool blocks_has(const struct blocks *b, uint64_t block);
/* true: it was not in there, and we are the one who put it there */
bool blocks_set(struct blocks *b, uint64_t block);
uint64_t blocks_count(const struct blocks *b);

#endif
