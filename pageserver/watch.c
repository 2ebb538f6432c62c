/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/watch.h"

#include <errno.h>
#include <stdlib.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "pageserver/session-priv.h"

/* two looks in one step are a crowd that waits, eight are a thread that hangs */
#define LOOK_MS WATCH_CROWD_MS

/* of the thread of that number */
struct seen {
        struct busy_look look;
        uint64_t since_ns;              /* that it is in this step */
        bool hangs;
        unsigned round;                 /* when it was last there */
};

struct watch {
        struct members *members;
        struct event *tick;
        unsigned hanging;
        unsigned withheld;              /* sessions */
        bool told_full;
        unsigned round;
        struct seen seen[];             /* by hand_number() */
};

/* one look at all of them */
struct round {
        struct watch *w;
        uint64_t now_ns;
        unsigned serving;               /* threads with a demand worker */
        unsigned held_up;               /* of them, in one step for WATCH_CROWD_MS */
        struct session *session[SESSIONS_MAX];
        unsigned sessions;
};

static struct seen *seen_of(struct watch *w, const struct hand *h)
{
        return &w->seen[hand_number(h)];
}

static bool in_step_for(const struct seen *seen, uint64_t now_ns, uint64_t ms)
{
        return seen->look.at_work && now_ns - seen->since_ns >= ms * NS_PER_MS;
}

/* ---- who hangs ---------------------------------------------------------------------- */

static void look_at(void *ctx, struct hand *h)
{
        struct round *r = ctx;
        struct seen *seen = seen_of(r->w, h);
        struct busy_look look = hand_look(h);
        const struct worker *w = hand_worker(h);

        if (!look.at_work || !seen->look.at_work || look.word != seen->look.word)
                *seen = (struct seen){ .look = look, .since_ns = r->now_ns };
        seen->look.in_image = look.in_image;
        seen->round = r->w->round;
        if (in_step_for(seen, r->now_ns, WATCH_HANG_MS) ||
            (in_step_for(seen, r->now_ns, LOOK_MS) && session_withheld(seen->look.session)))
                seen->hangs = true;
        if (w && !worker_is_ahead(w)) {
                r->serving++;
                r->held_up += in_step_for(seen, r->now_ns, WATCH_CROWD_MS);
        }
}

/* Threads have ended since: nothing that was seen of them holds. */
static void forget_ended(struct watch *w)
{
        for (unsigned i = 0; i < w->members->host->hands; i++) {
                if (w->seen[i].round != w->round)
                        w->seen[i] = (struct seen){ .round = w->round };
        }
}

/* what a thread hangs for concerns s, too */
static enum withheld concerns(const struct seen *seen, const struct session *s)
{
        if (seen->look.in_image && s->source == seen->look.session->source)
                return WITHHELD_BY_IMAGE;
        return seen->look.session == s ? WITHHELD_BY_CLIENT : WITHHELD_NO;
}

static enum withheld why_withheld(const struct watch *w, const struct session *s)
{
        enum withheld why = WITHHELD_NO;

        for (unsigned i = 0; i < w->members->host->hands; i++) {
                if (w->seen[i].hangs)
                        why = MAX(why, concerns(&w->seen[i], s));
        }
        return why;
}

static bool is_served(const struct session *s)
{
        return session_state(s) == SESSION_SERVING || session_state(s) == SESSION_DRAINING;
}

/* ---- a crowd ------------------------------------------------------------------------- */

static void mark_crowd(void *ctx, struct hand *h)
{
        struct round *r = ctx;
        struct seen *seen = seen_of(r->w, h);
        const struct worker *w = hand_worker(h);

        if (w && !worker_is_ahead(w))
                seen->hangs = true;
}

static void unmark_crowd(void *ctx, struct hand *h)
{
        struct round *r = ctx;
        struct seen *seen = seen_of(r->w, h);

        if (seen->hangs && !in_step_for(seen, r->now_ns, WATCH_HANG_MS) &&
            !session_withheld(seen->look.session))
                seen->hangs = false;
}

static bool someone_waits(const struct round *r)
{
        for (unsigned i = 0; i < r->sessions; i++) {
                if (is_served(r->session[i]) && !why_withheld(r->w, r->session[i]))
                        return true;
        }
        return false;
}

static void look_for_crowd(struct round *r)
{
        struct crew *crew = r->w->members->crew;

        if (r->held_up < r->serving)
                return;
        crew_each(crew, mark_crowd, r);
        if (!someone_waits(r))
                crew_each(crew, unmark_crowd, r);
}

/* ---- what follows from it -------------------------------------------------------------- */

