/* SPDX-License-Identifier: Apache-2.0 */
/* ramguard-priv.h - the inside of a guard, for ramguard.c (its life and its source),
 * ramguard-unit.c (what becomes of a unit) and ramguard-fault.c (its threads). */
#ifndef VMM_RAMGUARD_PRIV_H
#define VMM_RAMGUARD_PRIV_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "common/lock.h"
#include "vmm/ownmap.h"
#include "vmm/protection.h"
#include "vmm/ramguard.h"
#include "vmm/staging.h"

#define GUARD_UNIT_BITS 16
#define GUARD_UNIT_BYTES (1u << GUARD_UNIT_BITS)
/* One fault of a thread at a time, so as many wait as the guest has CPUs; KVM's asynchronous
 * page faults may bring some more. Who is not in the list waits until the sweep comes by. */
#define GUARD_WANTED_MAX 256
#define GUARD_THREADS_MAX 4
/* what one thread scans and protects in one go */
#define GUARD_SLICE_BYTES (64ull << 20)

/* NONE   has no content of its own; never protected for long
 *        -> HELD   ramguard_freeze()
 * HELD   protected; RAM holds what it held at the moment
 *        -> BUSY   whoever copies it, out or aside
 * BUSY   one thread has it
 *        -> HELD   a half of a huge page was copied out; no room to copy aside
 *        -> ASIDE  a copy is in the staging memory, the guest may write
 *        -> GONE   copied out, the guest may write
 * ASIDE  -> BUSY   whoever copies it out
 * GONE   nothing is left to do                                                    */
enum guard_state { UNIT_NONE, UNIT_HELD, UNIT_BUSY, UNIT_ASIDE, UNIT_GONE };

/* PREPARING  RAM is being protected while the guest runs: who writes goes on at once
 *            -> FREEZING  ramguard_freeze()
 * FREEZING   the guest stands still; who writes nevertheless waits
 *            -> FROZEN    all that is the guest's own is HELD
 * FROZEN     who writes goes on when the unit was copied
 *            -> OVER      ramguard_free()
 * OVER       nothing is copied any more                                            */
enum guard_phase { GUARD_PREPARING, GUARD_FREEZING, GUARD_FROZEN, GUARD_OVER };

struct guard_unit {
        uint64_t gpa;
        uint64_t bytes;                 /* GUARD_UNIT_BYTES or RAM_HUGE_BYTES */
        uint64_t index;                 /* gpa / GUARD_UNIT_BYTES: of huge ones the first */
};

struct guard_slice {
        uint64_t gpa;
        uint64_t bytes;
        unsigned slot;
};

struct ramguard {
        /* constant after ramguard_new() */
        const struct ram *ram;
        struct pager *pager;
        struct starter *starter;
        struct protection *protection;
        struct qs_image *parent;        /* of pages that are not the guest's own */
        struct staging *staging;
        struct guard_slice *slice;
        size_t nslices;
        unsigned nthreads;              /* that run */
        int kick_fd;                    /* one thread, to help arming */
        int stop_fd;
        pthread_t thread[GUARD_THREADS_MAX];

        /* written while slices are armed, constant in between */
        struct ownmap *own;

        /* any thread */
        _Atomic uint8_t *state;         /* enum guard_state, by index */
        _Atomic enum guard_phase phase;
        _Atomic unsigned lifting;       /* threads that look whether it is PREPARING */
        _Atomic bool failed;            /* err says why */
        _Atomic bool again;             /* slices were armed before */
        _Atomic size_t next_slice;
        _Atomic uint64_t held;          /* units that are not GONE */
        _Atomic uint64_t faults;
        _Atomic uint64_t aside_bytes;
        _Atomic uint64_t waited;
        _Atomic unsigned nwanted;       /* a look at the list before its lock is taken */

        /* by index; of the thread that has the unit BUSY */
        uint8_t **aside;
        uint8_t *halves;                /* of huge ones: which MiB were copied out */

        struct lock lock;
        struct cond armed;
        size_t slices_done GUARDED_BY(lock);
        struct err err GUARDED_BY(lock);        /* the first */
        uint64_t wanted[GUARD_WANTED_MAX] GUARDED_BY(lock);
        unsigned first_wanted GUARDED_BY(lock);
};

/* ---- ramguard-unit.c ---- */

/* Protects what has content of its own in a slice. */
int guard_hold(struct ramguard *g, const struct guard_slice *slice, struct err *e);
/* The page is written to. */
void guard_answer(struct ramguard *g, uint64_t gpa);
/* What the guest has of its own in [gpa, gpa+bytes), inside one block of 2 MiB, into buf;
 * the rest of buf is left as it is. */
int guard_take(struct ramguard *g, uint64_t gpa, size_t bytes, uint8_t *buf, struct err *e);
/* RAM that a thread waits for */
bool guard_next_wanted(struct ramguard *g, uint64_t *ret_gpa);
/* the first failure is kept */
void guard_fail(struct ramguard *g, const struct err *e);

/* ---- ramguard-fault.c ---- */

int guard_threads_start(struct ramguard *g, unsigned wanted, struct err *e);
void guard_threads_stop(struct ramguard *g);
/* Arms slices, as long as there are any; any number of threads. */
void guard_arm(struct ramguard *g);
/* All of them, with the help of the guard's threads. */
int guard_arm_all(struct ramguard *g, bool again, struct err *e);

#endif
