/* SPDX-License-Identifier: Apache-2.0 */
/* Theory of operation
 *
 * A fault becomes a cluster; a cluster is FILLED, zeros, or data. FILLED: the
 * thread is woken and looks again. Zeros: the client gets zero pages, at any time
 * and as often as it likes, nobody else is concerned. Data: whoever claims it in
 * the fillmap reads it into his own buffer, checked (INV-VERIFIED), hands it to
 * the sink and sets FILLED. Losers leave their session in the fillmap and go on;
 * the claimant wakes them. No lock is held meanwhile.
 *
 * A cluster that cannot be read is given back: its faulting thread stays asleep
 * and its client hears of it; others who waited for it are woken, fault anew and
 * hear of it themselves. Prefetch remembers it and goes on. Wrong bytes never
 * reach a client.
 */
#include "pageserver/serve.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>

#include "common/check.h"
#include "common/clock.h"
#include "pageserver/session-priv.h"

/* zero clusters settled in one prefetch step: about as long as one data cluster */
#define ZERO_STEP_BYTES (256u << 10)
/* between two sweeps, while other workers hold the last clusters */
#define RESWEEP_NS NS_PER_MS
/* how often a held attach looks at its percentage */
#define HOLD_LOOK_NS NS_PER_MS
/* without prefetch, clones may complete the cache: how often to look */
#define PASSIVE_LOOK_NS NS_PER_SEC
/* A dead client's memory goes in a moment; a living one that only closed its
 * socket may keep it for days. */
#define DEAD_LOOK_NS (2 * NS_PER_MS)
#define DRAIN_LOOK_NS (100 * NS_PER_MS)

enum brought {
        BROUGHT_PRESENT,        /* it was there                                */
        BROUGHT_DATA,           /* read and installed                          */
        BROUGHT_ZERO,           /* zero pages given                            */
        BROUGHT_QUEUED,         /* another worker brings it and wakes us       */
        BROUGHT_RETRY,          /* the client's mappings change: ask again     */
        BROUGHT_BAD,            /* it cannot be had; the err says why          */
};

static uint64_t gpa_of(const struct session *s, uint64_t cluster)
{
        return cluster << s->cluster_bits;
}

static void wake(struct session *s, uint64_t cluster)
{
        sink_wake(&s->sink, gpa_of(s, cluster), session_cluster_bytes(s));
}

static void wake_waiter(void *waiter, uint64_t cluster)
{
        wake(waiter, cluster);
}

/* GONE counts as settled: where nothing is mapped any more nothing is missing.
 * Whether the whole client is gone is found out when it has hung up. */
static enum brought outcome(enum uffd_result r, enum brought done, struct err *e)
{
        switch (r) {
        case UFFD_DONE:
        case UFFD_GONE:
                return done;
        case UFFD_RETRY:
                return BROUGHT_RETRY;
        case UFFD_FAILED:
                break;
        }
        err_set(e, errno ? errno : EIO, "cannot install a page");
        return BROUGHT_BAD;
}

static enum brought bring_zero(struct session *s, uint64_t cluster, uint64_t n, struct err *e)
{
        uint64_t bytes = n << s->cluster_bits;
        enum brought b = outcome(sink_zero(&s->sink, gpa_of(s, cluster), bytes), BROUGHT_ZERO, e);

        if (b != BROUGHT_ZERO)
                return b;
        for (uint64_t i = 0; i < n; i++) {
                if (bits_set(&s->zeroed, cluster + i))
                        atomic_fetch_add(&s->count.zero_bytes, session_cluster_bytes(s));
        }
        return b;
}

static enum brought fetch(struct session *s, struct serve_ctx *ctx, struct qs_reader *reader,
                          uint64_t cluster, struct err *e)
{
        if (qs_cluster_read(reader, cluster, ctx->buf, e) < 0)
                return BROUGHT_BAD;
        return outcome(s->sink.ops->install(&s->sink, gpa_of(s, cluster), ctx->buf,
                                            session_cluster_bytes(s)), BROUGHT_DATA, e);
}

static enum claim claim(struct session *s, uint64_t cluster, bool demand)
{
        enum claim c;

        /* a claim lasts no longer than another worker's one read */
        while ((c = fillmap_claim(s->map, cluster, demand ? s : NULL)) == CLAIM_FULL)
                sched_yield();
        return c;
}

static enum brought bring_data(struct session *s, struct serve_ctx *ctx,
                               struct qs_reader *reader, uint64_t cluster, bool demand,
                               struct err *e)
{
        switch (claim(s, cluster, demand)) {
        case CLAIM_WON:
                break;
        case CLAIM_FILLED:
                return BROUGHT_PRESENT;
        default:
                return BROUGHT_QUEUED;
        }

