/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/readers.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "common/auto.h"
#include "common/check.h"

void readers_init(struct readers *r)
{
        *r = (struct readers){ .next_sock = -1, .feed.fd = -1 };
}

void readers_fini(struct readers *r)
{
        fd_close(&r->next_sock);
        fd_close(&r->feed.fd);
}

/* ---- main thread ------------------------------------------------------------- */

/* Reading a socket of this kind never waits, whatever its client does with the descriptor
 * that it keeps. */
static int check_socket(int sock, struct err *e)
{
        int type = 0;
        int domain = 0;
        socklen_t len = sizeof(type);

        if (getsockopt(sock, SOL_SOCKET, SO_TYPE, &type, &len) < 0 ||
            getsockopt(sock, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0 ||
            type != SOCK_SEQPACKET || domain != AF_UNIX)
                return err_msg(e, EINVAL, "the descriptor of a lease is no end of a SEQPACKET "
                               "pair");
        return 0;
}

/* There may be faults in it still. */
static bool closed_by_client(int sock)
{
        struct pollfd p = { .fd = sock };

        return poll(&p, 1, 0) > 0 && (p.revents & POLLHUP);
}

static void begin(struct readers *r, uint64_t number, int *sock)
{
        ASSERT(atomic_load(&r->on_lease) == 0);
        r->number = number;
        r->feed.fd = fd_take(sock);
        r->end_told = false;
        r->had_lease = true;
        atomic_store(&r->feed.broken, false);
        atomic_store(&r->state, READERS_LEAVING);
}

int readers_lease(struct readers *r, const struct feed *like, uint64_t number, int *sock,
                  struct err *e)
{
        int rc = check_socket(*sock, e);

        if (rc < 0)
                return rc;
        if (atomic_load(&r->state) == READERS_UFFDS) {
                r->feed = *like;
                begin(r, number, sock);
                return 0;
        }
        if (!closed_by_client(r->feed.fd) ||
            (r->next_sock >= 0 && !closed_by_client(r->next_sock)))
                return err_msg(e, EBUSY, "a second lease while there is one: close the first");
        fd_close(&r->next_sock);
        r->next_sock = fd_take(sock);
        r->next_number = number;
        return 0;
}

static enum readers_news look_at_ended(struct readers *r)
{
        if (atomic_load(&r->on_lease) > 0) {
                bool told = r->end_told;

                r->end_told = true;
                return told ? READERS_SAME : READERS_KICK;
        }
        fd_close(&r->feed.fd);
        atomic_store(&r->state, READERS_UFFDS);
        if (r->next_sock >= 0)
                begin(r, r->next_number, &r->next_sock);
        return READERS_KICK;
}

enum readers_news readers_look(struct readers *r)
{
        enum readers_state leaving = READERS_LEAVING;

        switch (atomic_load(&r->state)) {
        case READERS_ENDED:
                return look_at_ended(r);
        case READERS_LEAVING:
                /* it may end in this moment */
                if (atomic_load(&r->on_uffds) == 0 &&
                    atomic_compare_exchange_strong(&r->state, &leaving, READERS_LEASED))
                        return READERS_TELL;
                break;
        case READERS_UFFDS:
        case READERS_LEASED:
                break;
        }
        return READERS_SAME;
}

bool readers_leased(const struct readers *r)
{
        return atomic_load(&r->state) == READERS_LEASED;
}

bool readers_hung_up(struct readers *r)
{
        (void)readers_end(r);
        return r->had_lease;
}

/* ---- any thread ---------------------------------------------------------------- */

bool readers_end(struct readers *r)
{
        enum readers_state s = atomic_load(&r->state);

        while (s == READERS_LEAVING || s == READERS_LEASED) {
                if (atomic_compare_exchange_strong(&r->state, &s, READERS_ENDED))
                        return true;
        }
        return false;
}

enum readers_poll readers_poll(const struct readers *r)
{
        enum readers_state s = atomic_load(&r->state);

        return s == READERS_LEAVING || s == READERS_LEASED ? POLL_LEASE : POLL_UFFDS;
}

static _Atomic unsigned *count_of(struct readers *r, enum readers_poll what)
{
        ASSERT(what != POLL_NOTHING);
        return what == POLL_LEASE ? &r->on_lease : &r->on_uffds;
}

bool readers_come(struct readers *r, enum readers_poll what)
{
        atomic_fetch_add(count_of(r, what), 1);         /* INV-READER: counted, then looks */
        if (readers_poll(r) == what)
                return true;
        (void)readers_leave(r, what);   /* the main thread may have seen it counted */
        return false;
}

bool readers_leave(struct readers *r, enum readers_poll what)
{
        unsigned before = atomic_fetch_sub(count_of(r, what), 1);

        ASSERT(before > 0);
        if (before > 1)
                return false;

        enum readers_state s = atomic_load(&r->state);

        return what == POLL_LEASE ? s == READERS_ENDED : s == READERS_LEAVING;
}
