/* SPDX-License-Identifier: Apache-2.0 */
/* What cannot be read is given back: the faulting thread stays asleep and its client
 * hears of it; others who waited for it are woken, fault anew and hear of it
 * themselves. Prefetch remembers it and goes on. Wrong bytes never reach a client.
 */
#include "pageserver/serve.h"

#include <stdatomic.h>

#include "common/check.h"
#include "common/clock.h"
#include "pageserver/session-priv.h"

/* between two sweeps, while other workers hold the last units */
#define RESWEEP_NS NS_PER_MS
/* Extents of a working set that the disk is told of before each step; of a long one no
 * more than this, for the kernel reads ahead there by itself. */
#define ANNOUNCE_EXTENTS 8u
#define ANNOUNCE_BYTES_MAX (1ull << 20)
/* how often a held attach looks at its percentage */
#define HOLD_LOOK_NS NS_PER_MS
/* without prefetch, clones may complete the cache: how often to look */
#define PASSIVE_LOOK_NS NS_PER_SEC
/* A dead client's memory goes in a moment; a living one that only closed its
 * socket may keep it for days. */
#define DEAD_LOOK_NS (2 * NS_PER_MS)
#define DRAIN_LOOK_NS (100 * NS_PER_MS)

static void mark_bad(struct session *s, uint64_t unit, const struct err *e)
{
        if (bits_set(&s->bad, unit))
                log_line(&s->host->log, "client %u: page %#llx: %s", s->id,
                         (unsigned long long)session_gpa(s, unit), e->text);
}

static void mark_good(struct session *s, uint64_t unit)
{
        if (bits_test(&s->bad, unit))
                bits_clear(&s->bad, unit);
}

/* ---- demand --------------------------------------------------------------- */

static void count_fault(struct session *s)
{
        static const uint64_t milestone[] = { 1, 16, 256 };
        uint64_t n = atomic_fetch_add(&s->count.demand_faults, 1) + 1;

        static_assert(ARRAY_SIZE(milestone) == ARRAY_SIZE(s->count.fault_ns),
                      "one time per milestone");
        for (size_t i = 0; i < ARRAY_SIZE(milestone); i++) {
                if (n == milestone[i])
                        atomic_store(&s->count.fault_ns[i], clock_now_ns());
        }
}

/* false: its thread sleeps on, for another worker or for its client to act */
static bool settle(struct session *s, uint64_t gpa, enum brought b, const struct err *e)
{
        uint64_t unit = gpa >> s->unit_bits;

        switch (b) {
        case BROUGHT_DATA:
                atomic_fetch_add(&s->count.demand_bytes, session_unit_bytes(s));
                break;
        case BROUGHT_ZERO:
                break;
        case BROUGHT_PRESENT:
        case BROUGHT_RETRY:
                bring_wake(s, unit);
                return true;
        case BROUGHT_QUEUED:
                return false;
        case BROUGHT_BAD:
                mark_bad(s, unit, e);
                outbox_put_bad_page(&s->outbox, gpa, e->text);
                s->host->poke(s->host);
                return false;
        }
        mark_good(s, unit);
        return true;
}

void serve_fault(struct session *s, struct serve_ctx *ctx, uint64_t gpa, uint64_t read_ns)
{
        struct err e;
        enum brought b = bring_fault(s, ctx, gpa, &e);

        if (settle(s, gpa, b, &e))
                histogram_add(&s->count.demand_ns,
                              (ctx->woken_ns ? ctx->woken_ns : clock_now_ns()) - read_ns);
        if (b == BROUGHT_BAD)
                return;
        if (b == BROUGHT_DATA || b == BROUGHT_ZERO) {
                prefetch_hint(&s->prefetch, gpa >> s->unit_bits);
                session_host_ring(s->host);
        }
        if (s->recording)
                record_touch(&s->record, gpa >> s->unit_bits);
        count_fault(s);
}

/* ---- background ----------------------------------------------------------- */

static void prefetch_step(struct session *s, struct serve_ctx *ctx, struct prefetch_span run,
                          uint64_t now_ns)
{
        struct err e;
        uint64_t n;

        switch (bring_run(s, ctx, run.first, run.end, &n, &e)) {
        case BROUGHT_DATA:
                prefetch_charge(&s->prefetch, n << s->unit_bits);
                atomic_fetch_add(&s->count.prefetch_bytes, n << s->unit_bits);
                histogram_add(&s->count.prefetch_ns, clock_now_ns() - now_ns);
                break;
        case BROUGHT_BAD:
                mark_bad(s, run.first, &e);
                break;
        case BROUGHT_PRESENT:
        case BROUGHT_ZERO:
        case BROUGHT_QUEUED:
        case BROUGHT_RETRY:
                break;                          /* the next sweep sees what is left */
        }
        if (run.first + n < run.end)
                prefetch_return(&s->prefetch, run.first + n, run.end);
}

static uint64_t missing(void *ctx, uint64_t from, uint64_t end)
{
        const struct session *s = ctx;
        const struct bits *maps[] = { fillmap_bits(s->map), &s->zeroed, &s->bad };

        return bits_next_unset(maps, ARRAY_SIZE(maps), from, end);
}

static bool resident(struct session *s)
{
        if (atomic_load(&s->count.resident_ns))
                return true;
        if (session_present_bytes(s) < s->total_bytes)
                return false;

        uint64_t never = 0;

        if (atomic_compare_exchange_strong(&s->count.resident_ns, &never, clock_now_ns())) {
                session_hold_done(s);
                outbox_put(&s->outbox, PSMSG_RESIDENT);
                s->host->poke(s->host);
        }
        return true;
}

