/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/worker.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/io.h"

/* feeds looked at per round; epoll goes round robin over the rest */
#define EVENTS_MAX 32
/* A thread that works ahead looks again this often, this many times, before it rests. */
#define NAP_NS 100000
#define NAPS 20

/* a session, and which of its feeds are in the epoll set */
struct known {
        struct session *session;
        enum readers_poll polled;
};

struct worker {
        /* constant */
        struct session_host *host;
        unsigned index;
        bool ahead;                     /* serves no faults */
        int epoll_fd;
        int kick_fd;

        /* of the thread that serves */
        struct known known[SESSIONS_MAX];
        unsigned sessions;
        unsigned turn;                  /* whose background comes first */
        unsigned naps;                  /* before a rest */

        /* any thread */
        _Atomic bool stop;
        struct lock lock;               /* a leaf */
        struct session *inbox[SESSIONS_MAX] GUARDED_BY(lock);
        unsigned arrived GUARDED_BY(lock);
};

/* ---- sessions come and go, between two rounds ----------------------------- */

/* A message needs one worker. Where they are pinned all are woken nevertheless: the
 * one on the faulting thread's CPU is there first, whichever the kernel would choose. */
static int poll_feed(struct worker *w, struct feed *feed)
{
        struct epoll_event ev = {
                .events = EPOLLIN | (w->host->pinned ? 0 : EPOLLEXCLUSIVE), .data.ptr = feed,
        };

        return epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, feed->fd, &ev) < 0 ? -errno : 0;
}

