/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/worker.h"

#include <errno.h>
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/io.h"
#include "pageserver/placement.h"
#include "pageserver/serve.h"

/* feeds looked at per round; epoll goes round robin over the rest */
#define EVENTS_MAX 32
/* A thread that works ahead looks again this often, this many times, before it rests. */
#define NAP_NS 100000
#define NAPS 20

struct worker {
        /* set before the thread starts, constant after */
        struct session_host *host;
        bool ahead;                     /* serves no faults */
        bool inherits;                  /* the main thread has entered its sandbox */
        pthread_t thread;
        int epoll_fd;
        int kick_fd;

        /* worker thread only */
        struct serve_ctx ctx;
        struct session *session[SESSIONS_MAX];
        unsigned sessions;
        unsigned turn;                  /* whose background comes first */
        unsigned naps;                  /* before a rest */

        /* worker thread until it has posted, then the main thread */
        sem_t entered;
        struct err enter_err;           /* code 0: it has entered its sandbox */

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

static struct feed *feed_of(const struct worker *w, struct session *s, unsigned i)
{
        return w->ahead ? NULL : session_feed(s, w->ctx.worker, i);
}

static void poll_drop(struct worker *w, int fd)
{
        epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

static void take_in(struct worker *w, struct session *s)
{
        struct feed *f;

        ASSERT(w->sessions < SESSIONS_MAX);
        w->session[w->sessions++] = s;
        serve_prepare(s, &w->ctx);
        for (unsigned i = 0; (f = feed_of(w, s, i)); i++) {
                int rc = poll_feed(w, f);

                if (rc < 0)
                        session_feed_broken(s, rc);
        }
}

static void let_go(struct worker *w, unsigned at)
{
        struct session *s = w->session[at];
        struct feed *f;

        for (unsigned i = 0; (f = feed_of(w, s, i)); i++)
                poll_drop(w, f->fd);
        w->session[at] = w->session[--w->sessions];
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

static void come_and_go(struct worker *w)
{
        struct session *arrived[SESSIONS_MAX];
        unsigned n = empty_inbox(w, arrived);

        for (unsigned i = 0; i < n; i++)
                take_in(w, arrived[i]);
        for (unsigned i = w->sessions; i-- > 0;) {
                if (session_state(w->session[i]) == SESSION_GONE)
                        let_go(w, i);
        }
}

/* ---- work ----------------------------------------------------------------- */

static void serve_feed(struct worker *w, struct feed *f, uint32_t events)
{
        uint64_t gpa[FEED_BATCH_MAX];

        if (atomic_load(&f->broken)) {
                poll_drop(w, f->fd);
                return;
        }

        /* an error without input: reading could block */
        int n = events & EPOLLIN ? f->ops->read(f, w->ctx.worker, gpa) : -EIO;
        uint64_t now_ns = clock_now_ns();

        if (n < 0) {
                atomic_store(&f->broken, true);
                poll_drop(w, f->fd);
                session_feed_broken(f->session, n);
                return;
        }
        for (int i = 0; i < n; i++)
                serve_fault(f->session, &w->ctx, gpa[i], now_ns);
}

/* One step for the next session that has something to do. Returns when there
 * will be more: 0, SERVE_NEVER or a time. */
static uint64_t background(struct worker *w)
{
        uint64_t now = clock_now_ns();
        uint64_t next = SERVE_NEVER;

        for (unsigned i = 0; i < w->sessions; i++) {
                struct session *s = w->session[w->turn++ % w->sessions];
                uint64_t t = serve_background(s, &w->ctx, now);

                if (t == 0)
                        return 0;
                next = MIN(next, t);
        }
        return next;
}

static int timeout_ms(uint64_t next_ns)
{
        if (next_ns == SERVE_NEVER)
                return -1;

        uint64_t now = clock_now_ns();

        return next_ns <= now ? 0 : (int)MIN(DIV_ROUND_UP(next_ns - now, NS_PER_MS), 1000u);
}

static void take_kick(struct worker *w)
{
        uint64_t kicks;

        io_read_full(w->kick_fd, &kicks, sizeof(kicks));
        come_and_go(w);
}

static void serve_faults(struct worker *w)
{
        struct epoll_event ev[EVENTS_MAX];
        int n = epoll_wait(w->epoll_fd, ev, EVENTS_MAX, -1);

        ASSERT(n >= 0 || errno == EINTR);
        for (int i = 0; i < n; i++) {
                if (!ev[i].data.ptr) {
                        take_kick(w);
                        return;                 /* other events may be of those that went */
                }
                serve_feed(w, ev[i].data.ptr, ev[i].events);
        }
}

/* ---- ahead of faults --------------------------------------------------------- */

/* INV-RING: who has pushed work looks afterwards whether all are resting; who rests says
 * so before his last look for work. So one of them sees the other. */
static uint64_t last_look(struct worker *w)
{
        atomic_fetch_add(&w->host->resting, 1);
        return background(w);
}

static void rest(struct worker *w, uint64_t next_ns)
{
        struct epoll_event ev[2];
        uint64_t rings;
        int n = epoll_wait(w->epoll_fd, ev, 2, timeout_ms(next_ns));

        ASSERT(n >= 0 || errno == EINTR);
        atomic_fetch_sub(&w->host->resting, 1);
        (void)!read(w->host->bell_fd, &rings, sizeof(rings));
        take_kick(w);
}

/* While faults come there is always more in a moment, and being woken for each would cost
 * the demand worker, and the guest behind it, more than what comes is worth. */
static void nap(struct worker *w)
{
        const struct timespec t = { .tv_nsec = NAP_NS };
        struct pollfd p = { .fd = w->epoll_fd, .events = POLLIN };

        w->naps--;
        if (ppoll(&p, 1, &t, NULL) > 0)
                take_kick(w);
}

static void work_ahead(struct worker *w)
{
        if (background(w) == 0) {
                w->naps = NAPS;
                return;
        }
        if (w->naps > 0) {
                nap(w);
                return;
        }

        uint64_t next_ns = last_look(w);

        if (next_ns == 0)
                atomic_fetch_sub(&w->host->resting, 1);
        else
                rest(w, next_ns);
}

/* INV-CONFINED */
static bool enter(struct worker *w)
{
        const struct sandbox *sandbox = w->host->sandbox;
        int rc = w->inherits ? sandbox_narrow(sandbox, &w->enter_err)
                             : sandbox_enter(sandbox, SANDBOX_WORKER, &w->enter_err);

        sem_post(&w->entered);
        return rc == 0;
}

static void *run(void *arg)
{
        struct worker *w = arg;

        if (w->ahead)
                place_ahead();
        else
                place_demand(w->ctx.worker, w->host->pinned);
        if (!enter(w))
                return NULL;
        while (!atomic_load(&w->stop)) {
                if (w->ahead)
                        work_ahead(w);
                else
                        serve_faults(w);
        }
        return NULL;
}

/* ---- start and stop -------------------------------------------------------- */

static void worker_free(struct worker *w)
{
        if (w->ctx.buf && w->ctx.buf != MAP_FAILED)
                munmap(w->ctx.buf, BRING_BUF_BYTES);
        fd_close(&w->epoll_fd);
        fd_close(&w->kick_fd);
        sem_destroy(&w->entered);
        lock_fini(&w->lock);
        free(w);
}

/* signals are the main thread's */
static int start_thread(struct worker *w)
{
        sigset_t all, before;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);

        int rc = pthread_create(&w->thread, NULL, run, w);

        pthread_sigmask(SIG_SETMASK, &before, NULL);
        return -rc;
}

int worker_start(struct session_host *host, unsigned index, struct worker **ret,
                 struct err *e)
{
        struct worker *w = calloc(1, sizeof(*w));

        if (!w)
                return err_set(e, ENOMEM, "worker");
        lock_init(&w->lock);
        sem_init(&w->entered, 0, 0);
        w->host = host;
        w->ahead = index >= host->workers;
        w->inherits = host->confined;
        w->ctx.worker = index;
        w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        w->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        w->ctx.buf = mmap(NULL, BRING_BUF_BYTES, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        int rc = w->epoll_fd < 0 || w->kick_fd < 0 || w->ctx.buf == MAP_FAILED ? -errno : 0;

        if (rc == 0)
                rc = poll_own(w, w->kick_fd, 0);
        if (rc == 0 && w->ahead)
                rc = poll_own(w, host->bell_fd, EPOLLEXCLUSIVE);
        if (rc == 0)
                rc = start_thread(w);
        if (rc < 0) {
                worker_free(w);
                return err_set(e, -rc, "cannot start worker %u", index);
        }
        *ret = w;
        return 0;
}

int worker_ready(struct worker *w, struct err *e)
{
        while (sem_wait(&w->entered) < 0)
                ASSERT(errno == EINTR);
        if (w->enter_err.code < 0 && e)
                *e = w->enter_err;
        return w->enter_err.code;
}

void worker_kick(struct worker *w)
{
        uint64_t one = 1;

        /* it can only fail when 2^64 kicks wait already */
        io_write_full(w->kick_fd, &one, sizeof(one));
}

void worker_stop(struct worker *w)
{
        if (!w)
                return;
        atomic_store(&w->stop, true);
        worker_kick(w);
        pthread_join(w->thread, NULL);
        come_and_go(w);
        while (w->sessions > 0)
                let_go(w, w->sessions - 1);
        worker_free(w);
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
