/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/peer.h"

#include <errno.h>
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

static void refuse(struct session *s, const struct err *e)
{
        struct psmsg m = { .type = PSMSG_ERROR, .error.code = e->code };

        snprintf(m.error.text, sizeof(m.error.text), "%s", e->text);
        log_line(&s->host->log, "client %u: %s", s->id, e->text);
        if (!s->hung_up)
                (void)chan_send(s->sock, &m, NULL);     /* it may be gone already */
        session_hang_up(s);
}

/* ---- HELLO --------------------------------------------------------------- */

static struct source_files files_of(const struct psmsg_hello *h, const int *fds)
{
        return (struct source_files){
                .fds = fds, .n = h->nimages, .path = h->path, .tag = h->tag,
        };
}

static int open_shared(struct session *s, const struct psmsg_hello *h, const int *fds,
                       struct err *e)
{
        struct cache_request q = {
                .files = files_of(h, fds), .uid = s->uid, .workers = s->host->workers,
        };
        int rc;

        if (h->has_cache)
                rc = cache_adopt(&s->host->caches, &q, fds[h->nimages], fds[h->nimages + 1],
                                 &s->cache, e);
        else
                rc = cache_get(&s->host->caches, &q, &s->cache, e);
        if (rc < 0)
                return rc;
        s->source = cache_source(s->cache);
        s->map = cache_map(s->cache);
        return 0;
}

static int open_copy(struct session *s, const struct psmsg_hello *h, const int *fds,
                     struct err *e)
{
        struct source_files files = files_of(h, fds);
        int rc = source_open(&files, s->host->workers, &s->source, e);

        if (rc < 0)
                return rc;

        struct fillmap_ident ident = source_ident(s->source);

        return fillmap_open(&ident, -1, &s->map, e);
}

static int open_lane(struct session *s, const struct psmsg_hello *h, const int *fds,
                     struct err *e)
{
        int rc = h->lane == PSMSG_LANE_COPY ? open_copy(s, h, fds, e) : open_shared(s, h, fds, e);

        if (rc != -ENOTSUP || h->lane != PSMSG_LANE_AUTO || h->has_cache)
                return rc;
        log_line(&s->host->log, "client %u: %s", s->id, e->text);
        return open_copy(s, h, fds, e);
}

static int send_welcome(struct session *s, struct err *e)
{
        struct psmsg m = {
                .type = PSMSG_WELCOME,
                .welcome = {
                        .lane = s->cache ? PSMSG_LANE_SHARED : PSMSG_LANE_COPY,
                        .has_map = s->cache,
                        .has_cache = s->cache && s->host->is_private,
                        .cluster_bytes = 1u << s->cluster_bits,
                        .disk_bytes = source_info(s->source)->disk_bytes,
                },
        };
        int fds[3] = { -1, -1, -1 };

        if (s->cache) {
                fds[0] = cache_map_fd(s->cache);
                fds[1] = cache_fd(s->cache);
                fds[2] = cache_filled_fd(s->cache);
        }

        int rc = chan_send(s->sock, &m, fds);

        return rc < 0 ? err_set(e, -rc, "cannot answer") : 0;
}

static int hello(struct session *s, const struct psmsg_hello *h, const int *fds, struct err *e)
{
        if (session_state(s) != SESSION_HELLO)
                return err_msg(e, EPROTO, "a second hello");
        if (h->has_cache && !s->host->is_private)
                return err_msg(e, EINVAL, "an image cache is taken over by a private server only: "
                               "ask for the copy lane");
        if (h->has_cache && h->lane == PSMSG_LANE_COPY)
                return err_msg(e, EINVAL, "the copy lane has no use for an image cache");

        int rc = open_lane(s, h, fds, e);

        if (rc < 0)
                return rc;
        s->cluster_bits = source_info(s->source)->cluster_bits;
        s->clusters = source_ident(s->source).clusters;
        s->asked_rate = h->prefetch_rate;
        s->hold_percent = h->hold_percent;
        rc = send_welcome(s, e);
        if (rc < 0)
                return rc;
        atomic_store(&s->state, SESSION_WELCOMED);
        log_note(&s->host->log, "client %u: image '%s', tag '%s', %s lane", s->id, h->path,
                 source_info(s->source)->tag, s->cache ? "shared" : "copy");
        return 0;
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

static int command(struct session *s, const struct psmsg *m, struct err *e)
{
        if (session_state(s) != SESSION_SERVING)
                return err_msg(e, EPROTO, "message %d before attach", (int)m->type);
        switch (m->type) {
        case PSMSG_ASK_STATS:
                outbox_put(&s->outbox, PSMSG_STATS);
                break;
        case PSMSG_PREFETCH:
                prefetch_rate(&s->prefetch, session_rate(s, m->rate));
                prefetch_restart(&s->prefetch);
                break;
        case PSMSG_RETRY:
                retry(s);
                break;
        default:
                return err_msg(e, EPROTO, "message %d is not a client's", (int)m->type);
        }
        return 0;
}

static int act(struct session *s, const struct psmsg *m, int *fds, struct err *e)
{
        switch (m->type) {
        case PSMSG_HELLO:
                return hello(s, &m->hello, fds, e);
        case PSMSG_ATTACH:
                return attach(s, &m->attach, fds, e);
        default:
                return command(s, m, e);
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
        return m.type == PSMSG_ATTACH ? PEER_ATTACHED : PEER_OK;
}

static void fill_stats(const struct session *s, struct psmsg_stats *ret)
{
        const struct session_counters *c = &s->count;
        const struct bits *bad = &s->bad;

        *ret = (struct psmsg_stats){
                .demand_faults = atomic_load(&c->demand_faults),
                .demand_bytes = atomic_load(&c->demand_bytes),
                .prefetch_bytes = atomic_load(&c->prefetch_bytes),
                .zero_bytes = atomic_load(&c->zero_bytes),
                .present_bytes = session_present_bytes(s),
                .total_bytes = s->total_bytes,
                .bad_clusters = bits_count_any(&bad, 1, 0, s->clusters),
                .attached_ns = atomic_load(&c->attached_ns),
                .resident_ns = atomic_load(&c->resident_ns),
        };
        for (size_t i = 0; i < ARRAY_SIZE(ret->fault_ns); i++)
                ret->fault_ns[i] = atomic_load(&c->fault_ns[i]);
}

static enum peer output(struct session *s, bool *ret_full)
{
        struct psmsg m;

        *ret_full = false;
        while (!s->hung_up && outbox_peek(&s->outbox, &m)) {
                if (m.type == PSMSG_STATS)
                        fill_stats(s, &m.stats);

                int rc = chan_send(s->sock, &m, NULL);

                if (rc == -EAGAIN) {
                        *ret_full = true;
                        return PEER_OK;
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

                err_set(&e, -feed_error, "a userfaultfd of client %u cannot be served", s->id);
                refuse(s, &e);
                return PEER_CLOSED;
        }
        return PEER_OK;
}

static void turn_away(int sock)
{
        struct psmsg m = { .type = PSMSG_ERROR, .error.code = -EBUSY,
                           .error.text = "it serves as many clients as it can" };

        (void)chan_send(sock, &m, NULL);        /* the client may have left */
}

const struct peer_ops peer_own = {
        .sock_type = SOCK_SEQPACKET,
        .input = input,
        .output = output,
        .refuse = refuse,
        .turn_away = turn_away,
};