/* every unit that can be had was there when the sweep passed it */
static bool only_bad_left(struct session *s)
{
        for (size_t i = 0; i < s->prefetch.spans; i++) {
                const struct prefetch_span *p = &s->prefetch.span[i];

                if (missing(s, p->first, p->end) < p->end)
                        return false;
        }
        return true;
}

static uint64_t swept(struct session *s, uint64_t now_ns)
{
        if (resident(s))
                return SERVE_NEVER;
        if (only_bad_left(s)) {
                session_hold_done(s);
                return SERVE_NEVER;
        }
        prefetch_restart(&s->prefetch);
        return now_ns + RESWEEP_NS;
}

static bool is_home(const struct session *s, const struct serve_ctx *ctx)
{
        unsigned first = s->host->workers;      /* those before serve faults */

        return first + s->id % (s->host->threads - first) == ctx->worker;
}

/* for what only the home worker does, now and then */
static bool due(struct session *s, uint64_t now_ns, uint64_t interval_ns)
{
        if (now_ns < s->next_look_ns)
                return false;
        s->next_look_ns = now_ns + interval_ns;
        return true;
}

static uint64_t passive(struct session *s, const struct serve_ctx *ctx, uint64_t now_ns)
{
        if (!is_home(s, ctx))
                return SERVE_NEVER;
        if (due(s, now_ns, PASSIVE_LOOK_NS) && resident(s))
                return SERVE_NEVER;
        return s->next_look_ns;
}

static void look_at_hold(struct session *s, const struct serve_ctx *ctx, uint64_t now_ns)
{
        /* all of it: resident() says when */
        if (s->hold_percent >= 100 || !is_home(s, ctx) || !due(s, now_ns, HOLD_LOOK_NS))
                return;
        if (session_present_bytes(s) >= s->total_bytes / 100 * s->hold_percent)
                session_hold_done(s);
}

/* What is read is waited for, run by run: a disk that could do many things at a time
 * would do two. So it is told what of the working set comes soon. Not where a rate
 * says how much may be read. */
static void announce(struct session *s, struct serve_ctx *ctx)
{
        const struct prefetch *p = &s->prefetch;
        struct qs_reader *reader;

        if (atomic_load(&s->announced) >= p->firsts ||
            prefetch_rate_now(&s->prefetch) != PREFETCH_UNLIMITED ||
            source_reader(s->source, ctx->hand, &reader, NULL) < 0)
                return;

        size_t i = atomic_fetch_add(&s->announced, ANNOUNCE_EXTENTS);

        busy_image(&ctx->busy, true);
        for (size_t end = i + ANNOUNCE_EXTENTS; i < MIN(end, p->firsts); i++)
                qs_read_soon(reader, session_gpa(s, p->first[i].first),
                             MIN((p->first[i].end - p->first[i].first) << s->unit_bits,
                                 ANNOUNCE_BYTES_MAX));
        busy_image(&ctx->busy, false);
}

static uint64_t background_serving(struct session *s, struct serve_ctx *ctx, uint64_t now_ns)
{
        uint64_t max = MAX(BRING_RUN_BYTES >> s->unit_bits, 1);
        struct prefetch_span run;
        uint64_t wait_ns;

        if (atomic_load(&s->holding))
                look_at_hold(s, ctx, now_ns);
        announce(s, ctx);
        switch (prefetch_pick(&s->prefetch, now_ns, max, missing, s, &run, &wait_ns)) {
        case PREFETCH_TAKE:
                prefetch_step(s, ctx, run, now_ns);
                return 0;
        case PREFETCH_AGAIN:
                return 0;
        case PREFETCH_WAIT:
                return wait_ns;
        case PREFETCH_SWEPT:
                return swept(s, now_ns);
        case PREFETCH_IS_OFF:
                break;
        }
        return passive(s, ctx, now_ns);
}

static bool memory_gone(const struct session *s)
{
        for (unsigned i = 0; i < s->nuffds; i++) {
                if (!uffd_memory_gone(s->uffd[i]))
                        return false;
        }
        return true;
}

/* Kernel threads may still wait, for a client that is dead, for what cannot be
 * had, and hold its memory. They get zeros of its own, which nobody will see. */
static void let_dead_go(struct session *s)
{
        const struct bits *bad = &s->bad;

        if (bits_count_any(&bad, 1, 0, s->units) == 0)
                return;
        for (uint64_t u = 0; u < s->units; u++) {
                if (!bits_test(&s->bad, u))
                        continue;
                bits_clear(&s->bad, u);
                (void)sink_zero(&s->sink, session_gpa(s, u), session_unit_bytes(s));
        }
}

/* INV-HOLE */
static uint64_t background_draining(struct session *s, const struct serve_ctx *ctx,
                                    uint64_t now_ns)
{
        if (!is_home(s, ctx))
                return SERVE_NEVER;
        if (memory_gone(s)) {
                atomic_store(&s->state, SESSION_GONE);
                s->host->poke(s->host);
                return SERVE_NEVER;
        }
        if (!session_client_dead(s))
                return now_ns + DRAIN_LOOK_NS;
        let_dead_go(s);
        return now_ns + DEAD_LOOK_NS;
}

void serve_prepare(struct session *s, struct serve_ctx *ctx)
{
        struct qs_reader *reader;

        /* a failure comes again, and is told, at the first fault */
        (void)source_reader(s->source, ctx->hand, &reader, NULL);
}

uint64_t serve_background(struct session *s, struct serve_ctx *ctx, uint64_t now_ns)
{
        switch (session_state(s)) {
        case SESSION_SERVING:
                return background_serving(s, ctx, now_ns);
        case SESSION_DRAINING:
                return background_draining(s, ctx, now_ns);
        case SESSION_HELLO:
        case SESSION_WELCOMED:
        case SESSION_GONE:
                break;
        }
        return SERVE_NEVER;
}
