/* SPDX-License-Identifier: Apache-2.0 */
/* record.h - which units a client touched, in the order of their first touch.
 *
 * Theory of operation
 *
 * A bitmap says whether a touch is the first one of its unit; who sets the bit
 * takes the next slot of a list and writes the unit there. Nothing is locked or
 * allocated, so a worker may do it for every fault. Memory is mapped at the
 * start and used where it is written.
 *
 * Exporting joins touches into extents. Several vCPUs that walk through memory
 * side by side take turns in the list; so a touch may also go on with one of the
 * extents before the last one, as long as that stays short: nobody comes much
 * earlier than he was touched.
 *
 * INV-FIRST: a unit is in the list at most once, and before all that were touched
 *            after record_touch() of it had returned.
 *
 * Ownership: of its session; memory is its own.
 * Threads:   touch and export from any, at any time; init and fini when nobody
 *            else has it.
 */
#ifndef PAGESERVER_RECORD_H
#define PAGESERVER_RECORD_H

#include <stdint.h>

#include "common/err.h"
#include "pageserver/bits.h"

/* 4 GiB of small pages: a guest that touches more has no working set to speak of.
 * What comes later is not recorded. */
#define RECORD_TOUCHES_MAX (1u << 20)
/* extents that a touch may go on with: vCPUs that run through memory at a time */
#define RECORD_OPEN_MAX 8u
/* an extent that is not the last grows no longer than this */
#define RECORD_RUN_BYTES (256u << 10)

struct record {
        /* constant after record_init() */
        uint64_t slots;
        /* any thread, atomic */
        struct bits touched;
        _Atomic uint64_t *slot;         /* unit + 1; 0 = not written yet */
        _Atomic uint64_t taken;         /* may be more than slots: those are lost */
};

/* units: of the client's guest-physical space. 0 or -ENOMEM. */
int record_init(struct record *r, uint64_t units);
/* also of one that is all zeros, which was never begun */
void record_fini(struct record *r);

void record_touch(struct record *r, uint64_t unit);
/* how many units are in the list */
uint64_t record_touches(const struct record *r);

/* A sealed memfd that holds what a WORKING-SET section does (snapback-image(5)):
 * u64 address and u64 length of extents, little-endian, in the order of first
 * touch. They do not overlap and end at end_gpa at the latest. Touches that happen
 * meanwhile may be in it or not. */
int record_export(const struct record *r, uint64_t unit_bytes, uint64_t end_gpa, int *ret_fd,
                  struct err *e);

#endif