/* data.ptr NULL: no feed */
static int poll_own(struct worker *w, int fd, uint32_t how)
{
        struct epoll_event ev = { .events = EPOLLIN | how };

        return epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

static void poll_drop(struct worker *w, int fd)
{
        epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

static void drop_session(struct worker *w, struct known *k)
{
        struct feed *f;

        if (k->polled == POLL_NOTHING)
                return;
        for (unsigned i = 0; (f = session_feed(k->session, w->index, k->polled, i)); i++)
                poll_drop(w, f->fd);
        if (readers_leave(session_readers(k->session), k->polled))
                w->host->poke(w->host);
        k->polled = POLL_NOTHING;
}

static void poll_session(struct worker *w, struct known *k, enum readers_poll what)
{
        struct feed *f;

        drop_session(w, k);
        if (what == POLL_NOTHING)
                return;
        if (!readers_come(session_readers(k->session), what)) {
                w->host->poke(w->host);
                return;
        }
        k->polled = what;
        for (unsigned i = 0; (f = session_feed(k->session, w->index, what, i)); i++) {
                int rc = poll_feed(w, f);

                if (rc < 0)
                        session_feed_broken(k->session, rc);
        }
}

/* Who works ahead serves no faults. */
static enum readers_poll to_be_polled(const struct worker *w, const struct known *k)
{
        if (w->ahead || session_withheld(k->session))
                return POLL_NOTHING;
        return readers_poll(session_readers(k->session));
}

static void take_in(struct worker *w, struct serve_ctx *ctx, struct session *s)
{
        ASSERT(w->sessions < SESSIONS_MAX);
        w->known[w->sessions++] = (struct known){ .session = s };
        serve_prepare(s, ctx);
}

static void let_go(struct worker *w, unsigned at)
{
        struct session *s = w->known[at].session;

        drop_session(w, &w->known[at]);
        w->known[at] = w->known[--w->sessions];
        session_release(s);
}

static unsigned empty_inbox(struct worker *w, struct session **ret)
{
        lock_acquire(&w->lock);
        unsigned n = w->arrived;

        for (unsigned i = 0; i < n; i++)
                ret[i] = w->inbox[i];
        w->arrived = 0;
        lock_release(&w->lock);
        return n;
}

static void come_and_go(struct worker *w, struct serve_ctx *ctx)
{
        struct session *arrived[SESSIONS_MAX];
        unsigned n = empty_inbox(w, arrived);

        for (unsigned i = 0; i < n; i++)
                take_in(w, ctx, arrived[i]);
        for (unsigned i = w->sessions; i-- > 0;) {
                struct known *k = &w->known[i];
                enum readers_poll what = to_be_polled(w, k);

                if (session_state(k->session) == SESSION_GONE)
                        let_go(w, i);
                else if (k->polled != what)
                        poll_session(w, k, what);
        }
}

/* ---- work ----------------------------------------------------------------- */

/* What a batch of messages asks for. Negative errno: the feed is broken. */
static int serve_batch(struct feed *f, struct serve_ctx *ctx, uint32_t events)
{
        uint64_t gpa[FEED_BATCH_MAX];
        /* an error without input: reading could block */
        int n = events & EPOLLIN ? f->ops->read(f, ctx->worker, gpa) : -EIO;
        uint64_t now_ns = clock_now_ns();

        for (int i = 0; i < n; i++) {
                busy_next(&ctx->busy);
                serve_fault(f->session, ctx, gpa[i], now_ns);
        }
        if (n < 0) {
                atomic_store(&f->broken, true);
                session_feed_broken(f->session, n);
        }
        return n;
}

/* Whose thread comes out of what it hung in says so: others wait for that. */
static bool end_work(struct worker *w, struct serve_ctx *ctx, const struct session *s)
{
        bool withheld = session_withheld(s) != WITHHELD_NO;
        struct session_host *host = w->host;
        bool mine = busy_end(&ctx->busy);

        if (mine && withheld)
                host->poke(host);
        return mine;
}

/* Nothing is done for a client that is withheld, but look whether one that has ended is
 * gone: that asks its memory, not its image. */
static bool passed_over(const struct session *s)
{
        enum withheld why = session_withheld(s);

        return why == WITHHELD_BY_CLIENT ||
               (why == WITHHELD_BY_IMAGE && session_state(s) != SESSION_DRAINING);
}

/* false: relieved. Whoever is not finds the broken feed at his next look. */
static bool serve_feed(struct worker *w, struct serve_ctx *ctx, struct feed *f, uint32_t events)
{
        if (atomic_load(&f->broken)) {
                poll_drop(w, f->fd);
                return true;
        }
        if (session_withheld(f->session))       /* the kick that says so is on its way */
                return true;
        busy_begin(&ctx->busy, f->session);
        serve_batch(f, ctx, events);
        return end_work(w, ctx, f->session);
}

/* One step for the next session that has something to do. *ret_next: when there will be
 * more: 0, SERVE_NEVER or a time. False: relieved. */
static bool background(struct worker *w, struct serve_ctx *ctx, uint64_t *ret_next)
{
        uint64_t now = clock_now_ns();

        *ret_next = SERVE_NEVER;
        for (unsigned i = 0; i < w->sessions && *ret_next > 0; i++) {
                struct session *s = w->known[w->turn++ % w->sessions].session;

                if (passed_over(s))
                        continue;
                busy_begin(&ctx->busy, s);

                uint64_t t = serve_background(s, ctx, now);

                if (!end_work(w, ctx, s))
                        return false;
                *ret_next = MIN(*ret_next, t);
        }
        return true;
}

static int timeout_ms(uint64_t next_ns)
{
        if (next_ns == SERVE_NEVER)
                return -1;

        uint64_t now = clock_now_ns();

        return next_ns <= now ? 0 : (int)MIN(DIV_ROUND_UP(next_ns - now, NS_PER_MS), 1000u);
}

static void take_kick(struct worker *w, struct serve_ctx *ctx)
{
        uint64_t kicks;

        io_read_full(w->kick_fd, &kicks, sizeof(kicks));
        come_and_go(w, ctx);
}

static bool serve_faults(struct worker *w, struct serve_ctx *ctx)
{
        struct epoll_event ev[EVENTS_MAX];
        int n = epoll_wait(w->epoll_fd, ev, EVENTS_MAX, -1);

        ASSERT(n >= 0 || errno == EINTR);
        for (int i = 0; i < n; i++) {
                if (!ev[i].data.ptr) {
                        take_kick(w, ctx);
                        return true;            /* other events may be of those that went */
                }
                if (!serve_feed(w, ctx, ev[i].data.ptr, ev[i].events))
                        return false;
        }
        return true;
}

/* ---- ahead of faults --------------------------------------------------------- */

/* INV-RING: who has pushed work looks afterwards whether all are resting; who rests says
 * so before his last look for work. So one of them sees the other. One that hangs in that
 * look does not rest: whoever relieves him looks anew. */
static bool last_look(struct worker *w, struct serve_ctx *ctx, uint64_t *ret_next)
{
        struct session_host *host = w->host;

        atomic_fetch_add(&host->resting, 1);

        bool mine = background(w, ctx, ret_next);

        if (!mine || *ret_next == 0)
                atomic_fetch_sub(&host->resting, 1);
        return mine;
}

static void rest(struct worker *w, struct serve_ctx *ctx, uint64_t next_ns)
{
        struct epoll_event ev[2];
        uint64_t rings;
        int n = epoll_wait(w->epoll_fd, ev, 2, timeout_ms(next_ns));

        ASSERT(n >= 0 || errno == EINTR);
        atomic_fetch_sub(&w->host->resting, 1);
        (void)!read(w->host->bell_fd, &rings, sizeof(rings));
        take_kick(w, ctx);
}

/* While faults come there is always more in a moment, and being woken for each would cost
 * the demand worker, and the guest behind it, more than what comes is worth. */
static void nap(struct worker *w, struct serve_ctx *ctx)
{
        const struct timespec t = { .tv_nsec = NAP_NS };
        struct pollfd p = { .fd = w->epoll_fd, .events = POLLIN };

        w->naps--;
        if (ppoll(&p, 1, &t, NULL) > 0)
                take_kick(w, ctx);
}

static bool work_ahead(struct worker *w, struct serve_ctx *ctx)
{
        uint64_t next_ns;

        if (!background(w, ctx, &next_ns))
                return false;
        if (next_ns == 0) {
                w->naps = NAPS;
                return true;
        }
        if (w->naps > 0) {
                nap(w, ctx);
                return true;
        }
        if (!last_look(w, ctx, &next_ns))
                return false;
        if (next_ns > 0)
                rest(w, ctx, next_ns);
        return true;
}

/* Also after another that was relieved, before he had done all that a kick had told him. */
bool worker_serve(struct worker *w, struct serve_ctx *ctx)
{
        bool mine = true;

        come_and_go(w, ctx);
        while (mine && !atomic_load(&w->stop))
                mine = w->ahead ? work_ahead(w, ctx) : serve_faults(w, ctx);
        return mine;
}

/* ---- start and stop -------------------------------------------------------- */

int worker_new(struct session_host *host, unsigned index, struct worker **ret, struct err *e)
{
        struct worker *w = calloc(1, sizeof(*w));

        if (!w)
                return err_set(e, ENOMEM, "worker");
        lock_init(&w->lock);
        w->host = host;
        w->index = index;
        w->ahead = index >= host->workers;
        w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        w->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

        int rc = w->epoll_fd < 0 || w->kick_fd < 0 ? -errno : 0;

        if (rc == 0)
                rc = poll_own(w, w->kick_fd, 0);
        if (rc == 0 && w->ahead)
                rc = poll_own(w, host->bell_fd, EPOLLEXCLUSIVE);
        if (rc < 0) {
                worker_free(w);
                return err_set(e, -rc, "cannot make worker %u", index);
        }
        *ret = w;
        return 0;
}

void worker_free(struct worker *w)
{
        struct session *arrived[SESSIONS_MAX];

        if (!w)
                return;
        for (unsigned n = empty_inbox(w, arrived); n > 0; n--)
                session_release(arrived[n - 1]);
        while (w->sessions > 0)
                let_go(w, w->sessions - 1);
        fd_close(&w->epoll_fd);
        fd_close(&w->kick_fd);
        lock_fini(&w->lock);
        free(w);
}

bool worker_is_ahead(const struct worker *w)
{
        return w->ahead;
}

unsigned worker_index(const struct worker *w)
{
        return w->index;
}

void worker_kick(struct worker *w)
{
        uint64_t one = 1;

        /* it can only fail when 2^64 kicks wait already */
        io_write_full(w->kick_fd, &one, sizeof(one));
}

void worker_stop(struct worker *w)
{
        atomic_store(&w->stop, true);
        worker_kick(w);
}

void worker_give(struct worker *w, struct session *s)
{
        session_hold(s);
        lock_acquire(&w->lock);
        ASSERT(w->arrived < SESSIONS_MAX);
        w->inbox[w->arrived++] = s;
        lock_release(&w->lock);
        worker_kick(w);
}
