/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/member.h"

#include <errno.h>
#include <stdlib.h>

#include "common/check.h"
#include "pageserver/watch.h"

/* A connection is not kept for ever without a hello, whole and in time. */
#define HELLO_SECONDS 10
/* A private server may be started long before its client has an image: it keeps nobody out
 * meanwhile, and sees its client die. */
#define HELLO_PRIVATE_SECONDS INT32_MAX
/* Nor while its image does not open. */
#define OPEN_SECONDS 10
/* Nor after its welcome, which it only has to map. */
#define ATTACH_SECONDS 20
/* Long for a program that floods us, nothing for one that waits for an answer. */
#define BREATH_MS 10
/* Of one kind of client, so that a crowd that says nothing keeps nobody else out: an
 * honest one needs no longer than a round of the loop. */
#define SILENT_MAX (SESSIONS_MAX / 2)
#define TICK_SECONDS 1

struct member {
        struct members *table;
        struct member *next;
        const struct peer_ops *peer;
        struct session *session;
        struct event *readable;         /* NULL once hung up or deaf */
        struct event *writable;
        struct event *deadline;         /* of the hello, then of the attach */
        struct event *breath;           /* until the next order is read */
        struct event *ended;            /* the process; with peer->tick only, as the next */
        struct event *tick;
        bool waits;                     /* for its image to open */
        bool welcomed;
        bool hung_up;
        bool workers_told;              /* that it is GONE */
};

void members_kick(struct members *t)
{
        crew_kick(t->crew);
}

/* ---- the end of one ------------------------------------------------------ */

static void free_event(struct event **ev)
{
        if (*ev)
                event_free(*ev);
        *ev = NULL;
}

/* The loop forgets the descriptors before they are closed. */
static void leave_loop(struct member *m)
{
        free_event(&m->readable);
        free_event(&m->writable);
        free_event(&m->deadline);
        free_event(&m->breath);
        free_event(&m->ended);
        free_event(&m->tick);
}

/* A private server has nothing more to do after its only member. */
static void member_free(struct member *m)
{
        struct members *t = m->table;
        struct member **at = &t->first;

        while (*at != m)
                at = &(*at)->next;
        *at = m->next;
        t->n--;
        leave_loop(m);
        if (m->peer->end)
                m->peer->end(m->session);
        session_free(m->session);
        free(m);
        if (t->host->is_private)
                event_base_loopbreak(t->base);
}

/* A private server has nobody to protect from its client, but it has to see it end. */
static void watch_over(struct member *m)
{
        if (!m->table->host->is_private || m->hung_up)
                watch_wake(m->table->watch);
}

/* Frees the member if no worker was ever given it. */
static void hung_up(struct member *m)
{
        m->hung_up = true;
        leave_loop(m);
        session_close_socket(m->session);
        if (session_state(m->session) == SESSION_DRAINING) {
                watch_over(m);
                members_kick(m->table);
        } else if (session_released(m->session))
                member_free(m);
}

/* ---- messages ------------------------------------------------------------ */

static void flush(struct member *m)
{
        bool full;
        enum peer what = m->peer->output(m->session, &full);

        if (what == PEER_CLOSED) {
                hung_up(m);
                return;
        }
        if (what == PEER_ORDERED)
                members_kick(m->table);
        if (full)
                event_add(m->writable, NULL);
}

/* ---- clients whose socket does not tell ---------------------------------- */

static void on_ended(evutil_socket_t fd, short what, void *arg)
{
        struct member *m = arg;

        (void)fd;
        (void)what;
        session_hang_up(m->session);
        hung_up(m);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
        struct member *m = arg;

        (void)fd;
        (void)what;
        if (m->peer->tick(m->session) == PEER_CLOSED)
                hung_up(m);
}

/* Without memory for it the client is served all the same, until its userfaultfds
 * tell. */
static void watch_process(struct member *m)
{
        struct timeval second = { .tv_sec = TICK_SECONDS };
        struct event_base *base = m->table->base;
        int pidfd = session_pidfd(m->session);

        if (pidfd >= 0)
                m->ended = event_new(base, pidfd, EV_READ, on_ended, m);
        m->tick = event_new(base, -1, EV_PERSIST, on_tick, m);
        if ((m->ended && event_add(m->ended, NULL) < 0) || !m->tick ||
            event_add(m->tick, &second) < 0)
                log_line(&m->table->host->log, "client %u: cannot be watched",
                         session_id(m->session));
}

