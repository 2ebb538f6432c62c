/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/peer.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "pageserver/attach.h"
#include "pageserver/chan.h"
#include "pageserver/hello.h"

static void refuse(struct session *s, const struct err *e)
{
        struct psmsg m = { .type = PSMSG_ERROR, .error.code = e->code };

        snprintf(m.error.text, sizeof(m.error.text), "%s", e->text);
        log_line(&s->host->log, "client %u: %s", s->id, e->text);
        if (!s->hung_up)
                (void)chan_send(s->sock, &m, NULL);     /* it may be gone already */
        session_hang_up(s);
}

/* ---- ATTACH --------------------------------------------------------------- */

static int attach(struct session *s, const struct psmsg_attach *a, int *fds, struct err *e)
{
        if (session_state(s) != SESSION_WELCOMED)
                return err_msg(e, EPROTO, "attach without a hello, or twice");
        return session_attach(s, a, fds, e);
}

/* ---- commands ------------------------------------------------------------- */

static void retry(struct session *s)
{
        bits_clear_all(&s->bad);
        prefetch_restart(&s->prefetch);
        session_wake_all(s);
}

/* What its userfaultfds tell of memory that is given back is ours to hear. */
static int lease(struct session *s, uint64_t number, int *sock, struct err *e)
{
        const struct feed like = { .ops = &feed_lease, .regions = s->regions, .session = s };

        if (s->removed)
                return err_msg(e, EINVAL, "a client that gives memory back cannot read its "
                               "userfaultfds itself");
        return readers_lease(&s->readers, &like, number, sock, e);
}

static int command(struct session *s, const struct psmsg *m, int *fds, struct err *e)
{
        if (session_state(s) != SESSION_SERVING)
                return err_msg(e, EPROTO, "message %d before attach", (int)m->type);
        switch (m->type) {
        case PSMSG_ASK_STATS:
                outbox_put(&s->outbox, PSMSG_STATS);
                break;
        case PSMSG_PREFETCH:
                return session_order_prefetch(s, &(struct rate_order){
                        .what = RATE_SET, .rate = m->rate }, e);
        case PSMSG_RETRY:
                retry(s);
                break;
        case PSMSG_ASK_RECORD:
                if (!s->recording)
                        return err_msg(e, EINVAL, "this client did not ask to be recorded");
                outbox_put(&s->outbox, PSMSG_RECORD);
                break;
        case PSMSG_LEASE:
                return lease(s, m->lease, &fds[0], e);
        default:
                return err_msg(e, EPROTO, "message %d is not a client's", (int)m->type);
        }
        return 0;
}

static int act(struct session *s, const struct psmsg *m, int *fds, struct err *e)
{
        switch (m->type) {
        case PSMSG_HELLO:
                return hello_begin(s, &m->hello, fds, e);
        case PSMSG_ATTACH:
                return attach(s, &m->attach, fds, e);
        default:
                return command(s, m, fds, e);
        }
}

static void close_fds(int *fds, size_t n)
{
        for (size_t i = 0; i < n; i++)
                fd_close(&fds[i]);
}

static int input_failed(struct err *e, int rc)
{
        if (rc == -EPROTONOSUPPORT)
                return err_msg(e, EPROTONOSUPPORT, "this page server speaks version %u of the "
                               "protocol, the client another: use matching versions",
                               PSMSG_VERSION);
        if (rc == -EBADMSG)
                return err_msg(e, EBADMSG, "not a message of this protocol");
        if (rc == -EMFILE)
                return err_msg(e, EMFILE, "the page server is out of descriptors: raise its "
                               "limit, or end a guest");
        return err_set(e, -rc, "cannot read from the client");
}

static enum peer input(struct session *s)
{
        int fds[FDPASS_FDS_MAX];
        struct psmsg m;
        struct err e;
        int rc = chan_recv(s->sock, &m, fds);

        if (rc == -EAGAIN)
                return PEER_OK;
        if (rc == -EPIPE) {
                log_note(&s->host->log, "client %u: hung up", s->id);
                session_hang_up(s);
                return PEER_CLOSED;
        }
        if (rc < 0) {
                input_failed(&e, rc);
                refuse(s, &e);
                return PEER_CLOSED;
        }
        rc = act(s, &m, fds, &e);
        close_fds(fds, psmsg_fds(&m));
        if (rc < 0) {
                refuse(s, &e);
                return PEER_CLOSED;
        }
        switch (m.type) {
        case PSMSG_HELLO:
                return PEER_WAITS;
        case PSMSG_ATTACH:
                return PEER_ATTACHED;
        default:
                return PEER_ORDERED;
        }
}

