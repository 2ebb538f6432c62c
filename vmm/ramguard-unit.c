/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <time.h>

#include "common/check.h"
#include "common/clock.h"
#include "vmm/ramguard-priv.h"

/* What becomes of a unit: held, copied aside for a writer, copied out for the image. */

#define HALF_BYTES (1u << 20)
#define BOTH_HALVES 3u
/* of one who waits for a unit, before he sleeps */
#define YIELDS 8

static struct guard_unit unit_at(const struct ramguard *g, uint64_t gpa)
{
        uint64_t bytes = ownmap_huge(g->own, gpa) ? RAM_HUGE_BYTES : GUARD_UNIT_BYTES;

        gpa = ALIGN_DOWN(gpa, bytes);
        return (struct guard_unit){ gpa, bytes, gpa >> GUARD_UNIT_BITS };
}

static enum guard_state state_of(struct ramguard *g, const struct guard_unit *u)
{
        return atomic_load(&g->state[u->index]);
}

void guard_fail(struct ramguard *g, const struct err *e)
{
        lock_acquire(&g->lock);
        if (!g->failed)
                g->err = *e;
        lock_release(&g->lock);
        g->failed = true;
}

/* ---- the moment ------------------------------------------------------------------ */

enum hold { HOLD_EARLY, HOLD_AGAIN, HOLD_ONCE };

static int scan(struct ramguard *g, const struct guard_slice *s, enum hold how, struct err *e)
{
        uint64_t offset = s->gpa - g->ram->slots[s->slot].gpa;

        return how == HOLD_AGAIN ? ownmap_rescan(g->own, s->slot, offset, s->bytes, e)
                                 : ownmap_scan(g->own, s->slot, offset, s->bytes, e);
}

/* What the scan found is held from here on. True: it is to be protected now. */
static bool hold_unit(struct ramguard *g, const struct guard_unit *u, enum hold how)
{
        bool hold = how == HOLD_AGAIN ? ownmap_fresh(g->own, u->gpa, u->bytes)
                                      : ownmap_any(g->own, u->gpa, u->bytes);

        if (hold && state_of(g, u) == UNIT_NONE) {
                atomic_store(&g->state[u->index], UNIT_HELD);
                atomic_fetch_add(&g->held, 1);
        }
        return hold;
}

/* INV-NOMARK: no absent page is protected. In mappings of files and of hugetlbfs the kernel
 *             would put a marker in its place, which a scan takes for a page that is there
 *             (ownmap.h), and over which UFFDIO_ZEROPAGE puts nothing: who touches the page
 *             would fault for ever. */
static bool has_markers(const struct ramguard *g)
{
        return g->ram->of_file || g->ram->hugetlb;
}

static int protect(struct ramguard *g, uint64_t gpa, uint64_t end, struct err *e)
{
        return gpa == end ? 0 : protection_set(g->protection, gpa, end - gpa, true, e);
}

/* Where there are no markers whole units, however few of their pages are the guest's own:
 * fewer calls, and absent pages are passed over. */
static int protect_run(struct ramguard *g, uint64_t gpa, uint64_t end, struct err *e)
{
        struct ownmap_run run = { .gpa = gpa };
        int rc = 0;

        if (!has_markers(g))
                return protect(g, gpa, end, e);
        while (rc == 0 && ownmap_run(g->own, run.gpa + run.bytes, end, 0, &run))
                rc = protect(g, run.gpa, run.gpa + run.bytes, e);
        return rc;
}

static int hold_units(struct ramguard *g, const struct guard_slice *slice, enum hold how,
                      struct err *e)
{
        uint64_t end = slice->gpa + slice->bytes;
        uint64_t run = slice->gpa;
        int rc = 0;

        for (uint64_t at = slice->gpa; rc == 0 && at < end;) {
                struct guard_unit u = unit_at(g, at);

                at += u.bytes;
                if (hold_unit(g, &u, how))
                        continue;
                rc = protect_run(g, run, u.gpa, e);
                run = at;
        }
        return rc < 0 ? rc : protect_run(g, run, end, e);
}