/* ---- what comes in ------------------------------------------------------- */

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
        (void)fd;
        (void)what;
        flush(arg);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
        struct member *m = arg;
        struct err e;

        (void)fd;
        (void)what;
        if (m->waits)
                err_msg(&e, ETIMEDOUT, "image '%s' does not open: its file system has not "
                        "answered for %d seconds", session_path(m->session), OPEN_SECONDS);
        else if (m->welcomed)
                err_msg(&e, ETIMEDOUT, "no attach within %d seconds of its welcome",
                        ATTACH_SECONDS);
        else
                err_msg(&e, ETIMEDOUT, "no hello within %d seconds", HELLO_SECONDS);
        m->peer->refuse(m->session, &e);
        hung_up(m);
}

/* The loop's clock may be from before a long hello, which is our time, not its. */
static void await_attach(struct member *m)
{
        struct timeval attach = { .tv_sec = ATTACH_SECONDS };

        m->welcomed = true;
        event_base_update_cache_time(m->table->base);
        event_add(m->deadline, &attach);        /* in the place it has: cannot fail */
}

static void look_at_deadline(struct member *m)
{
        switch (session_state(m->session)) {
        case SESSION_HELLO:
                break;
        case SESSION_WELCOMED:
                if (!m->welcomed)
                        await_attach(m);
                break;
        case SESSION_SERVING:
        case SESSION_DRAINING:
        case SESSION_GONE:
                free_event(&m->deadline);
                break;
        }
}

static void on_breath(evutil_socket_t fd, short what, void *arg)
{
        struct member *m = arg;

        (void)fd;
        (void)what;
        if (event_add(m->readable, NULL) == 0)
                return;
        session_hang_up(m->session);            /* it could not even be seen to leave */
        hung_up(m);
}

/* INV-BREATH: between two orders of one client lie BREATH_MS. Each may look through all
 * its bitmaps and wakes every worker, and costs the client nothing: a crowd of orders
 * waits in its own socket, and is lost nowhere. */
static void take_breath(struct member *m)
{
        struct timeval breath = { .tv_usec = BREATH_MS * 1000 };

        if (event_add(m->breath, &breath) == 0)
                event_del(m->readable);
}

static void attached(struct member *m)
{
        watch_over(m);
        watch_poked(m->table->watch);
        crew_give(m->table->crew, m->session);
        if (m->peer->tick)
                watch_process(m);
}

/* Nothing is read from it before its image is open, and that not for ever. */
static void await_image(struct member *m)
{
        struct timeval patience = { .tv_sec = OPEN_SECONDS };

        m->waits = true;
        event_del(m->readable);
        event_base_update_cache_time(m->table->base);
        event_add(m->deadline, &patience);      /* in the place it has: cannot fail */
}

/* what came of its input */
static void act_on(struct member *m, enum peer what)
{
        switch (what) {
        case PEER_CLOSED:
                hung_up(m);
                return;
        case PEER_WAITS:
                await_image(m);
                return;
        case PEER_ATTACHED:
                attached(m);
                break;
        case PEER_DEAF:
                free_event(&m->readable);
                return;
        case PEER_ORDERED:
                members_kick(m->table);
                take_breath(m);
                break;
        case PEER_OK:
                break;
        }
        look_at_deadline(m);
        flush(m);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
        struct member *m = arg;

        (void)fd;
        (void)what;
        act_on(m, m->peer->input(m->session));
}

static void go_on(struct member *m)
{
        enum peer what = m->peer->go_on(m->session);

        if (what == PEER_WAITS)
                return;
        m->waits = false;
        if (event_add(m->readable, NULL) < 0) {
                session_hang_up(m->session);    /* it could not even be seen to leave */
                what = PEER_CLOSED;
        }
        act_on(m, what);
}

/* ---- admission ----------------------------------------------------------- */

static int watch(struct member *m, int sock)
{
        struct timeval hello = { .tv_sec = m->table->host->is_private ? HELLO_PRIVATE_SECONDS
                                                                      : HELLO_SECONDS };
        struct event_base *base = m->table->base;

        m->readable = event_new(base, sock, EV_READ | EV_PERSIST, on_readable, m);
        m->writable = event_new(base, sock, EV_WRITE, on_writable, m);
        m->deadline = evtimer_new(base, on_deadline, m);
        m->breath = evtimer_new(base, on_breath, m);
        if (!m->readable || !m->writable || !m->deadline || !m->breath)
                return -ENOMEM;
        if (event_add(m->readable, NULL) < 0 || event_add(m->deadline, &hello) < 0)
                return -ENOMEM;
        return 0;
}

