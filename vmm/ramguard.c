/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/ramguard.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "vmm/memroom.h"
#include "vmm/ramguard-priv.h"

/* Theory of operation
 *
 * A page of RAM has content of its own, or still shows what it showed when the VM began
 * (ownmap.h). At the moment, while the guest stands still, we note which are which and
 * protect those that have. The others need no protection: they are the parent's in the
 * image, whatever the guest or the page server does to them afterwards. So nothing is
 * faulted in, and a page server goes on filling RAM as before.
 *
 * Where the kernel tells what is not protected (ownmap_rescan()), all that is there is
 * protected before, while the guest runs, and who writes meanwhile is let go on at once: at
 * the moment there is only what was written in the last milliseconds.
 *
 * Afterwards the writer's threads sweep through RAM in a priority below the guest's. What
 * they come to is copied out and free for the guest to write. Where the guest writes first,
 * a thread of ours copies the unit aside into bounded memory and lets it go on. When that
 * memory is full the guest waits for the sweep, which takes that very piece next.
 *
 * A unit is 64 KiB, so that a guest which writes to many pages waits once for 16 of them;
 * of memory that is mapped by huge pages 2 MiB: to free a part of one would split it, and
 * the guest would be slower for long after.
 *
 * INV-MOMENT: what the source gives is RAM as it was at the moment. A page of the guest's
 *             own is protected before the first vCPU goes on, and freed only after its bytes
 *             were copied; pages that were not are never read from RAM.
 */

/* of the staging memory is touched before the moment: the first touch is slow */
#define STAGING_READY_BYTES (64ull << 20)

static_assert(STAGING_SMALL_BYTES == GUARD_UNIT_BYTES && STAGING_LARGE_BYTES == RAM_HUGE_BYTES,
              "a piece is a unit");

static int cut_slices(struct ramguard *g, struct err *e)
{
        size_t nregions;
        const struct ps_region *r = protection_regions(g->protection, &nregions);
        size_t max = nregions + g->ram->bytes / GUARD_SLICE_BYTES;

        g->slice = calloc(max, sizeof(*g->slice));
        if (!g->slice)
                return err_msg(e, ENOMEM, "no memory to guard guest RAM");
        for (size_t i = 0; i < nregions; i++) {
                for (uint64_t at = 0; at < r[i].bytes; at += GUARD_SLICE_BYTES) {
                        ASSERT(g->nslices < max);
                        g->slice[g->nslices++] = (struct guard_slice){
                                .gpa = r[i].gpa + at,
                                .bytes = MIN(GUARD_SLICE_BYTES, r[i].bytes - at),
                                .slot = r[i].gpa >= RAM_HIGH_GPA,
                        };
                }
        }
        return 0;
}

static int make_units(struct ramguard *g, struct err *e)
{
        uint64_t units = ram_end_gpa(g->ram) >> GUARD_UNIT_BITS;

        g->state = calloc(units, sizeof(*g->state));
        g->aside = calloc(units, sizeof(*g->aside));
        g->halves = calloc(units, sizeof(*g->halves));
        if (!g->state || !g->aside || !g->halves)
                return err_msg(e, ENOMEM, "no memory to guard guest RAM");
        /* the table is written at the moment */
        for (uint64_t i = 0; i < units; i += 4096)
                g->state[i] = UNIT_NONE;
        return 0;
}

static uint64_t staging_bytes(const struct ramguard_options *o)
{
        uint64_t bytes = o->staging_bytes;

        if (!bytes) {
                bytes = MIN(MAX(o->ram->bytes / 8, RAMGUARD_STAGING_MIN), RAMGUARD_STAGING_MAX);
                /* the kernel would not refuse it, but end the VM */
                bytes = MIN(bytes, memroom_bytes() / 2);
        }
        return MAX(ALIGN_DOWN(bytes, RAM_HUGE_BYTES), RAM_HUGE_BYTES);
}

static int make_staging(struct ramguard *g, uint64_t limit_bytes, struct err *e)
{
        int rc = staging_new(limit_bytes, &g->staging, e);

        if (rc == 0)
                staging_warm(g->staging, STAGING_READY_BYTES);
        return rc;
}

static unsigned threads_for(const struct ramguard_options *o)
{
        long cpus = sysconf(_SC_NPROCESSORS_ONLN);

        return MIN(MIN(o->cpus, (unsigned)MAX(cpus, 1)), GUARD_THREADS_MAX);
}