/* While the guest runs. What is not protected at the moment is found again for that; so
 * nothing may be protected that is in no map, nor be in the map without being there.
 * Where there are markers only what was found is protected (INV-NOMARK). Other memory is
 * protected first and scanned then, which is quicker. */
static int hold_early(struct ramguard *g, const struct guard_slice *slice, struct err *e)
{
        bool markers = has_markers(g);
        uint64_t end = slice->gpa + slice->bytes;
        int rc = markers ? 0 : protect(g, slice->gpa, end, e);

        if (rc == 0)
                rc = scan(g, slice, HOLD_EARLY, e);
        if (rc == 0 && markers)
                rc = protect_run(g, slice->gpa, end, e);
        for (uint64_t at = slice->gpa; rc == 0 && at < end;) {
                struct guard_unit u = unit_at(g, at);

                (void)hold_unit(g, &u, HOLD_EARLY);
                at += u.bytes;
        }
        return rc;
}

int guard_hold(struct ramguard *g, const struct guard_slice *slice, struct err *e)
{
        enum hold how = g->again ? HOLD_AGAIN : HOLD_ONCE;
        int rc;

        if (g->phase == GUARD_PREPARING)
                return hold_early(g, slice, e);
        rc = scan(g, slice, how, e);
        return rc < 0 ? rc : hold_units(g, slice, how, e);
}

/* ---- claims ---------------------------------------------------------------------- */

/* Who has a unit may have a lower priority than who waits for it, and copies for some 100 us:
 * one who only yields takes his CPU all the while. */
static void stand_back(unsigned tries)
{
        static const struct timespec nap = { .tv_nsec = 50 * NS_PER_US };

        if (tries < YIELDS)
                sched_yield();
        else
                nanosleep(&nap, NULL);
}

/* INV-WOKEN: a unit that was copied is no longer BUSY before its protection is lifted. Who
 *            finds it BUSY need do nothing: his message was there before the lift, which wakes
 *            its thread. Who comes later lifts it himself, as often as he likes. So whoever
 *            has had a unit BUSY lifts it, unless it is held again, and that is so for huge
 *            ones only, whose finders wait.
 *
 * The unit is this thread's, and what it was before. There is nothing to have where that is
 * NONE or GONE. Whoever has it is waited for: he copies, and waits for nobody. */
static enum guard_state claim(struct ramguard *g, const struct guard_unit *u)
{
        for (unsigned tries = 0;; tries++) {
                uint8_t was = state_of(g, u);

                if (was == UNIT_NONE || was == UNIT_GONE)
                        return was;
                if (was == UNIT_BUSY)
                        stand_back(tries);
                else if (atomic_compare_exchange_weak(&g->state[u->index], &was, UNIT_BUSY))
                        return was;
        }
}

static void put_back(struct ramguard *g, const struct guard_unit *u, enum guard_state state)
{
        if (state == UNIT_GONE)
                atomic_fetch_sub(&g->held, 1);
        atomic_store(&g->state[u->index], state);
}

static void lift(struct ramguard *g, uint64_t gpa, uint64_t bytes)
{
        struct err e;

        if (protection_set(g->protection, gpa, bytes, false, &e) < 0)
                guard_fail(g, &e);
}

/* Pages of the guest's own, and no others: one that is missing must not be touched. */
static void copy_own(struct ramguard *g, uint64_t gpa, uint64_t bytes, uint8_t *to,
                     const uint8_t *from)
{
        struct ownmap_run run = { .gpa = gpa };

        while (ownmap_run(g->own, run.gpa + run.bytes, gpa + bytes, 0, &run))
                memcpy(to + (run.gpa - gpa), from + (run.gpa - gpa), run.bytes);
}

/* ---- a thread of the guest wants to write ---------------------------------------- */

