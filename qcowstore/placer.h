/* SPDX-License-Identifier: Apache-2.0 */
/* placer.h - where in the file the clusters of a chunk go.
 *
 * Theory of operation
 *
 * Threads prepare chunks in any order; the placer lets them through one at a
 * time in the order of their tickets, so the layout depends on the content
 * only, not on timing (INV-ORDER). Nothing is written in here; it hands out
 * what to write where, and the thread does so after it has left.
 *
 * First it settles what is new (dedup.h): a cluster whose content the file has
 * refers to the place of that. One that has too many references is stored
 * again, raw, since its stream may not have been made (INV-COUNT).
 *
 * Space is given out at the end of the file. A chunk's raw clusters are one
 * run. Streams go on where the last one ended: the host cluster at pack_at is
 * filled only in part, its bytes wait in `tail`. A stream must be contiguous,
 * so it may leave its host cluster only into the next one of the file. When
 * other clusters have been put there (!joined), the streams that still fit
 * into the tail go there, the rest starts a new host cluster, and the
 * remainder of the old one stays zero. Streams go before the raw run when the
 * tail is the end of the file, else behind it, so that this happens at most
 * every second chunk.
 *
 * INV-WRITTEN: every host cluster is handed out for writing exactly once,
 *              whole: in a run of placement, or by placer_finish().
 * INV-ROOM:    each stream starts at most one new host cluster, so there are
 *              never more than one per guest cluster.
 */
#ifndef QCOWSTORE_PLACER_H
#define QCOWSTORE_PLACER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "qcowstore/chunk.h"

struct placer;

/* whole host clusters, in the chunk's memory */
struct placer_run {
        const uint8_t *data;
        uint64_t offset;
        size_t bytes;                   /* 0 = none */
};

struct placement {
        uint64_t raw_offset;            /* of the first raw cluster; they follow each other */
        struct placer_run run[2];       /* of streams: rest of the old tail, new clusters */
};

/* Host clusters from 1 on; refs counts them, with room for `room`; both it and
 * dedup are the caller's. NULL without memory. */
struct placer *placer_new(unsigned cluster_bits, uint32_t *refs, uint64_t room,
                          struct dedup *dedup);
void placer_free(struct placer *p);

/* Waits for its turn; fills in the entries of the chunk's clusters. false when
 * placer_stop() was called. Each ticket from 0 on must come exactly once. */
bool placer_place(struct placer *p, uint64_t ticket, struct chunk *c, struct placement *ret);
/* nobody waits any more; any thread */
void placer_stop(struct placer *p);
/* The last tail, to be written by the caller; it stays the placer's memory.
 * Returns the number of host clusters used. When all threads are done. */
uint64_t placer_finish(struct placer *p, struct placer_run *ret);

#endif
