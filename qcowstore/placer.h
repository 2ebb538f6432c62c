/* SPDX-License-Identifier: Apache-2.0 */
/* placer.h - where in the file the clusters of a chunk go.
 *
 * Theory of operation
 *
 * Threads prepare chunks in any order; the placer places them one at a time in
 * the order of their tickets, so the layout depends on the content and on the order
 * in which chunks were taken, not on when they were ready (INV-ORDER). That order is
 * the guest's, hence the layout the same each time, unless the source chooses
 * (qs_ram_source.next). Nobody waits: a chunk that comes early stays here, and
 * the thread that brings the one before it gets both. Nothing is written in
 * here; the thread does so afterwards.
 *
 * First it settles what is new (dedup.h): a cluster whose content the file has
 * refers to the place of that. One that has too many references is stored
 * again, raw, since its stream may not have been made (INV-COUNT); one that came as a
 * stream has that.
 *
 * Space is given out from one extent at a time: free ones of the file that a
 * chunk fits into, lowest first, then the end of the file, which has no end.
 * A chunk's raw clusters are one run. Streams go on where the last one ended:
 * the host cluster at pack_at is filled only in part, its bytes wait in `tail`. A
 * stream must be contiguous, so it may leave its host cluster only into the next
 * one of the file. When
 * other clusters have been put there (!joined), the streams that still fit
 * into the tail go there, the rest starts a new host cluster, and the
 * remainder of the old one stays zero. Streams go before the raw run when the
 * tail is the end of what was given out, else behind it, so that this happens at
 * most every second chunk.
 *
 * What comes ahead (ramplan.h) is placed like everything else, only not counted:
 * the chunk that refers to it does that.
 *
 * INV-WRITTEN: every host cluster is handed out for writing exactly once,
 *              whole: in a run of placement, or by placer_finish().
 * INV-ROOM:    each stream starts at most one new host cluster, so there are
 *              never more than one per guest cluster, and one more when an
 *              extent is left.
 */
#ifndef QCOWSTORE_PLACER_H
#define QCOWSTORE_PLACER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "qcowstore/chunk.h"
#include "qcowstore/space.h"

/* what a guest cluster's entry adds to the counts of its host clusters: active layer
 * and snapshot */
#define PLACER_REFS_PER_ENTRY 2

struct placer;

/* space and dedup are the caller's; space has room for a cluster per guest
 * cluster and one more, and nobody else takes any. NULL without memory. */
struct placer *placer_new(struct space *space, struct dedup *dedup);
void placer_free(struct placer *p);

/* Takes over the chunk and returns those whose turn has come, in order by
 * `next`, each with its entries and `to`: the caller's to write. NULL = none,
 * or placer_stop() was called. Each ticket from 0 on must come exactly once,
 * and fewer than PLACER_AHEAD_MAX may be on their way. */
#define PLACER_AHEAD_MAX 128
struct chunk *placer_place(struct placer *p, uint64_t ticket, struct chunk *c);
/* nothing is placed any more; any thread */
void placer_stop(struct placer *p);
/* The last tail, to be written by the caller; it stays the placer's memory.
 * What was not used goes back to the space. When all threads are done. */
void placer_finish(struct placer *p, struct placer_run *ret);

#endif