/* It waits until the sweep has been there, which is told to go there next. */
static void want_locked(struct ramguard *g, const struct guard_unit *u) REQUIRES(g->lock)
{
        for (uint64_t at = 0; at < u->bytes && g->nwanted < GUARD_WANTED_MAX; at += HALF_BYTES) {
                g->wanted[(g->first_wanted + g->nwanted) % GUARD_WANTED_MAX] = u->gpa + at;
                g->nwanted++;
        }
}

static void want(struct ramguard *g, const struct guard_unit *u)
{
        lock_acquire(&g->lock);
        want_locked(g, u);
        lock_release(&g->lock);
}

static bool next_locked(struct ramguard *g, uint64_t *ret_gpa) REQUIRES(g->lock)
{
        if (g->nwanted == 0)
                return false;
        *ret_gpa = g->wanted[g->first_wanted];
        g->first_wanted = (g->first_wanted + 1) % GUARD_WANTED_MAX;
        g->nwanted--;
        return true;
}

bool guard_next_wanted(struct ramguard *g, uint64_t *ret_gpa)
{
        if (atomic_load_explicit(&g->nwanted, memory_order_relaxed) == 0)
                return false;
        lock_acquire(&g->lock);

        bool any = next_locked(g, ret_gpa);

        lock_release(&g->lock);
        return any;
}

/* false: there is no room */
static bool copy_aside(struct ramguard *g, const struct guard_unit *u)
{
        uint8_t *room = staging_get(g->staging, u->bytes);

        if (!room) {
                put_back(g, u, UNIT_HELD);
                want(g, u);
                return false;
        }
        copy_own(g, u->gpa, u->bytes, room, ram_at(g->ram, u->gpa, u->bytes));
        g->aside[u->index] = room;
        atomic_fetch_add(&g->aside_bytes, u->bytes);
        put_back(g, u, UNIT_ASIDE);
        lift(g, u->gpa, u->bytes);
        return true;
}

/* INV-REARM: whoever lifts protection while RAM is being prepared is done before the moment,
 *            which protects anew what it finds unprotected. Each is counted before he looks
 *            at the phase; the moment changes it before it looks at the count.
 * All of the block: whether it is huge is not known yet. */
static bool lift_early(struct ramguard *g, uint64_t gpa)
{
        atomic_fetch_add(&g->lifting, 1);

        bool early = g->phase == GUARD_PREPARING;

        if (early)
                lift(g, ALIGN_DOWN(gpa, RAM_HUGE_BYTES), RAM_HUGE_BYTES);
        atomic_fetch_sub(&g->lifting, 1);
        return early;
}

void guard_answer(struct ramguard *g, uint64_t gpa)
{
        if (lift_early(g, gpa))
                return;
        /* somebody but a vCPU writes at the moment */
        while (g->phase == GUARD_FREEZING)
                sched_yield();

        struct guard_unit u = unit_at(g, gpa);

        atomic_fetch_add(&g->faults, 1);
        /* whoever copies a small unit lifts its protection, and wakes */
        if (u.bytes == GUARD_UNIT_BYTES && state_of(g, &u) == UNIT_BUSY)
                return;

        enum guard_state was = claim(g, &u);

        if (was == UNIT_HELD && g->phase == GUARD_FROZEN) {
                if (!copy_aside(g, &u))
                        atomic_fetch_add(&g->waited, 1);
                return;
        }
        if (was != UNIT_NONE && was != UNIT_GONE)
                put_back(g, &u, was);
        lift(g, u.gpa, u.bytes);
}

/* ---- the sweep ------------------------------------------------------------------- */

static const uint8_t *source_of(struct ramguard *g, const struct guard_unit *u,
                                enum guard_state was)
{
        return was == UNIT_ASIDE ? g->aside[u->index] : ram_at(g->ram, u->gpa, u->bytes);
}

static void drop_aside(struct ramguard *g, const struct guard_unit *u)
{
        staging_put(g->staging, g->aside[u->index], u->bytes);
        g->aside[u->index] = NULL;
}

/* A half, or both. It stays protected as a whole until both are out: to lift one of them
 * would split the page. */
