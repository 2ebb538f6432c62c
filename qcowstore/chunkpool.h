/* SPDX-License-Identifier: Apache-2.0 */
/* chunkpool.h - the chunks that a writer has, and who may use one.
 *
 * A thread need not wait until its chunk's turn to be placed has come, it takes
 * the next one; when all are in use it waits for one to be written. The thread
 * whose chunk is next to be placed has it already, so this always ends.
 *
 * Threads: any, but for new and free.
 */
#ifndef QCOWSTORE_CHUNKPOOL_H
#define QCOWSTORE_CHUNKPOOL_H

#include "qcowstore/chunk.h"

/* Chunks beyond one per thread: they even out clusters that take long. More
 * than eight gain nothing for two threads, and memory is bounded. */
#define CHUNKPOOL_SPARE 8

struct chunkpool;

/* NULL without memory */
struct chunkpool *chunkpool_new(unsigned chunks, unsigned cluster_bits,
                                enum qs_compress compress, int level, uint64_t seed,
                                const struct dedup *dedup);
/* frees the chunks, wherever they are */
void chunkpool_free(struct chunkpool *p);

/* NULL after chunkpool_stop() */
struct chunk *chunkpool_take(struct chunkpool *p);
void chunkpool_give(struct chunkpool *p, struct chunk *c);
void chunkpool_stop(struct chunkpool *p);

#endif
