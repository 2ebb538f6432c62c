/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/crew.h"

#include <errno.h>
#include <stdlib.h>

#include "common/auto.h"
#include "common/check.h"

#define HANDS_MAX (2 * WORKERS_MAX + HANDS_SPARE)

struct crew {
        struct session_host *host;
        struct worker *worker[2 * WORKERS_MAX];
        struct hand *hand[HANDS_MAX];   /* by number */
        struct hand *idle[2];           /* of them: not needed after all; [1]: ahead */
        unsigned relieved;
};

static int start_one(struct crew *c, bool ahead, struct hand **ret, struct err *e)
{
        for (unsigned i = 0; i < c->host->hands; i++) {
                if (c->hand[i])
                        continue;

                int rc = hand_start(c->host, i, ahead, &c->hand[i], e);

                *ret = c->hand[i];
                return rc;
        }
        return err_msg(e, ENOSPC, "%u threads hang, as many as may", crew_relieved(c));
}

static int start_all(struct crew *c, struct err *e)
{
        for (unsigned i = 0; i < c->host->threads; i++) {
                struct hand *h;
                int rc = worker_new(c->host, i, &c->worker[i], e);

                if (rc == 0)
                        rc = start_one(c, worker_is_ahead(c->worker[i]), &h, e);
                if (rc < 0)
                        return rc;
                hand_put(h, c->worker[i]);
        }
        return 0;
}

int crew_start(struct session_host *host, struct crew **ret, struct err *e)
{
        struct crew *c = calloc(1, sizeof(*c));

        static_assert(2 * WORKERS_MAX <= REMOVED_SLOTS, "each worker reads into its own");
        ASSERT(host->hands <= HANDS_MAX);
        if (!c)
                return err_set(e, ENOMEM, "threads");
        c->host = host;
        *ret = c;                       /* also of a half one the caller stops what runs */
        return start_all(c, e);
}

int crew_ready(struct crew *c, struct err *e)
{
        int rc = 0;

        for (unsigned i = 0; i < c->host->threads && rc == 0; i++)
                rc = hand_ready(c->hand[i], e);
        return rc;
}

unsigned crew_stop(struct crew *c, uint64_t deadline_ns)
{
        unsigned hang = 0;

        if (!c)
                return 0;
        for (unsigned i = 0; i < c->host->threads; i++) {
                if (c->worker[i])
                        worker_stop(c->worker[i]);
        }
        for (unsigned i = 0; i < HANDS_MAX; i++) {
                if (!c->hand[i])
                        continue;
                if (!hand_join(c->hand[i], deadline_ns)) {
                        hang++;
                        continue;
                }
                hand_free(c->hand[i]);
                c->hand[i] = NULL;
        }
        return hang;
}

void crew_free(struct crew *c)
{
        if (!c)
                return;
        for (unsigned i = 0; i < c->host->threads; i++)
                worker_free(c->worker[i]);
        free(c);
}

void crew_kick(struct crew *c)
{
        for (unsigned i = 0; i < c->host->threads; i++)
                worker_kick(c->worker[i]);
}

void crew_give(struct crew *c, struct session *s)
{
        for (unsigned i = 0; i < c->host->threads; i++)
                worker_give(c->worker[i], s);
}

/* ---- those that hang ------------------------------------------------------------- */

void crew_each(struct crew *c, void (*fn)(void *ctx, struct hand *h), void *ctx)
{
        for (unsigned i = 0; i < c->host->hands; i++) {
                if (c->hand[i] && c->hand[i] != c->idle[0] && c->hand[i] != c->idle[1])
                        fn(ctx, c->hand[i]);
        }
}

static void end_one(struct crew *c, struct hand *h)
{
        bool joined = hand_join(h, UINT64_MAX);        /* it had only to return */

        ASSERT(joined);
        c->hand[hand_number(h)] = NULL;
        hand_free(h);
}

/* in its sandbox; it is there before its worker is taken from another */
static int have_idle(struct crew *c, bool ahead, struct err *e)
{
        struct hand *h;

        if (c->idle[ahead])
                return 0;

        int rc = start_one(c, ahead, &h, e);

        if (rc < 0)
                return rc;
        rc = hand_ready(h, e);
        if (rc < 0)
                end_one(c, h);
        else
                c->idle[ahead] = h;
        return rc;
}

int crew_relieve(struct crew *c, struct hand *h, const struct busy_look *look, struct err *e)
{
        bool ahead = worker_is_ahead(hand_worker(h));
        int rc = have_idle(c, ahead, e);

        if (rc < 0)
                return rc;

        struct worker *w = hand_relieve(h, look);

        if (!w)
                return err_msg(e, EAGAIN, "thread %u has come out", hand_number(h));
        hand_put(ptr_take(&c->idle[ahead]), w);
        c->relieved++;
        return 0;
}

void crew_reap(struct crew *c)
{
        for (unsigned i = 0; c->relieved > 0 && i < c->host->hands; i++) {
                struct hand *h = c->hand[i];

                if (!h || !hand_done(h) || hand_worker(h))
                        continue;
                end_one(c, h);
                c->relieved--;
        }
}

unsigned crew_relieved(const struct crew *c)
{
        return c->relieved;
}

bool crew_is_short(const struct crew *c)
{
        return c->relieved + c->host->threads > HANDS_SPARE;
}