static void take_huge(struct ramguard *g, const struct guard_unit *u, uint64_t gpa, size_t bytes,
                      uint8_t *buf)
{
        enum guard_state was = claim(g, u);

        ASSERT(was == UNIT_HELD || was == UNIT_ASIDE);
        memcpy(buf, source_of(g, u, was) + (gpa - u->gpa), bytes);
        for (uint64_t at = gpa - u->gpa; at < gpa - u->gpa + bytes; at += HALF_BYTES)
                g->halves[u->index] |= (uint8_t)(1u << (at / HALF_BYTES));
        if (g->halves[u->index] != BOTH_HALVES) {
                put_back(g, u, was);
                return;
        }
        if (was == UNIT_ASIDE)
                drop_aside(g, u);
        put_back(g, u, UNIT_GONE);
        if (was == UNIT_HELD)
                lift(g, u->gpa, u->bytes);
}

/* All of a chunk are claimed, copied, and then let go together: one call instead of 16. */
static void take_small(struct ramguard *g, uint64_t gpa, size_t bytes, uint8_t *buf)
{
        enum guard_state was[RAM_HUGE_BYTES / GUARD_UNIT_BYTES];
        unsigned n = (unsigned)(bytes >> GUARD_UNIT_BITS);
        unsigned run = 0;

        for (unsigned i = 0; i < n; i++) {
                struct guard_unit u = unit_at(g, gpa + ((uint64_t)i << GUARD_UNIT_BITS));

                was[i] = claim(g, &u);
                if (was[i] == UNIT_HELD || was[i] == UNIT_ASIDE)
                        copy_own(g, u.gpa, u.bytes, buf + (u.gpa - gpa), source_of(g, &u, was[i]));
        }
        for (unsigned i = 0; i < n; i++) {
                struct guard_unit u = unit_at(g, gpa + ((uint64_t)i << GUARD_UNIT_BITS));

                if (was[i] == UNIT_ASIDE)
                        drop_aside(g, &u);
                if (was[i] == UNIT_HELD || was[i] == UNIT_ASIDE)
                        put_back(g, &u, UNIT_GONE);
        }
        /* what was aside too: INV-WOKEN */
        for (unsigned i = 0; i <= n; i++) {
                if (i < n && (was[i] == UNIT_HELD || was[i] == UNIT_ASIDE))
                        continue;
                if (run < i)
                        lift(g, gpa + ((uint64_t)run << GUARD_UNIT_BITS),
                             (uint64_t)(i - run) << GUARD_UNIT_BITS);
                run = i + 1;
        }
}

/* a moment ago */
static bool has_room(struct ramguard *g)
{
        void *piece = staging_get(g->staging, RAM_HUGE_BYTES);

        if (piece)
                staging_put(g->staging, piece, RAM_HUGE_BYTES);
        return piece;
}

/* What is wanted is copied aside as far as there is room again; its turn would come later. */
static void help_wanted(struct ramguard *g)
{
        uint64_t gpa;

        while (g->nwanted && has_room(g) && guard_next_wanted(g, &gpa)) {
                struct guard_unit u = unit_at(g, gpa);
                enum guard_state was = claim(g, &u);

                if (was == UNIT_HELD)
                        (void)copy_aside(g, &u);
                if (was != UNIT_ASIDE)
                        continue;
                put_back(g, &u, was);
                lift(g, u.gpa, u.bytes);        /* INV-WOKEN */
        }
}

int guard_take(struct ramguard *g, uint64_t gpa, size_t bytes, uint8_t *buf, struct err *e)
{
        struct guard_unit u = unit_at(g, gpa);

        if (u.bytes == RAM_HUGE_BYTES)
                take_huge(g, &u, gpa, bytes, buf);
        else
                take_small(g, gpa, bytes, buf);
        help_wanted(g);
        if (!g->failed)
                return 0;
        lock_acquire(&g->lock);
        *e = g->err;
        lock_release(&g->lock);
        return e->code;
}