        enum brought b = fetch(s, ctx, reader, cluster, e);

        fillmap_finish(s->map, cluster, b == BROUGHT_DATA, wake_waiter);
        return b;
}

/* zero_max: how many clusters of zeros may be settled in one go */
static enum brought bring(struct session *s, struct serve_ctx *ctx, uint64_t cluster,
                          bool demand, uint64_t zero_max, struct err *e)
{
        bool filled = fillmap_filled(s->map, cluster);
        struct qs_reader *reader;
        uint64_t zeros;

        if (filled && (!demand || !s->sink.ops->in_client))
                return BROUGHT_PRESENT;
        if (source_reader(s->source, ctx->worker, &reader, e) < 0 ||
            qs_zero_run(reader, cluster, MIN(zero_max, s->clusters - cluster), &zeros, e) < 0)
                return BROUGHT_BAD;
        if (zeros > 0)
                return bring_zero(s, cluster, zeros, e);
        if (filled)
                return fetch(s, ctx, reader, cluster, e);
        return bring_data(s, ctx, reader, cluster, demand, e);
}

static void mark_bad(struct session *s, uint64_t cluster, const struct err *e)
{
        if (bits_set(&s->bad, cluster))
                log_line(&s->host->log, "client %u: page %#llx: %s", s->id,
                         (unsigned long long)gpa_of(s, cluster), e->text);
}

static void mark_good(struct session *s, uint64_t cluster)
{
        if (bits_test(&s->bad, cluster))
                bits_clear(&s->bad, cluster);
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

void serve_fault(struct session *s, struct serve_ctx *ctx, uint64_t gpa)
{
        uint64_t cluster = gpa >> s->cluster_bits;
        struct err e;

        ASSERT(cluster < s->clusters);          /* regions_new() saw to it */
        switch (bring(s, ctx, cluster, true, 1, &e)) {
        case BROUGHT_DATA:
                if (!s->sink.ops->in_client)
                        wake(s, cluster);
                mark_good(s, cluster);
                atomic_fetch_add(&s->count.demand_bytes, session_cluster_bytes(s));
                prefetch_hint(&s->prefetch, cluster);
                break;
        case BROUGHT_ZERO:
                mark_good(s, cluster);
                prefetch_hint(&s->prefetch, cluster);
                break;
        case BROUGHT_PRESENT:
        case BROUGHT_RETRY:
                wake(s, cluster);
                break;
        case BROUGHT_QUEUED:
                break;
        case BROUGHT_BAD:
                mark_bad(s, cluster, &e);
                outbox_put_bad_page(&s->outbox, gpa, e.text);
                s->host->poke(s->host);
                return;
        }
        count_fault(s);
}

/* ---- background ----------------------------------------------------------- */

static void prefetch_step(struct session *s, struct serve_ctx *ctx, uint64_t cluster)
{
        uint64_t zero_max = MAX(ZERO_STEP_BYTES >> s->cluster_bits, 1u);
        struct err e;

        switch (bring(s, ctx, cluster, false, zero_max, &e)) {
        case BROUGHT_DATA:
                prefetch_charge(&s->prefetch, session_cluster_bytes(s));
                atomic_fetch_add(&s->count.prefetch_bytes, session_cluster_bytes(s));
                break;
        case BROUGHT_BAD:
                mark_bad(s, cluster, &e);
                break;
        case BROUGHT_PRESENT:
        case BROUGHT_ZERO:
        case BROUGHT_QUEUED:
        case BROUGHT_RETRY:
                break;                          /* the next sweep sees what is left */
        }
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

/* every cluster that can be had was there when the sweep passed it */
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
        return s->id % s->host->workers == ctx->worker;
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

static uint64_t background_serving(struct session *s, struct serve_ctx *ctx, uint64_t now_ns)
{
        uint64_t cluster, wait_ns;

        if (atomic_load(&s->holding))
                look_at_hold(s, ctx, now_ns);
        switch (prefetch_pick(&s->prefetch, now_ns, missing, s, &cluster, &wait_ns)) {
        case PREFETCH_TAKE:
                prefetch_step(s, ctx, cluster);
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

        if (bits_count_any(&bad, 1, 0, s->clusters) == 0)
                return;
        for (uint64_t c = 0; c < s->clusters; c++) {
                if (!bits_test(&s->bad, c))
                        continue;
                bits_clear(&s->bad, c);
                (void)sink_zero(&s->sink, gpa_of(s, c), session_cluster_bytes(s));
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