static int build(struct ramguard *g, const struct ramguard_options *o, struct err *e)
{
        const struct protection_options protection = {
                .ram = o->ram, .pager = o->pager, .cancelled = o->cancelled, .ctx = o->ctx,
        };
        int rc = ownmap_new(o->ram, &g->own, e);

        if (rc == 0)
                rc = make_units(g, e);
        if (rc == 0)
                rc = make_staging(g, staging_bytes(o), e);
        if (rc == 0)
                rc = protection_begin(&protection, &g->protection, e);
        if (rc == 0)
                rc = cut_slices(g, e);
        if (rc == 0)
                rc = guard_threads_start(g, threads_for(o), e);
        /* what is written meanwhile, and what comes to it, is less than all */
        if (rc == 0 && ownmap_can_rescan(g->own))
                rc = guard_arm_all(g, false, e);
        return rc;
}

int ramguard_new(const struct ramguard_options *o, struct ramguard **ret, struct err *e)
{
        struct ramguard *g = calloc(1, sizeof(*g));

        if (!g)
                return err_msg(e, ENOMEM, "no memory to guard guest RAM");
        g->ram = o->ram;
        g->pager = o->pager;
        g->parent = o->parent;
        g->kick_fd = g->stop_fd = -1;
        lock_init(&g->lock);
        cond_init(&g->armed);

        int rc = build(g, o, e);

        if (rc < 0)
                ramguard_free(g);
        else
                *ret = g;
        return rc;
}

int ramguard_freeze(struct ramguard *g, struct err *e)
{
        g->phase = GUARD_FREEZING;
        while (g->lifting)
                sched_yield();

        int rc = guard_arm_all(g, ownmap_can_rescan(g->own), e);

        g->phase = GUARD_FROZEN;
        return rc;
}

/* ---- the source ------------------------------------------------------------------ */

static void mark_parent(struct qs_span *ret, uint64_t base_gpa, uint64_t gpa, uint64_t end_gpa)
{
        for (; gpa < end_gpa; gpa += OWNMAP_PAGE_BYTES)
                qs_span_mark_parent(ret, (gpa - base_gpa) / OWNMAP_PAGE_BYTES);
}

/* What is the guest's own is copied out; the rest is not there (INV-MOMENT). */
static const void *span(void *ctx, uint64_t gpa, size_t bytes, void *buf, struct qs_span *ret,
                        struct err *e)
{
        struct ramguard *g = ctx;
        struct ownmap_run run;
        uint64_t at = gpa;

        ASSERT(IS_ALIGNED(gpa, GUARD_UNIT_BYTES) && IS_ALIGNED(bytes, GUARD_UNIT_BYTES));
        while (ownmap_run(g->own, at, gpa + bytes, 0, &run)) {
                mark_parent(ret, gpa, at, run.gpa);
                at = run.gpa + run.bytes;
        }
        if (at == gpa) {
                ret->kind = QS_SPAN_PARENT;
                return NULL;
        }
        mark_parent(ret, gpa, at, gpa + bytes);
        return guard_take(g, gpa, bytes, buf, e) < 0 ? NULL : buf;
}

static bool next(void *ctx, uint64_t *ret_gpa)
{
        return guard_next_wanted(ctx, ret_gpa);
}

struct qs_ram_source ramguard_source(struct ramguard *g)
{
        return (struct qs_ram_source){ .span = span, .next = next, .ctx = g,
                                       .parent = g->parent };
}

void ramguard_stats(const struct ramguard *g, struct ramguard_stats *ret)
{
        *ret = (struct ramguard_stats){
                .own_bytes = ownmap_count(g->own).own_pages * OWNMAP_PAGE_BYTES,
                .faults = g->faults, .aside_bytes = g->aside_bytes,
                .staging_bytes = staging_stats(g->staging).used_bytes_max,
                .waited = g->waited,
        };
}

/* ---- the end --------------------------------------------------------------------- */

/* Whatever is still held; and, of RAM that stays registered, what was protected without being
 * the guest's own: nobody would answer for it any more. */
static void lift_all(struct ramguard *g)
{
        size_t n;
        const struct ps_region *r = protection_regions(g->protection, &n);

        for (size_t i = 0; i < n; i++) {
                struct err e;

                /* cannot fail, and there is no other way */
                (void)protection_set(g->protection, r[i].gpa, r[i].bytes, false, &e);
        }
}

void ramguard_free(struct ramguard *g)
{
        if (!g)
                return;
        g->phase = GUARD_OVER;
        if (g->protection && (g->held || g->failed || g->pager))
                lift_all(g);
        guard_threads_stop(g);
        protection_end(g->protection);
        staging_free(g->staging);
        ownmap_free(g->own);
        cond_fini(&g->armed);
        lock_fini(&g->lock);
        free(g->slice);
        free(g->state);
        free(g->aside);
        free(g->halves);
        free(g);
}
