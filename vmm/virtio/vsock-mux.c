/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/vsock-mux.h"

#include <errno.h>
#include <stdlib.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "vmm/virtio/vsock-host.h"
#include "vmm/virtio/vsock-table.h"

/* as many as the guest can send before it takes the first */
#define REFUSALS_MAX 128
/* A client whose guest does not say yes or no, its driver being stuck, gets an end. */
#define ANSWER_NS (10 * NS_PER_SEC)

struct refusal {
        uint32_t guest_port, host_port;
        uint16_t type;
};

/* Written by the loop's thread alone. */
struct counts {
        _Atomic uint64_t opened, ended, refused, to_guest_bytes, to_host_bytes;
};

struct vsock_mux {
        /* constant */
        uint32_t cid;
        struct vsock_mux_ops ops;
        struct vsock_conn_ops conn_ops;
        struct vsock_host *host;

        /* the loop's thread */
        struct virtio_loop *loop;
        bool guest_runs;
        struct vsock_table table;
        struct refusal refusal[REFUSALS_MAX];
        unsigned first_refusal, nrefusals;
        struct virtio_watch *overdue;           /* answers of the guest */

        struct counts counts;
};

void vsock_mux_stats(const struct vsock_mux *m, struct vsock_mux_stats *ret)
{
        uint64_t ended = m->counts.ended;       /* first: never more than were opened */

        *ret = (struct vsock_mux_stats){
                .opened = m->counts.opened, .refused = m->counts.refused,
                .to_guest_bytes = m->counts.to_guest_bytes,
                .to_host_bytes = m->counts.to_host_bytes,
        };
        ret->connections = ret->opened - ended;
}

/* ---- streams ------------------------------------------------------------------ */

static void add(struct vsock_mux *m, struct vsock_conn *c)
{
        vsock_table_add(&m->table, c);
        vsock_table_queue(&m->table, c);
        m->counts.opened++;
}

static void end(struct vsock_mux *m, struct vsock_conn *c)
{
        m->counts.ended++;
        vsock_table_remove(&m->table, c);
        vsock_conn_free(c);
}

void vsock_mux_forget(struct vsock_mux *m)
{
        struct vsock_conn *c;

        while ((c = vsock_table_any(&m->table)))
                end(m, c);
        m->nrefusals = 0;
}

/* Room for one more; one that lingers may have to go for it. */
static bool make_room(struct vsock_mux *m)
{
        if (vsock_table_full(&m->table) && !TAILQ_EMPTY(&m->table.lingering))
                end(m, TAILQ_FIRST(&m->table.lingering));
        return !vsock_table_full(&m->table);
}

static void refuse(struct vsock_mux *m, uint32_t guest_port, uint32_t host_port, uint16_t type)
{
        if (m->nrefusals == REFUSALS_MAX)
                return;
        m->refusal[(m->first_refusal + m->nrefusals++) % REFUSALS_MAX] = (struct refusal){
                .guest_port = guest_port, .host_port = host_port, .type = type,
        };
}

static void refuse_packet(struct vsock_mux *m, const struct vsock_packet *p)
{
        refuse(m, p->src_port, p->dst_port, p->type);
}

static bool take_refusal(struct vsock_mux *m, struct vsock_packet *ret)
{
        const struct refusal *r = &m->refusal[m->first_refusal];

        if (m->nrefusals == 0)
                return false;
        m->first_refusal = (m->first_refusal + 1) % REFUSALS_MAX;
        m->nrefusals--;
        *ret = (struct vsock_packet){ .src_port = r->host_port, .dst_port = r->guest_port,
                                      .type = r->type, .op = VIRTIO_VSOCK_OP_RST };
        return true;
}

/* ---- from the guest ------------------------------------------------------------- */

/* A program of the guest's connects to the host. */
static void connect_host(struct vsock_mux *m, const struct vsock_packet *p)
{
        struct vsock_conn *c;
        AUTO_FD fd = -1;

        if (!make_room(m) || vsock_host_dial(m->host, p->dst_port, &fd) < 0 ||
            vsock_conn_accept(m->loop, &m->conn_ops, &fd, p, &c) < 0) {
                refuse_packet(m, p);
                m->counts.refused++;
                return;
        }
        add(m, c);
}

static void hear_stream(struct vsock_mux *m, struct vsock_conn *c, const struct vsock_packet *p,
                        const struct vq_chain *request)
{
        bool asked = c->state == VSOCK_ASKING;

        m->counts.to_host_bytes += p->len;

        enum vsock_outcome outcome = vsock_conn_hear(c, p, request);

        if (outcome == VSOCK_RESETS || outcome == VSOCK_LINGERS)
                refuse_packet(m, p);
        if (outcome == VSOCK_RESETS || outcome == VSOCK_ENDS) {
                end(m, c);
                return;
        }
        if (outcome == VSOCK_LINGERS) {
                vsock_conn_linger(c);
                vsock_table_linger(&m->table, c);
                return;
        }
        if (asked && c->state == VSOCK_OPEN)
                vsock_table_answered(&m->table, c);
        if (vsock_conn_has_news(c))
                vsock_table_queue(&m->table, c);
}