static void tell_hanging(const struct session *s, const struct seen *seen)
{
        struct log *log = &s->host->log;

        if (seen->look.in_image)
                log_line(log, "client %u: image '%s' has not answered for %d s: its guest waits, "
                         "others are served", s->id, s->path, WATCH_HANG_MS / 1000);
        else
                log_line(log, "client %u: its memory could not be reached for %d s: it waits, "
                         "others are served", s->id, WATCH_HANG_MS / 1000);
}

static void tell(struct session *s, const struct seen *seen, uint64_t now_ns)
{
        struct log *log = &s->host->log;

        if (seen && !s->hanging_since_ns) {
                s->hanging_since_ns = MAX(seen->since_ns, 1u);
                tell_hanging(s, seen);
        } else if (!seen && s->hanging_since_ns && !session_withheld(s)) {
                log_line(log, "client %u: is served again, after %llu s", s->id,
                         (unsigned long long)(now_ns - s->hanging_since_ns) / NS_PER_SEC);
                s->hanging_since_ns = 0;
        }
}

static const struct seen *long_hanging(const struct round *r, const struct session *s)
{
        for (unsigned i = 0; i < r->w->members->host->hands; i++) {
                const struct seen *seen = &r->w->seen[i];

                if (seen->hangs && concerns(seen, s) &&
                    in_step_for(seen, r->now_ns, WATCH_HANG_MS))
                        return seen;
        }
        return NULL;
}

/* Before any worker gets another thread, which would hang there too. */
static void withhold(struct round *r)
{
        bool changed = false;

        r->w->withheld = 0;
        for (unsigned i = 0; i < r->sessions; i++) {
                struct session *s = r->session[i];
                enum withheld why = is_served(s) ? why_withheld(r->w, s) : WITHHELD_NO;

                changed |= why != session_withheld(s);
                session_withhold(s, why);
                r->w->withheld += why != WITHHELD_NO;
                tell(s, long_hanging(r, s), r->now_ns);
        }
        if (changed)
                crew_kick(r->w->members->crew);
}

/* Whatever it is that cannot be had, threads or memory for them. */
static void give_up(struct watch *w, struct session *s, const struct err *why)
{
        struct err e;

        if (!w->told_full)
                log_line(&s->host->log, "no thread can take the place of one that hangs: %s",
                         why->text);
        w->told_full = true;
        err_msg(&e, EBUSY, "'%s' does not answer, and this page server can spare no more threads "
                "for it: use another server, or a file system that answers", s->path);
        members_refuse(w->members, s, &e);
}

static void relieve(void *ctx, struct hand *h)
{
        struct round *r = ctx;
        struct seen *seen = seen_of(r->w, h);
        struct err e;

        if (!seen->hangs)
                return;
        r->w->hanging++;
        if (!hand_worker(h))
                return;

        int rc = crew_relieve(r->w->members->crew, h, &seen->look, &e);

        if (rc == 0) {
                seen->look = hand_look(h);      /* the same step, with another word */
                r->w->told_full = false;
        } else if (rc != -EAGAIN) {
                give_up(r->w, seen->look.session, &e);
        }
}

static void look(struct watch *w)
{
        struct members *t = w->members;
        struct round r = { .w = w, .now_ns = clock_now_ns() };

        w->round++;
        crew_reap(t->crew);
        r.sessions = members_list(t, r.session);
        crew_each(t->crew, look_at, &r);
        forget_ended(w);
        look_for_crowd(&r);
        withhold(&r);
        w->hanging = 0;
        crew_each(t->crew, relieve, &r);
}

/* ---- when ------------------------------------------------------------------------------- */

static void look_soon(struct watch *w)
{
        struct timeval soon = { .tv_usec = LOOK_MS * 1000 };

        evtimer_add(w->tick, &soon);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
        struct watch *w = arg;

        (void)fd;
        (void)what;
        look(w);
        if (w->members->n > 0 || crew_relieved(w->members->crew) > 0)
                look_soon(w);
}

int watch_new(struct members *members, struct watch **ret, struct err *e)
{
        struct watch *w = calloc(1, sizeof(*w) + members->host->hands * sizeof(w->seen[0]));

        if (!w)
                return err_set(e, ENOMEM, "watch over threads");
        w->members = members;
        w->tick = evtimer_new(members->base, on_tick, w);
        if (!w->tick) {
                watch_free(w);
                return err_set(e, ENOMEM, "watch over threads");
        }
        *ret = w;
        return 0;
}

void watch_free(struct watch *w)
{
        if (!w)
                return;
        if (w->tick)
                event_free(w->tick);
        free(w);
}

void watch_wake(struct watch *w)
{
        if (!evtimer_pending(w->tick, NULL))
                look_soon(w);
}

void watch_poked(struct watch *w)
{
        if (w->withheld > 0 || crew_relieved(w->members->crew) > 0)
                look(w);
}

unsigned watch_hanging(const struct watch *w)
{
        return w->hanging;
}
