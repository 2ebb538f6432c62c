/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/worker.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/io.h"
#include "pageserver/serve.h"

/* feeds looked at per round; epoll goes round robin over the rest */
#define EVENTS_MAX 32

struct worker {
        /* set before the thread starts, constant after */
        pthread_t thread;
        int epoll_fd;
        int kick_fd;

        /* worker thread only */
        struct serve_ctx ctx;
        struct session *session[SESSIONS_MAX];
        unsigned sessions;
        unsigned turn;                  /* whose background comes first */

        /* any thread */
        _Atomic bool stop;
        struct lock lock;               /* a leaf */
        struct session *inbox[SESSIONS_MAX] GUARDED_BY(lock);
        unsigned arrived GUARDED_BY(lock);
};

/* ---- sessions come and go, between two rounds ----------------------------- */

/* a feed may be polled by several workers: one message needs one of them */
static int poll_add(struct worker *w, int fd, struct feed *feed)
{
        struct epoll_event ev = { .events = EPOLLIN | EPOLLEXCLUSIVE, .data.ptr = feed };

        return epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
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
        for (unsigned i = 0; (f = session_feed(s, w->ctx.worker, i)); i++) {
                int rc = poll_add(w, f->fd, f);

                if (rc < 0)
                        session_feed_broken(s, rc);
        }
}

static void let_go(struct worker *w, unsigned at)
{
        struct session *s = w->session[at];
        struct feed *f;

        for (unsigned i = 0; (f = session_feed(s, w->ctx.worker, i)); i++)
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
        /* an error without input: reading could block */
        int n = events & EPOLLIN ? f->ops->read(f, w->ctx.worker, gpa) : -EIO;
        uint64_t now_ns = clock_now_ns();

        if (n < 0) {
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

/* Waits for faults until there is background work; true when some were served. */
static bool serve_faults(struct worker *w, uint64_t next_ns)
{
        struct epoll_event ev[EVENTS_MAX];
        bool served = false;
        int n = epoll_wait(w->epoll_fd, ev, EVENTS_MAX, timeout_ms(next_ns));

        ASSERT(n >= 0 || errno == EINTR);
        for (int i = 0; i < n; i++) {
                if (ev[i].data.ptr) {
                        serve_feed(w, ev[i].data.ptr, ev[i].events);
                        served = true;
                } else {
                        uint64_t kicks;

                        io_read_full(w->kick_fd, &kicks, sizeof(kicks));
                        come_and_go(w);
                        return true;            /* other events may be of those that went */
                }
        }
        return served;
}

/* The kick counts too: it comes rarely. */
static bool fault_waits(void *arg)
{
        const struct worker *w = arg;
        struct pollfd p = { .fd = w->epoll_fd, .events = POLLIN };

        return poll(&p, 1, 0) > 0;
}

static void *run(void *arg)
{
        struct worker *w = arg;
        uint64_t next_ns = SERVE_NEVER;

        while (!atomic_load(&w->stop))
                next_ns = serve_faults(w, next_ns) ? 0 : background(w);
        return NULL;
}

/* ---- start and stop -------------------------------------------------------- */

static void worker_free(struct worker *w)
{
        if (w->ctx.buf && w->ctx.buf != MAP_FAILED)
                munmap(w->ctx.buf, BRING_BUF_BYTES);
        fd_close(&w->epoll_fd);
        fd_close(&w->kick_fd);
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

int worker_start(unsigned index, struct worker **ret, struct err *e)
{
        struct worker *w = calloc(1, sizeof(*w));

        if (!w)
                return err_set(e, ENOMEM, "worker");
        lock_init(&w->lock);
        w->ctx.worker = index;
        w->ctx.fault_waits = fault_waits;
        w->ctx.arg = w;
        w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        w->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        w->ctx.buf = mmap(NULL, BRING_BUF_BYTES, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        int rc = w->epoll_fd < 0 || w->kick_fd < 0 || w->ctx.buf == MAP_FAILED ? -errno : 0;

        if (rc == 0)
                rc = poll_add(w, w->kick_fd, NULL);
        if (rc == 0)
                rc = start_thread(w);
        if (rc < 0) {
                worker_free(w);
                return err_set(e, -rc, "cannot start worker %u", index);
        }
        *ret = w;
        return 0;
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
