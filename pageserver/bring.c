/* SPDX-License-Identifier: Apache-2.0 */
/* Theory of operation
 *
 * A unit is FILLED, zeros, or data. FILLED: the thread is woken and looks again.
 * Zeros: the client gets zero pages, at any time and as often as it likes, nobody
 * else is concerned. Data: whoever claims it in the fillmap reads it into his own
 * buffer, checked (INV-VERIFIED), hands it to the sink and sets FILLED. Losers leave
 * their session in the fillmap and go on; the claimant wakes them. No lock is held
 * while anything is read.
 *
 * For a fault the whole unit is installed before its thread is woken: whatever a worker
 * does behind the wake keeps the thread waiting, where both share a CPU (measured: 21 us
 * instead of 23 at 16 KiB). Only of large units the page comes first.
 *
 * Prefetch claims several units that lie behind each other, so that one read and one
 * install serve them all: system calls, not bytes, are what a unit costs. No fault waits
 * for it (CLAIM_AHEAD).
 *
 * A page that the client gave back is zeros; sinks leave it alone (INV-REMOVED).
 */
#include "pageserver/bring.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "common/check.h"
#include "common/clock.h"
#include "pageserver/session-priv.h"

/* a unit up to here is installed before its thread is woken: 20 us */
#define WHOLE_BYTES_MAX (64u << 10)

void bring_wake(struct session *s, uint64_t unit)
{
        sink_wake(&s->sink, session_gpa(s, unit), session_unit_bytes(s));
}