static int make_member(struct members *t, const struct peer_ops *peer, int *sock,
                       struct member **ret, struct err *e)
{
        struct member *m = calloc(1, sizeof(*m));

        if (!m)
                return err_set(e, ENOMEM, "client");
        m->table = t;
        m->peer = peer;

        int rc = session_new(t->host, sock, t->next_id++, &m->session, e);

        if (rc < 0) {
                free(m);
                return rc;
        }
        m->next = t->first;
        t->first = m;
        t->n++;
        *ret = m;
        return 0;
}

static int enter(struct members *t, const struct peer_ops *peer, const void *offer, int *sock,
                 struct err *e)
{
        struct member *m = NULL;
        int fd = *sock;
        int rc = make_member(t, peer, sock, &m, e);

        if (rc < 0)
                return rc;
        if (peer->begin)
                rc = peer->begin(m->session, offer, e);
        if (rc == 0 && watch(m, fd) < 0)
                rc = err_set(e, ENOMEM, "client");
        if (rc < 0)
                member_free(m);
        return rc;
}

int members_resume(struct members *t, const struct peer_ops *peer, const void *offer,
                   void *stay, struct err *e)
{
        struct member *m = NULL;
        int none = -1;
        int rc = make_member(t, peer, &none, &m, e);

        if (rc < 0)
                return rc;
        rc = peer->begin(m->session, offer, e);
        if (rc == 0)
                rc = peer->resume(m->session, stay, e);
        if (rc < 0)
                member_free(m);
        else
                attached(m);
        return rc;
}

static unsigned count_silent(const struct members *t, const struct peer_ops *peer)
{
        unsigned n = 0;

        for (const struct member *m = t->first; m; m = m->next)
                n += m->peer == peer && session_state(m->session) == SESSION_HELLO && !m->waits;
        return n;
}

int members_admit(struct members *t, const struct peer_ops *peer, const void *offer, int *sock,
                  struct err *e)
{
        unsigned silent = count_silent(t, peer);

        /* INV-APART: as long as there are threads for those who are here */
        if (crew_is_short(t->crew))
                return err_msg(e, EBUSY, "%u of its threads hang in images that do not answer: it "
                               "takes in nobody until they do", crew_relieved(t->crew));
        if (t->n < SESSIONS_MAX && silent < SILENT_MAX)
                return enter(t, peer, offer, sock, e);
        return err_msg(e, EBUSY, "it serves as many clients as it can: %u are here, %u of that "
                       "kind without a hello", t->n, silent);
}

/* ---- all of them --------------------------------------------------------- */

static void look_at(struct member *m)
{
        if (m->waits && !m->hung_up) {
                go_on(m);
                return;
        }
        if (!m->hung_up) {
                flush(m);               /* may free m, but not while workers hold it */
                return;
        }
        if (session_state(m->session) != SESSION_GONE)
                return;
        if (!m->workers_told) {
                m->workers_told = true;
                members_kick(m->table);
                if (m->table->host->is_private)
                        event_base_loopbreak(m->table->base);
        } else if (session_released(m->session)) {
                log_note(&m->table->host->log, "client %u: gone", session_id(m->session));
                member_free(m);
        }
}

void members_look(struct members *t)
{
        struct member *next;

        for (struct member *m = t->first; m; m = next) {
                next = m->next;
                look_at(m);
        }
}

unsigned members_list(const struct members *t, struct session **ret)
{
        unsigned n = 0;

        for (const struct member *m = t->first; m; m = m->next)
                ret[n++] = m->session;
        return n;
}

void members_refuse(struct members *t, const struct session *s, const struct err *why)
{
        struct member *m = t->first;

        while (m && m->session != s)
                m = m->next;
        if (!m || m->hung_up)
                return;
        m->peer->refuse(m->session, why);
        hung_up(m);
}

void members_hang_up(struct members *t)
{
        struct member *next;

        for (struct member *m = t->first; m; m = next) {
                next = m->next;
                if (m->hung_up)
                        continue;
                session_hang_up(m->session);
                hung_up(m);
        }
}

bool members_linger(const struct members *t)
{
        for (const struct member *m = t->first; m; m = m->next) {
                if (session_state(m->session) == SESSION_DRAINING &&
                    session_client_dead(m->session))
                        return true;
        }
        return false;
}

void members_fini(struct members *t)
{
        while (t->first)
                member_free(t->first);
}
