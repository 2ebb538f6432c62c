/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/member.h"

#include <errno.h>
#include <stdlib.h>

#include "common/check.h"

/* A connection that says nothing is not kept for ever. */
#define HELLO_SECONDS 10

struct member {
        struct members *table;
        struct member *next;
        const struct peer_ops *peer;
        struct session *session;
        struct event *readable;         /* NULL once hung up */
        struct event *writable;
        bool workers_told;              /* that it is GONE */
};

void members_kick(struct members *t)
{
        for (unsigned i = 0; i < t->host->threads; i++)
                worker_kick(t->worker[i]);
}

static void give_to_workers(struct member *m)
{
        for (unsigned i = 0; i < m->table->host->threads; i++)
                worker_give(m->table->worker[i], m->session);
}

/* ---- the end of one ----------------------------------------------------------- */

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
        session_free(m->session);
        free(m);
        if (t->host->is_private)
                event_base_loopbreak(t->base);
}

/* Frees the member if no worker was ever given it. */
static void hung_up(struct member *m)
{
        leave_loop(m);
        session_close_socket(m->session);
        if (session_state(m->session) == SESSION_DRAINING)
                members_kick(m->table);
        else if (session_released(m->session))
                member_free(m);
}

/* ---- messages ------------------------------------------------------------------- */

static void flush(struct member *m)
{
        bool full;

        if (m->peer->output(m->session, &full) == PEER_CLOSED) {
                hung_up(m);
                return;
        }
        if (full)
                event_add(m->writable, NULL);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
        (void)fd;
        (void)what;
        flush(arg);
}

static void on_silent(struct member *m)
{
        struct err e;

        err_msg(&e, ETIMEDOUT, "no hello within %d seconds", HELLO_SECONDS);
        m->peer->refuse(m->session, &e);
        hung_up(m);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
        struct member *m = arg;

        (void)fd;
        if (what & EV_TIMEOUT) {
                on_silent(m);
                return;
        }

        enum session_state before = session_state(m->session);

        switch (m->peer->input(m->session)) {
        case PEER_CLOSED:
                hung_up(m);
                return;
        case PEER_ATTACHED:
                give_to_workers(m);
                break;
        case PEER_OK:
                members_kick(m->table);         /* rates and retries */
                break;
        }
        if (before == SESSION_HELLO && session_state(m->session) != SESSION_HELLO)
                event_remove_timer(m->readable);
        flush(m);
}

/* ---- admission -------------------------------------------------------------------- */

static int watch(struct member *m, int sock)
{
        struct timeval hello = { .tv_sec = HELLO_SECONDS };
        struct event_base *base = m->table->base;

        m->readable = event_new(base, sock, EV_READ | EV_PERSIST, on_readable, m);
        m->writable = event_new(base, sock, EV_WRITE, on_writable, m);
        return m->readable && m->writable && event_add(m->readable, &hello) == 0 ? 0 : -ENOMEM;
}

static int enter(struct members *t, const struct peer_ops *peer, int *sock, struct err *e)
{
        struct member *m = calloc(1, sizeof(*m));
        int fd = *sock;

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
        rc = watch(m, fd);
        if (rc < 0) {
                member_free(m);
                return err_set(e, -rc, "client");
        }
        return 0;
}

int members_admit(struct members *t, const struct peer_ops *peer, int *sock, struct err *e)
{
        if (t->n < SESSIONS_MAX)
                return enter(t, peer, sock, e);
        return err_msg(e, EBUSY, "it serves as many clients as it can: %u", t->n);
}

/* ---- all of them ------------------------------------------------------------------ */

static void look_at(struct member *m)
{
        if (m->readable) {
                flush(m);               /* may free m, but not while workers hold it */
                return;
        }
        if (session_state(m->session) != SESSION_GONE)
                return;
        if (!m->workers_told) {
                m->workers_told = true;
                members_kick(m->table);
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

void members_hang_up(struct members *t)
{
        struct member *next;

        for (struct member *m = t->first; m; m = next) {
                next = m->next;
                if (!m->readable)
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