void vsock_mux_hear(struct vsock_mux *m, const struct vq_chain *request)
{
        uint8_t header[VSOCK_HEADER_BYTES];
        size_t bytes = vq_read(request, 0, header, sizeof(header));
        struct vsock_packet p;
        enum vsock_verdict verdict = vsock_packet_decode(header, bytes,
                                                         request->out_bytes - bytes, m->cid, &p);

        if (verdict == VSOCK_DROP)
                return;

        struct vsock_conn *c = vsock_table_find(&m->table, p.src_port, p.dst_port);

        if (verdict == VSOCK_REFUSE) {
                refuse_packet(m, &p);
                if (c && p.type == VIRTIO_VSOCK_TYPE_STREAM)
                        end(m, c);
        } else if (c) {
                hear_stream(m, c, &p, request);
        } else if (p.op == VIRTIO_VSOCK_OP_REQUEST) {
                connect_host(m, &p);
        } else if (p.op != VIRTIO_VSOCK_OP_RST) {
                refuse_packet(m, &p);
        }
}

/* ---- to the guest ----------------------------------------------------------------- */

bool vsock_mux_has_news(const struct vsock_mux *m)
{
        return m->nrefusals > 0 || !TAILQ_EMPTY(&m->table.turns);
}

bool vsock_mux_say(struct vsock_mux *m, const struct vq_chain *request,
                   struct vsock_packet *ret)
{
        bool said = take_refusal(m, ret);
        struct vsock_conn *c;

        while (!said && (c = TAILQ_FIRST(&m->table.turns))) {
                said = vsock_conn_say(c, request, ret);
                vsock_table_unqueue(&m->table, c);
                if (vsock_conn_has_news(c))
                        vsock_table_queue(&m->table, c);
        }
        if (!said)
                return false;
        m->counts.to_guest_bytes += ret->len;
        ret->src_cid = VSOCK_CID_HOST;
        ret->dst_cid = m->cid;
        return true;
}

/* ---- what happens on the host --------------------------------------------------------- */

static void on_ready(void *ctx, struct vsock_conn *c)
{
        struct vsock_mux *m = ctx;

        if (!vsock_conn_has_news(c))
                return;
        vsock_table_queue(&m->table, c);
        m->ops.news(m->ops.ctx);
}

static void on_finished(void *ctx, struct vsock_conn *c)
{
        end(ctx, c);
}

/* For the one that has waited longest. */
static void expect_answers(struct vsock_mux *m)
{
        const struct vsock_conn *c = TAILQ_FIRST(&m->table.asking);
        uint64_t now_ns = clock_now_ns();

        if (!c || !m->guest_runs)
                virtio_watch_off(m->overdue);
        else
                virtio_watch_after(m->overdue, c->deadline_ns > now_ns ?
                                               c->deadline_ns - now_ns : 0);
}

static void on_overdue(void *ctx)
{
        struct vsock_mux *m = ctx;
        uint64_t now_ns = clock_now_ns();
        struct vsock_conn *c;

        while ((c = TAILQ_FIRST(&m->table.asking)) && c->deadline_ns <= now_ns) {
                refuse(m, c->guest_port, c->host_port, VIRTIO_VSOCK_TYPE_STREAM);
                end(m, c);
        }
        expect_answers(m);
        m->ops.news(m->ops.ctx);
}

static void on_client(void *ctx, int client_fd, uint32_t guest_port)
{
        struct vsock_mux *m = ctx;
        AUTO_FD fd = client_fd;
        struct vsock_conn *c;

        if (!make_room(m) ||
            vsock_conn_new(m->loop, &m->conn_ops, &fd, guest_port,
                           vsock_table_new_port(&m->table, guest_port), &c) < 0)
                return;
        c->deadline_ns = clock_now_ns() + ANSWER_NS;
        add(m, c);
        expect_answers(m);
        m->ops.news(m->ops.ctx);
}

/* ---- life ------------------------------------------------------------------------------- */

int vsock_mux_new(uint32_t cid, const char *path, const struct vsock_mux_ops *ops,
                  struct vsock_mux **ret, struct err *e)
{
        struct vsock_mux *m = calloc(1, sizeof(*m));

        if (!m)
                return err_msg(e, ENOMEM, "no memory for vsock '%s'", path);

        int rc = vsock_host_open(path, &m->host, e);

        if (rc < 0) {
                free(m);
                return rc;
        }
        m->cid = cid;
        m->ops = *ops;
        m->conn_ops = (struct vsock_conn_ops){ .ready = on_ready, .finished = on_finished,
                                               .ctx = m };
        vsock_table_init(&m->table);
        *ret = m;
        return 0;
}

void vsock_mux_free(struct vsock_mux *m)
{
        if (!m)
                return;
        ASSERT(m->loop == NULL && m->table.count == 0);
        vsock_host_close(m->host);
        free(m);
}

int vsock_mux_start(struct vsock_mux *m, struct virtio_loop *loop, struct err *e)
{
        const struct vsock_host_ops ops = { .client = on_client, .ctx = m };

        ASSERT(m->loop == NULL && !m->guest_runs);
        m->loop = loop;

        int rc = virtio_watch_timer(loop, on_overdue, m, &m->overdue, e);

        if (rc == 0)
                rc = vsock_host_watch(m->host, loop, &ops, e);
        if (rc < 0)
                vsock_mux_stop(m);
        return rc;
}

void vsock_mux_stop(struct vsock_mux *m)
{
        vsock_host_unwatch(m->host);
        vsock_mux_forget(m);
        virtio_watch_free(m->overdue);
        m->overdue = NULL;
        m->loop = NULL;
        m->guest_runs = false;
}

void vsock_mux_guest_runs(struct vsock_mux *m, bool runs)
{
        uint64_t deadline_ns = clock_now_ns() + ANSWER_NS;
        struct vsock_conn *c;

        TAILQ_FOREACH(c, &m->table.asking, waiting)
                c->deadline_ns = deadline_ns;
        m->guest_runs = runs;
        expect_answers(m);
}