static enum peer go_on(struct session *s)
{
        struct err e;
        int rc = hello_go_on(s, &e);

        if (rc == -EAGAIN)
                return PEER_WAITS;
        if (rc < 0) {
                refuse(s, &e);
                return PEER_CLOSED;
        }
        return PEER_OK;
}

static void fill_stats(struct session *s, struct psmsg_stats *ret)
{
        const struct session_counters *c = &s->count;
        const struct bits *bad = &s->bad;
        struct histogram_view demand;

        histogram_read(&c->demand_ns, &demand);

        *ret = (struct psmsg_stats){
                .demand_faults = atomic_load(&c->demand_faults),
                .demand_bytes = atomic_load(&c->demand_bytes),
                .prefetch_bytes = atomic_load(&c->prefetch_bytes),
                .zero_bytes = atomic_load(&c->zero_bytes),
                .present_bytes = session_present_bytes(s),
                .total_bytes = s->total_bytes,
                .bad_clusters = bits_count_any(&bad, 1, 0, s->units),
                .attached_ns = atomic_load(&c->attached_ns),
                .resident_ns = atomic_load(&c->resident_ns),
                .removed_bytes = s->removed ? removed_bytes(s->removed) : 0,
                .prefetch_rate = prefetch_rate_now(&s->prefetch),
                .queued = atomic_load(&c->queued),
                .demand_p50_ns = histogram_quantile_ns(&demand, 500),
                .demand_p99_ns = histogram_quantile_ns(&demand, 990),
                .demand_max_ns = demand.max_ns,
        };
        for (size_t i = 0; i < ARRAY_SIZE(ret->fault_ns); i++)
                ret->fault_ns[i] = atomic_load(&c->fault_ns[i]);
}

/* Told before the work and not after it: we look again at whatever any worker reports. */
static bool would_block(const struct session *s)
{
        struct pollfd p = { .fd = s->sock, .events = POLLOUT };

        return poll(&p, 1, 0) == 0;
}

/* With what it carries as of now. */
static int send_news(struct session *s, struct psmsg *m)
{
        AUTO_FD fd = -1;

        if ((m->type == PSMSG_STATS || m->type == PSMSG_RECORD) && would_block(s))
                return -EAGAIN;
        if (m->type == PSMSG_STATS)
                fill_stats(s, &m->stats);
        if (m->type == PSMSG_RECORD) {
                int rc = record_export(&s->record, session_unit_bytes(s),
                                       source_info(s->source)->disk_bytes, &fd, NULL);

                if (rc < 0)
                        return rc;
        }
        if (m->type == PSMSG_LEASED) {
                if (!readers_leased(&s->readers))
                        return 0;               /* it has ended since */
                m->lease = s->readers.number;
        }
        return chan_send(s->sock, m, &fd);
}

/* PEER_OK, or ORDERED */
static enum peer look_at_readers(struct session *s)
{
        switch (readers_look(&s->readers)) {
        case READERS_TELL:
                outbox_put(&s->outbox, PSMSG_LEASED);
                break;
        case READERS_KICK:
                return PEER_ORDERED;
        case READERS_SAME:
                break;
        }
        return PEER_OK;
}

static enum peer output(struct session *s, bool *ret_full)
{
        enum peer what = s->hung_up ? PEER_OK : look_at_readers(s);
        struct psmsg m;

        *ret_full = false;
        while (!s->hung_up && outbox_peek(&s->outbox, &m)) {
                int rc = send_news(s, &m);

                if (rc == -EAGAIN) {
                        *ret_full = true;
                        return what;
                }
                if (rc < 0) {
                        session_hang_up(s);
                        return PEER_CLOSED;
                }
                outbox_sent(&s->outbox, &m);
        }

        int feed_error = atomic_load(&s->feed_error);

        if (!s->hung_up && feed_error < 0) {
                struct err e;

                err_set(&e, -feed_error, "the faults of client %u cannot be served", s->id);
                refuse(s, &e);
                return PEER_CLOSED;
        }
        return what;
}

static void turn_away(int sock, const void *offer, const struct err *e)
{
        struct psmsg m = { .type = PSMSG_ERROR, .error.code = e->code };
        char byte;

        snprintf(m.error.text, sizeof(m.error.text), "%s", e->text);
        (void)offer;
        (void)chan_send(sock, &m, NULL);        /* the client may have left */
        while (recv(sock, &byte, sizeof(byte), MSG_DONTWAIT | MSG_TRUNC) > 0)
                ;
}

const struct peer_ops peer_own = {
        .sock_type = SOCK_SEQPACKET,
        .end = hello_end,
        .input = input,
        .go_on = go_on,
        .output = output,
        .refuse = refuse,
        .turn_away = turn_away,
};
