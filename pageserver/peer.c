/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "pageserver/chan.h"
#include "pageserver/session-priv.h"

int peer_sock(const struct session *s)
{
        return s->sock;
}

void peer_refuse(struct session *s, const struct err *e)
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

/* Someone else's descriptors: each must be a userfaultfd that works, and reading
 * it must not block a worker. */
static int check_uffd(int fd, unsigned i, struct err *e)
{
        if (!uffd_is(fd))
                return err_msg(e, EINVAL, "descriptor %u is no userfaultfd", i);

        int flags = fcntl(fd, F_GETFL);

        if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
                return err_set(e, errno, "cannot make userfaultfd %u non-blocking", i);
        return 0;
}

static int take_uffds(struct session *s, unsigned n, int *fds, struct err *e)
{
        for (unsigned i = 0; i < n; i++) {
                int rc = check_uffd(fds[i], i, e);

                if (rc < 0)
                        return rc;
        }
        for (unsigned i = 0; i < n; i++) {
                s->uffd[i] = fd_take(&fds[i]);
                s->feed[i] = (struct feed){
                        .ops = &feed_uffd, .fd = s->uffd[i], .regions = s->regions, .session = s,
                };
        }
        s->nuffds = n;
        return 0;
}

/* one span of clusters per region; a cluster on a border belongs to two */
static int start_prefetch(struct session *s, uint64_t rate)
{
        struct prefetch_span span[PSMSG_REGIONS_MAX];
        size_t n = regions_count(s->regions);

        for (size_t i = 0; i < n; i++) {
                const struct psmsg_region *g = regions_at(s->regions, i);

                span[i].first = g->gpa >> s->cluster_bits;
                span[i].end = ((g->gpa + g->bytes - 1) >> s->cluster_bits) + 1;
        }
        return prefetch_init(&s->prefetch, span, n, session_cluster_bytes(s), rate);
}

static int make_tables(struct session *s, const struct psmsg_attach *a, struct err *e)
{
        int rc = regions_new(a, source_info(s->source)->disk_bytes, &s->regions, e);

        if (rc < 0)
                return rc;
        s->total_bytes = regions_bytes(s->regions);

        /* while attaching is held back, loading is what the client waits for */
        uint64_t rate = session_rate(s, s->hold_percent ? UINT64_MAX : s->asked_rate);

        if (bits_init(&s->zeroed, s->clusters) < 0 || bits_init(&s->bad, s->clusters) < 0 ||
            start_prefetch(s, rate) < 0)
                return err_set(e, ENOMEM, "session tables");
        return 0;
}

static void wake_all(struct session *s)
{
        sink_wake(&s->sink, 0, UINT64_MAX);
}

static int attach(struct session *s, const struct psmsg_attach *a, int *fds, struct err *e)
{
        if (session_state(s) != SESSION_WELCOMED)
                return err_msg(e, EPROTO, "attach without a hello, or twice");

        int rc = make_tables(s, a, e);

        if (rc == 0)
                rc = take_uffds(s, a->nuffds, fds, e);
        if (rc < 0)
                return rc;
        s->sink = (struct sink){
                .ops = s->cache ? &sink_memfd : &sink_uffd,
                .regions = s->regions,
                .uffds = s->uffd,
                .cache_fd = s->cache ? cache_fd(s->cache) : -1,
        };
        atomic_store(&s->count.attached_ns, clock_now_ns());
        atomic_store(&s->holding, true);
        atomic_store(&s->state, SESSION_SERVING);
        if (s->hold_percent == 0 || s->host->prefetch_limit == 0)
                session_hold_done(s);
        if (a->reattach)
                wake_all(s);                    /* INV-REATTACH */
        log_note(&s->host->log, "client %u: %llu MiB in %u regions on %u userfaultfds%s", s->id,
                 (unsigned long long)s->total_bytes >> 20, a->nregions, a->nuffds,
                 a->reattach ? ", again" : "");
        return 0;
}

/* ---- commands ------------------------------------------------------------- */

static void retry(struct session *s)
{
        bits_clear_all(&s->bad);
        prefetch_restart(&s->prefetch);
        wake_all(s);
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

enum peer peer_input(struct session *s)
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
                peer_refuse(s, &e);
                return PEER_CLOSED;
        }
        rc = act(s, &m, fds, &e);
        close_fds(fds, psmsg_fds(&m));
        if (rc < 0) {
                peer_refuse(s, &e);
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

enum peer peer_output(struct session *s, bool *ret_full)
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
                peer_refuse(s, &e);
                return PEER_CLOSED;
        }
        return PEER_OK;
}