static void wake_waiter(void *waiter, uint64_t unit)
{
        struct session *s = waiter;

        atomic_fetch_sub(&s->count.queued, 1);
        bring_wake(s, unit);
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

/* Nobody waits for them: where a zero page costs memory (huge ones) it is left to the
 * first fault. */
static bool zeros_can_wait(const struct session *s, bool demand)
{
        return !demand && s->sink.page_bytes > PSMSG_PAGE_SMALL;
}

static enum brought bring_zeros(struct session *s, uint64_t unit, uint64_t n, bool demand,
                                struct err *e)
{
        if (!zeros_can_wait(s, demand)) {
                enum uffd_result r = sink_zero(&s->sink, session_gpa(s, unit), n << s->unit_bits);
                enum brought b = outcome(r, BROUGHT_ZERO, e);

                if (b != BROUGHT_ZERO)
                        return b;
        }
        for (uint64_t i = 0; i < n; i++) {
                if (bits_set(&s->zeroed, unit + i))
                        atomic_fetch_add(&s->count.zero_bytes, session_unit_bytes(s));
        }
        return BROUGHT_ZERO;
}

static enum brought install(struct session *s, struct serve_ctx *ctx, uint64_t unit, uint64_t n,
                            struct err *e)
{
        return outcome(s->sink.ops->install(&s->sink, session_gpa(s, unit), ctx->buf,
                                            n << s->unit_bits), BROUGHT_DATA, e);
}

/* ---- what a unit is --------------------------------------------------------- */

/* What begins at a unit: *ret_n units of one kind, at most max. */
static int look(struct session *s, struct qs_reader *reader, uint64_t unit, uint64_t max,
                enum qs_kind *ret_kind, uint64_t *ret_n, struct err *e)
{
        unsigned shift = s->unit_bits - s->cluster_bits;
        uint64_t first = unit << shift;
        uint64_t left = MIN(max << shift, s->clusters - first);
        int rc = qs_extent_at(reader, first, left, ret_kind, ret_n, e);

        if (rc < 0 || shift == 0)
                return rc;
        /* behind the end of the disk are zeros */
        *ret_n = *ret_n == left ? max : *ret_n >> shift;
        if (*ret_n == 0) {
                *ret_kind = QS_PACKED;          /* several kinds in one: the most work */
                *ret_n = 1;
        }
        return 0;
}

/* What begins at a unit, as look() says it, and the reader for it. */
static int look_up(struct session *s, struct serve_ctx *ctx, uint64_t unit, uint64_t max,
                   struct qs_reader **ret, enum qs_kind *ret_kind, uint64_t *ret_n,
                   struct err *e)
{
        int rc;

        busy_image(&ctx->busy, true);
        rc = source_reader(s->source, ctx->hand, ret, e);
        if (rc == 0)
                rc = look(s, *ret, unit, max, ret_kind, ret_n, e);
        busy_image(&ctx->busy, false);
        return rc;
}

/* One unit into the buffer, at place i. */
static int read_unit(struct session *s, struct serve_ctx *ctx, struct qs_reader *reader,
                     uint64_t unit, uint64_t i, struct err *e)
{
        char *to = (char *)ctx->buf + (i << s->unit_bits);
        bool zero;

        if (s->unit_bits == s->cluster_bits)
                return qs_cluster_read(reader, unit, to, e);

        int rc = qs_span_read(reader, session_gpa(s, unit), session_unit_bytes(s), to, &zero, e);

        if (rc == 0 && zero)                    /* of several extents, all zeros */
                memset(to, 0, session_unit_bytes(s));
        return rc;
}

static int64_t read_units(struct session *s, struct serve_ctx *ctx, struct qs_reader *reader,
                          uint64_t unit, uint64_t n, enum qs_kind kind, struct err *e)
{
        if (kind == QS_RAW && n > 1 && s->unit_bits == s->cluster_bits &&
            qs_clusters_read(reader, unit, n, ctx->buf, e) == 0)
                return (int64_t)n;
        for (uint64_t i = 0; i < n; i++) {
                int rc = read_unit(s, ctx, reader, unit + i, i, e);

                if (rc < 0)
                        return i > 0 ? (int64_t)i : rc;
        }
        return (int64_t)n;
}

/* Of n units of a kind; returns how many could be read, or an error for the first. */
static int64_t read_run(struct session *s, struct serve_ctx *ctx, struct qs_reader *reader,
                        uint64_t unit, uint64_t n, enum qs_kind kind, struct err *e)
{
        busy_image(&ctx->busy, true);

        int64_t had = read_units(s, ctx, reader, unit, n, kind, e);

        busy_image(&ctx->busy, false);
        return had;
}

/* ---- demand ----------------------------------------------------------------- */

/* Of a unit that has been read, what holds gpa: [part, part + bytes). A page that was
 * given back meanwhile was not installed: its thread is woken and faults anew. */
static enum brought install_and_wake(struct session *s, struct serve_ctx *ctx, uint64_t part,
                                     uint64_t bytes, struct err *e)
{
        const char *data = (char *)ctx->buf + (part & (session_unit_bytes(s) - 1));
        enum brought b = outcome(s->sink.ops->install(&s->sink, part, data, bytes), BROUGHT_DATA,
                                 e);

        if (b != BROUGHT_DATA)
                return b;
        if (!s->sink.ops->in_client || s->sink.removed)
                sink_wake(&s->sink, part, bytes);
        ctx->woken_ns = clock_now_ns();
        return b;
}

static enum brought fetch(struct session *s, struct serve_ctx *ctx, struct qs_reader *reader,
                          uint64_t gpa, struct err *e)
{
        uint64_t unit = gpa >> s->unit_bits;

        if (read_run(s, ctx, reader, unit, 1, QS_PACKED, e) < 0)
                return BROUGHT_BAD;

        uint64_t bytes = session_unit_bytes(s);

        if (bytes > WHOLE_BYTES_MAX)
                bytes = s->sink.page_bytes;

        enum brought b = install_and_wake(s, ctx, ALIGN_DOWN(gpa, bytes), bytes, e);

        if (b != BROUGHT_DATA || bytes == session_unit_bytes(s))
                return b;
        return install(s, ctx, unit, 1, e);
}

static enum claim claim_to_wait(struct session *s, uint64_t unit)
{
        enum claim c;

        /* counted first: whoever wakes us counts down */
        atomic_fetch_add(&s->count.queued, 1);
        /* a claim lasts no longer than another worker's one read, unless that hangs */
        while ((c = fillmap_claim(s->map, unit, s)) == CLAIM_FULL && !session_withheld(s))
                sched_yield();
        if (c != CLAIM_QUEUED)
                atomic_fetch_sub(&s->count.queued, 1);
        return c;
}

static enum brought bring_data(struct session *s, struct serve_ctx *ctx,
                               struct qs_reader *reader, uint64_t gpa, struct err *e)
{
        uint64_t unit = gpa >> s->unit_bits;

        switch (claim_to_wait(s, unit)) {
        case CLAIM_WON:
                break;
        case CLAIM_AHEAD:
                return fetch(s, ctx, reader, gpa, e);
        case CLAIM_FILLED:
                return BROUGHT_PRESENT;
        case CLAIM_FULL:
                return BROUGHT_RETRY;           /* nobody looks before the image answers */
        default:
                return BROUGHT_QUEUED;
        }

        enum brought b = fetch(s, ctx, reader, gpa, e);

        fillmap_finish(s->map, unit, b == BROUGHT_DATA, wake_waiter);
        return b;
}

static enum brought bring_removed(struct session *s, uint64_t gpa, struct err *e)
{
        uint64_t page = ALIGN_DOWN(gpa, s->sink.page_bytes);

        return outcome(sink_zero(&s->sink, page, s->sink.page_bytes), BROUGHT_ZERO, e);
}

enum brought bring_fault(struct session *s, struct serve_ctx *ctx, uint64_t gpa, struct err *e)
{
        uint64_t unit = gpa >> s->unit_bits;
        bool filled = fillmap_filled(s->map, unit);
        struct qs_reader *reader;
        enum qs_kind kind;
        uint64_t n;

        ASSERT(unit < s->units);                /* regions_new() saw to it */
        ctx->woken_ns = 0;
        if (s->sink.removed && removed_test(s->sink.removed, gpa))
                return bring_removed(s, gpa, e);
        if (filled && !s->sink.ops->in_client)
                return BROUGHT_PRESENT;
        if (look_up(s, ctx, unit, 1, &reader, &kind, &n, e) < 0)
                return BROUGHT_BAD;
        if (kind == QS_ZERO)
                return bring_zeros(s, unit, 1, true, e);
        if (filled)
                return fetch(s, ctx, reader, gpa, e);
        return bring_data(s, ctx, reader, gpa, e);
}

/* ---- prefetch --------------------------------------------------------------- */

static uint64_t claim_run(struct session *s, uint64_t unit, uint64_t n)
{
        uint64_t won = 0;

        while (won < n && fillmap_claim_ahead(s->map, unit + won))
                won++;
        return won;
}

static enum brought run_of_data(struct session *s, struct serve_ctx *ctx,
                                struct qs_reader *reader, uint64_t unit, enum qs_kind kind,
                                uint64_t *n, struct err *e)
{
        uint64_t won = claim_run(s, unit, *n);

        *n = 1;
        if (won == 0)
                return BROUGHT_QUEUED;

        int64_t had = read_run(s, ctx, reader, unit, won, kind, e);
        enum brought b = had < 0 ? BROUGHT_BAD : install(s, ctx, unit, (uint64_t)had, e);

        for (uint64_t i = 0; i < won; i++)
                fillmap_finish(s->map, unit + i, b == BROUGHT_DATA && i < (uint64_t)had,
                               wake_waiter);
        if (had > 0)
                *n = (uint64_t)had;
        return b;
}

enum brought bring_run(struct session *s, struct serve_ctx *ctx, uint64_t first, uint64_t end,
                       uint64_t *ret_n, struct err *e)
{
        uint64_t max = MIN(end - first, MAX(BRING_RUN_BYTES >> s->unit_bits, 1));
        struct qs_reader *reader;
        enum qs_kind kind;

        ASSERT(first < end && end <= s->units);
        *ret_n = 1;
        if (fillmap_filled(s->map, first))
                return BROUGHT_PRESENT;
        if (look_up(s, ctx, first, max, &reader, &kind, ret_n, e) < 0)
                return BROUGHT_BAD;
        if (kind == QS_ZERO)
                return bring_zeros(s, first, *ret_n, false, e);
        return run_of_data(s, ctx, reader, first, kind, ret_n, e);
}
